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
from serial.rs485 import RS485Settings

from agent.line.holders import holders
from agent.line.names import stable_name, stable_names
from agent.line.port import PortBusy, PortLost
from agent.line.rs485 import Rs485

Parity = Literal["N", "E", "O"]

_WRITE_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 4096
_MARGIN: Final = (2.0, 0.001)
"""A read sleeps past the last byte's due time, at most so many characters and so many s.

A byte that is a little late would cost two more wake-ups. The margin is part
of the silence that the next request has to wait for anyway.
"""
_PTY_MAJORS: Final = range(136, 144)


class SerialPort:
    """One serial port, 8 data bits; `baud` in Bd. Used by one thread.

    With `rs485` the kernel switches the transceiver; without it the adapter does.
    """

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
        self._parity: Parity = parity
        self._stopbits = stopbits
        self._rs485 = rs485
        self._char_s = (1 + 8 + (parity != "N") + stopbits) / baud
        self._serial: serial.Serial | None = None
        self._opened_at_s = -math.inf
        self._stable_name: str | None = None
        self._poll = select.poll()

    @property
    def path(self) -> str:
        """The device's path as configured."""
        return self._path

    @property
    def char_s(self) -> float:
        return self._char_s

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
                f"/dev/serial/by-id ({_present()}), the group dialout, and that no other program "
                "holds the port"
            ) from error
        if self._rs485 is not None:
            self._let_the_kernel_switch(self._serial, self._rs485)
        self._stable_name = stable_name(self._path)
        self._poll = select.poll()
        self._poll.register(self._serial.fileno(), select.POLLIN)
        self._opened_at_s = time.monotonic()

    def _let_the_kernel_switch(self, port: serial.Serial, rs485: Rs485) -> None:
        """Hand the transceiver's direction to the kernel; raises PortLost where it cannot."""
        try:
            port.rs485_mode = RS485Settings(
                rts_level_for_tx=rs485.rts_high_while_sending,
                rts_level_for_rx=not rs485.rts_high_while_sending,
                # pyserial cuts to whole ms, and 0.029 s would come out as 28.
                delay_before_tx=(rs485.before_ms + 0.5) / 1000,
                delay_before_rx=(rs485.after_ms + 0.5) / 1000,
            )
        except (OSError, ValueError) as error:
            self.close()
            raise PortLost(
                f"{self._path}: expected a port whose driver switches an RS-485 transceiver "
                f"(TIOCSRS485), got: {error}; set rs485 to adapter if the transceiver switches by "
                "itself, as USB adapters do"
            ) from error

    def switch(self, baud: int, parity: Parity = "N") -> None:
        """Once everything is sent: `baud` and `parity` from now on; raises PortLost.

        Always 8 data bits. What waits unread is dropped, as it came at the rate of before; what
        comes while the driver sets the rate is kept, as a meter may confirm after 20 ms.
        """
        port = self._opened()
        try:
            port.flush()
            port.reset_input_buffer()
            port.baudrate = baud
            port.parity = "N" if _is_pty(self._path) else parity
        except (serial.SerialException, termios.error, OSError, ValueError) as error:
            raise self._lost(f"a port that takes {baud} Bd 8{parity}", str(error)) from error
        self._baud, self._parity = baud, parity
        self._char_s = (1 + 8 + (parity != "N") + self._stopbits) / baud

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
            # A request fits into the kernel's buffer; pyserial's own write costs six times as much.
            sent = self._write_at_once(port, data)
            if sent < len(data):
                port.write(data[sent:])
        except (serial.SerialException, termios.error, OSError) as error:
            raise self._lost("to send", str(error)) from error

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        port = self._opened()
        now_s = time.monotonic()
        data = b""
        if (asleep_s := min(due_s, deadline_s) - now_s) > 0:
            time.sleep(asleep_s)
            data = self._take(port, or_none=True)
        if not data:
            if not self._wait(max(0.0, deadline_s - time.monotonic())):
                return b""
            data = self._take(port)
        missing = at_least - len(data)
        left_s = deadline_s - time.monotonic()
        if missing > 0 and left_s > 0:
            # One sleep until the last byte is due costs less than a wake-up per byte.
            char_s = self._char_s
            due_s = missing * char_s + min(_MARGIN[0] * char_s, _MARGIN[1])
            time.sleep(min(due_s, left_s))
            # None more is no loss here: if the device is gone, the next poll says so.
            data += self._take(port, or_none=True)
        return data

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

    @staticmethod
    def _write_at_once(port: serial.Serial, data: bytes) -> int:
        try:
            return os.write(port.fileno(), data)
        except BlockingIOError:
            return 0

    def _take(self, port: serial.Serial, *, or_none: bool = False) -> bytes:
        try:
            data = os.read(port.fileno(), _AT_ONCE)
        except BlockingIOError:
            return b""
        except (serial.SerialException, OSError) as error:
            raise self._lost("to read", str(error)) from error
        if not data and not or_none:
            raise self._lost("the bytes that it announced", "none; the device is gone")
        return data

    def _lost(self, expected: str, came: str) -> PortLost:
        self.close()
        hint = ""
        if self._stable_name is not None:
            hint = (
                f"; configure {self._stable_name}, a name that it keeps whenever it is plugged in"
            )
        return PortLost(
            f"{self._path}: expected {expected}, got: {came}; the port is closed, plug the adapter "
            f"in again or check its power{hint}"
        )


def _present() -> str:
    return "there now: " + (", ".join(stable_names()) or "none")


def _is_pty(path: str) -> bool:
    """Whether `path` leads to a pseudo-terminal, which has no parity bit and refuses one."""
    status = os.stat(path)
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTY_MAJORS
