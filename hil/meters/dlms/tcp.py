"""Simulated meters behind TCP: the wrapper (IEC 62056-47), and a gateway with a serial line behind.

A server listens on a free port of this machine and serves real sockets, each
connection in a thread. Both misbehave on demand, as `Faults` says. Shares
nothing with the agent's wrapper.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from hil.line.responder import Responder
from hil.meters.dlms.application import Application, TrueClock
from hil.meters.dlms.meter import DlmsMeter

_HEAD_BYTES: Final = 8
_VERSION: Final = 1
_AT_ONCE: Final = 4096
_LOOK_AT_STOP_S: Final = 0.1
_FREED_S: Final = 0.05


def packet(source: int, destination: int, apdu: bytes) -> bytes:
    """One APDU with the wrapper's head: version, source, destination, length, 2 bytes each."""
    numbers = (_VERSION, source, destination, len(apdu))
    return b"".join(number.to_bytes(2, "big") for number in numbers) + apdu


@dataclass(slots=True)
class Faults:
    """How a server misbehaves; may be changed while it serves."""

    clients: int = 64
    """Connections at a time; one more is closed within a moment."""
    silent: bool = False
    """Takes everything and answers nothing."""
    drop_after: int | None = None
    """After so many further answers the connection is closed; None from then on."""
    cut_to: int | None = None
    """Bytes that are sent of each answer; then nothing more comes of it."""


class Session(Protocol):
    """One connection's far end."""

    def receive(self, data: bytes) -> list[tuple[bytes, float]]:
        """Answers to what came, each with the real seconds after which it is sent."""
        ...


class WrapperSession:
    """Logical devices by their wPort, each with associations of this connection alone."""

    def __init__(
        self, meters: Mapping[int, DlmsMeter], clock: TrueClock, reaction_s: float = 0.0
    ) -> None:
        """`reaction_s` is what each takes from a request to its answer, real s."""
        self._devices = {wport: Application(meter, clock) for wport, meter in meters.items()}
        self._reaction_s = reaction_s
        self._waiting = b""

    def receive(self, data: bytes) -> list[tuple[bytes, float]]:
        """Answers of the devices that are there; others are silent."""
        self._waiting += data
        answers = []
        while len(self._waiting) >= _HEAD_BYTES:
            version, client, device, size = (
                int.from_bytes(self._waiting[at : at + 2], "big") for at in range(0, 8, 2)
            )
            if version != _VERSION or len(self._waiting) < _HEAD_BYTES + size:
                break
            apdu = self._waiting[_HEAD_BYTES : _HEAD_BYTES + size]
            self._waiting = self._waiting[_HEAD_BYTES + size :]
            if device in self._devices:
                answers += [
                    (packet(device, client, answer), self._reaction_s)
                    for answer in self._devices[device].serve(client, apdu)
                ]
        return answers


class GatewaySession:
    """A transparent gateway: bytes go to and come from a serial line at that line's pace."""

    def __init__(self, line: Responder, char_s: float) -> None:
        self._line = line
        self._char_s = char_s

    def receive(self, data: bytes) -> list[tuple[bytes, float]]:
        """What the line answers, in pieces such as a gateway's buffer hands over."""
        asked_s = len(data) * self._char_s
        pieces = []
        for answer in self._line.receive(data):
            wait_s = asked_s + answer.delay_s
            for at in range(0, len(answer.data), 64):
                piece = answer.data[at : at + 64]
                pieces.append((piece, wait_s + len(piece) * self._char_s))
                wait_s = 0.0
            asked_s = 0.0
        return pieces


class Server:
    """Serves sessions of one kind on a free port until `stop`."""

    def __init__(self, session: Callable[[], Session], faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.connections = 0
        """How many were taken so far."""
        self._session = session
        self._stop = threading.Event()
        self._room = threading.Condition()
        self._open = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_AT_STOP_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; connections end within a moment."""
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        served: list[threading.Thread] = []
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            served.append(thread)
        for thread in served:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            with self._room:
                # The one before may have ended, and its thread not know it yet.
                if not self._room.wait_for(lambda: self._open < self.faults.clients, _FREED_S):
                    return
                self._open += 1
            try:
                self._talk(connection, self._session())
            except ConnectionError:
                return
            finally:
                with self._room:
                    self._open -= 1
                    self._room.notify_all()

    def _talk(self, connection: socket.socket, session: Session) -> None:
        connection.settimeout(_LOOK_AT_STOP_S)
        while not self._stop.is_set():
            try:
                data = connection.recv(_AT_ONCE)
            except TimeoutError:
                continue
            if not data:
                return
            for answer, wait_s in [] if self.faults.silent else session.receive(data):
                time.sleep(wait_s)
                connection.sendall(answer[: self.faults.cut_to])
                if self._drops():
                    return

    def _drops(self) -> bool:
        """Whether the connection ends with the answer that was sent just now."""
        left = self.faults.drop_after
        if left is None:
            return False
        self.faults.drop_after = left - 1 or None
        return left == 1


@contextmanager
def served(session: Callable[[], Session], faults: Faults | None = None) -> Iterator[Server]:
    """A server that listens inside the block."""
    server = Server(session, faults)
    try:
        yield server
    finally:
        server.stop()
