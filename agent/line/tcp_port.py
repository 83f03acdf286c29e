"""A TCP connection behind `Port`: to a gateway with a serial line, or to a meter's network port.

The connection opens at its first use, and is one protocol's alone: nobody
else's bytes come over it. When it is lost it closes, and the next use opens
it anew; when to try again is the line's decision. Deadlines are monotonic.
"""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Final

from agent.line.port import PortLost

CONNECT_S: Final = 3.0
"""How long a gateway may take to accept."""
_UNHEARD_S: Final = 5.0
"""A far end that does not even acknowledge bytes for so long is gone."""
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A connection that is silent is probed after 30 s, and lost a minute after the far end died."""
_AT_ONCE: Final = 4096
_MARGIN_S: Final = 0.001


class TcpPort:
    """Implements `agent.line.port.Port`. Used by one thread.

    `char_s` is the time of one character on the serial line behind the far
    end, 0 where there is none.
    """

    def __init__(self, host: str, port: int, *, char_s: float = 0.0) -> None:
        self._host = host
        self._port = port
        self._char_s = char_s
        self._socket: socket.socket | None = None
        self._opened_at_s = -math.inf
        self._poll = select.poll()

    @property
    def path(self) -> str:
        """Where it leads, as configured."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    @property
    def char_s(self) -> float:
        return self._char_s

    @property
    def opened_at_s(self) -> float:
        return self._opened_at_s

    def open(self) -> None:
        """Connect; what an older connection was owed can no longer come. Raises PortLost."""
        self.close()
        try:
            connection = socket.create_connection((self._host, self._port), CONNECT_S)
        except OSError as error:
            raise PortLost(
                f"{self.path}: expected a far end that takes a connection within {CONNECT_S:.0f} "
                f"s, got: {error}; check address, cable and firewall, and whether the far end "
                "allows one more client"
            ) from error
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        # Without it a gateway that lost its power would look like meters that are silent.
        unheard_ms = round(_UNHEARD_S * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unheard_ms)
        self._socket = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._opened_at_s = time.monotonic()

    def close(self) -> None:
        """Let go of the connection; the next use opens it again. May be called twice."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def write(self, data: bytes) -> None:
        connection = self._opened()
        connection.settimeout(_UNHEARD_S)
        try:
            connection.sendall(data)
        except OSError as error:
            raise self._lost("to send", str(error)) from error
        finally:
            if self._socket is not None:
                connection.setblocking(False)

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        self._opened()
        if (asleep_s := min(due_s, deadline_s) - time.monotonic()) > 0:
            time.sleep(asleep_s)
        data = b""
        until_s = deadline_s
        while len(data) < at_least and self._wait(until_s):
            data += self._take()
            # A serial line behind the gateway brings the rest at its own pace, and no sooner.
            due_s = time.monotonic() + (at_least - len(data)) * self._char_s + _MARGIN_S
            until_s = min(deadline_s, due_s)
        return data

    def discard(self) -> bytes:
        self._opened()
        data = b""
        while len(data) < _AT_ONCE and self._wait(-math.inf):
            data += self._take()
        return data

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self.open()
        assert self._socket is not None
        return self._socket

    def _wait(self, until_s: float) -> bool:
        """Whether bytes, or the end of the connection, wait; at once when the time is past."""
        left_s = max(0.0, until_s - time.monotonic())
        # Cut up to whole ms, or poll would wake too early and again and again.
        return bool(self._poll.poll(math.ceil(left_s * 1000)))

    def _take(self) -> bytes:
        try:
            data = self._opened().recv(_AT_ONCE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost("to read", str(error)) from error
        if not data:
            raise self._lost("an open connection", "its end; the far end closed it")
        return data

    def _lost(self, expected: str, came: str) -> PortLost:
        self.close()
        return PortLost(
            f"{self.path}: expected {expected}, got: {came}; the connection is closed, check the "
            "far end's power and network, and how many clients it allows"
        )
