"""A real serial port behind `Port`, over pyserial.

The port opens at its first use and is this process's alone. When it is lost
it closes, and the next use opens it anew; when to try again is the line's
decision. Deadlines are monotonic, so no change of the clock can stretch one.
"""

from __future__ import annotations

import math
import os
import select
import stat
import termios
import time
from types import TracebackType
from typing import Final, Literal, Self

import serial

from agent.line.holders import holders
from agent.line.port import PortBusy, PortLost
from agent.line.rs485 import Rs485

Parity = Literal["N", "E", "O"]

_WRITE_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 4096
_PTY_MAJORS: Final = range(136, 144)


class SerialPort:
    """One serial port, 8 data bits; `baud` in Bd. Used by one thread."""

    def __init__(
        self,
        path: str,
        baud: int = 9600,
        parity: Parity = "N",
        stopbits: int = 1,
        rs485: Rs485 | None = None,
    ) -> None:
        self._path = path
        self._baud = baud
        self._parity = parity
        self._stopbits = stopbits
        self._rs485 = rs485
        self._serial: serial.Serial | None = None
        self._opened_at_s = -math.inf
        self._poll = select.poll()

    @property
    def path(self) -> str:
        """The device's path as configured."""
        return self._path

    @property
    def char_s(self) -> float:
        bits = 1 + 8 + (self._parity != "N") + self._stopbits
        return bits / self._baud

    @property
    def opened_at_s(self) -> float:
        return self._opened_at_s

    def fileno(self) -> int:
        """The open port's descriptor, for a caller's own poll; raises PortLost."""
        return int(self._opened().fileno())

    def open(self) -> None:
        """Open for this process alone and drop what waits unread; raises PortLost, PortBusy."""
        self.close()
        try:
            self._serial = serial.Serial(
                self._path,
                self._baud,
                parity="N" if _is_pty(self._path) else self._parity,
                stopbits=self._stopbits,
                timeout=0,
                write_timeout=_WRITE_TIMEOUT_S,
                exclusive=True,
            )
            self._serial.reset_input_buffer()
        except (serial.SerialException, termios.error, OSError, ValueError) as error:
            self.close()
            if held := ", ".join(map(str, holders(self._path))):
                raise PortBusy(
                    f"{self._path}: expected a free serial port, it is held by {held}; stop that "
                    "program first (an agent: systemctl stop loadscape-agent), a port serves one "
                    "program at a time"
                ) from error
            raise PortLost(
                f"{self._path}: expected a free serial port that takes {self._baud} Bd "
                f"8{self._parity}{self._stopbits}, got: {error}; check the cable, the name under "
                "/dev/serial/by-id, the group dialout, and that no other program holds the port"
            ) from error
        self._poll = select.poll()
        self._poll.register(self._serial.fileno(), select.POLLIN)
        self._opened_at_s = time.monotonic()

    def close(self) -> None:
        """Let go of the port; the next use opens it again. May be called twice."""
        port, self._serial = self._serial, None
        if port is None:
            return
        try:
            port.close()
        except (serial.SerialException, termios.error, OSError):
            # A vanished adapter cannot even be closed properly; the descriptor is gone either way.
            return

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        port = self._opened()
        try:
            port.write(data)
        except (serial.SerialException, termios.error, OSError) as error:
            raise self._lost("to send", str(error)) from error

    def read(self, at_least: int, deadline_s: float) -> bytes:
        port = self._opened()
        data = b""
        while True:
            if not self._wait(max(0.0, deadline_s - time.monotonic())):
                return data
            data += self._take(port)
            missing = at_least - len(data)
            if missing <= 0:
                return data
            # One sleep until the last byte is due costs less than a wake-up per byte.
            left_s = deadline_s - time.monotonic()
            time.sleep(max(0.0, min(missing * self.char_s, left_s)))

    def discard(self) -> bytes:
        port = self._opened()
        data = b""
        while self._wait(0.0):
            data += self._take(port)
            if len(data) >= _AT_ONCE:
                break
        return data

    def _opened(self) -> serial.Serial:
        if self._serial is None:
            self.open()
        assert self._serial is not None
        return self._serial

    def _wait(self, longest_s: float) -> bool:
        """Whether bytes wait, within `longest_s`; raises PortLost on hang-up."""
        for _, events in self._poll.poll(longest_s * 1000):
            if events & select.POLLIN:
                return True
            raise self._lost("an open line", "the device hung up")
        return False

    def _take(self, port: serial.Serial) -> bytes:
        try:
            data = os.read(port.fileno(), _AT_ONCE)
        except BlockingIOError:
            return b""
        except (serial.SerialException, OSError) as error:
            raise self._lost("to read", str(error)) from error
        if not data:
            raise self._lost("the bytes that it announced", "none; the device is gone")
        return data

    def _lost(self, expected: str, came: str) -> PortLost:
        self.close()
        return PortLost(
            f"{self._path}: expected {expected}, got: {came}; the port is closed, plug the adapter "
            "in again or check its power"
        )


def _is_pty(path: str) -> bool:
    """Whether `path` leads to a pseudo-terminal, which has no parity bit and refuses one."""
    status = os.stat(path)
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTY_MAJORS
