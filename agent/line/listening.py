"""A TCP port on which the agent listens: bytes of whoever connects. Nothing is ever sent.

A bounded number of connections is open at a time; one more ends the one that
was silent the longest, so that dead ones never keep a meter out.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from typing import Final

from agent.line.port import PortBusy, PortLost

MOST_CONNECTIONS: Final = 64
_AT_ONCE: Final = 4096


class ListeningPort:
    """Used by one thread; it opens at its first use."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._selector: selectors.BaseSelector | None = None
        self._heard_s: dict[socket.socket, float] = {}
        self._numbers: dict[socket.socket, int] = {}
        self._count = 0
        self.bound_port = port
        """The TCP port; another than was asked for if that was 0."""

    @property
    def path(self) -> str:
        """Where it listens, as configured."""
        return f"{self._host}:{self._port}"

    def open(self) -> None:
        """Listen; raises PortBusy, PortLost."""
        self.close()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            server = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            kind = PortBusy if error.errno == errno.EADDRINUSE else PortLost
            raise kind(
                f"{self.path}: expected an address of this machine and a free TCP port to listen "
                f"on, got: {error}; correct the line's port, or stop the program that has it"
            ) from error
        server.setblocking(False)
        self.bound_port = server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ, server)

    def close(self) -> None:
        """End all connections and listen no more. May be called twice."""
        selector, self._selector = self._selector, None
        if selector is None:
            return
        for key in list(selector.get_map().values()):
            key.data.close()
        selector.close()
        self._heard_s.clear()
        self._numbers.clear()

    def receive(self, until_s: float) -> list[tuple[int, bytes]]:
        """What has come by `until_s` (monotonic) at the latest: number of a connection, its bytes.

        No bytes mean that it has ended. Raises PortLost.
        """
        if self._selector is None:
            self.open()
        assert self._selector is not None
        found = []
        for key, _ in self._selector.select(max(0.0, until_s - time.monotonic())):
            connection = key.data
            if connection in self._numbers:
                found.append((self._numbers[connection], self._taken(connection)))
            elif connection.fileno() >= 0:
                found += self._accepted(connection)
        return found

    def drop(self, number: int) -> None:
        """End one connection: what comes on it cannot be understood any more."""
        for connection, its_number in list(self._numbers.items()):
            if its_number == number:
                self._end(connection)

    def _accepted(self, server: socket.socket) -> list[tuple[int, bytes]]:
        try:
            connection, _ = server.accept()
        except (BlockingIOError, ConnectionError):
            # It was gone again before we looked.
            return []
        except OSError as error:
            self.close()
            raise PortLost(f"{self.path}: cannot take a connection: {error}; see dmesg") from error
        ended = []
        if len(self._numbers) >= MOST_CONNECTIONS:
            silent = min(self._heard_s, key=self._heard_s.__getitem__)
            ended.append((self._numbers[silent], b""))
            self._end(silent)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert self._selector is not None
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self._count += 1
        self._numbers[connection] = self._count
        self._heard_s[connection] = time.monotonic()
        return ended

    def _taken(self, connection: socket.socket) -> bytes:
        try:
            data = connection.recv(_AT_ONCE)
        except BlockingIOError:
            data = b""
        except OSError:
            # A far end that resets has ended, as one that closes.
            data = b""
        if data:
            self._heard_s[connection] = time.monotonic()
        else:
            self._end(connection)
        return data

    def _end(self, connection: socket.socket) -> None:
        assert self._selector is not None
        self._selector.unregister(connection)
        connection.close()
        del self._numbers[connection], self._heard_s[connection]
