"""A relay that counts what goes over one TCP connection as a metered link would bill it.

Bytes are handed on as they come. Segments are no longer than a mobile link's, and
the kernel counts them, acknowledgements and retransmissions included (tcp(7),
TCP_INFO of linux/tcp.h); each is billed with the headers that it would have.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Final

MSS: Final = 1360
"""Of a link with an MTU of 1400, as mobile operators' tunnels leave."""
HEADER_BYTES: Final = 14 + 20 + 32
"""Of each segment: Ethernet, IPv4, TCP with timestamps (RFC 7323)."""
_QUIET_S: Final = 0.3
_INFO: Final = struct.Struct("=120xQQII")
"""tcp_info: tcpi_bytes_acked, tcpi_bytes_received, tcpi_segs_out, tcpi_segs_in."""


class MeteredLink:
    """Listens on `port` of 127.0.0.1 and hands on to another; one connection at a time."""

    def __init__(self, port: int, to_port: int) -> None:
        self._to_port = to_port
        self._ended_bytes = 0
        self._client: socket.socket | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port))
        # What a listener announces both ends keep to.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def billed_bytes(self) -> int:
        """All connections so far, both ways, headers included."""
        with self._lock:
            live = 0 if self._client is None else _billed(self._client)
            return self._ended_bytes + live

    def billed_when_quiet(self) -> int:
        """`billed_bytes` once nothing has moved for a moment."""
        billed, moved_s = self.billed_bytes, time.monotonic()
        while time.monotonic() < moved_s + _QUIET_S:
            time.sleep(0.02)  # the kernel announces no acknowledgement
            if self.billed_bytes != billed:
                billed, moved_s = self.billed_bytes, time.monotonic()
        return billed

    def close(self) -> None:
        """End the connection, if there is one, and listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            if self._client is not None:
                with contextlib.suppress(OSError):
                    self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Where nobody listens the client is let go, as a broker that is away does.
            with (
                client,
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", self._to_port)) as broker,
            ):
                broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._client = client
                back = threading.Thread(target=_hand_on, args=(broker, client))
                back.start()
                _hand_on(client, broker)
                back.join()
                with self._lock:
                    self._ended_bytes += _billed(client)
                    self._client = None


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _billed(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    out_bytes, in_bytes, out_segments, in_segments = _INFO.unpack(info)
    return int(out_bytes + in_bytes + (out_segments + in_segments) * HEADER_BYTES)
