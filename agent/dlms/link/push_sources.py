"""Where pushed APDUs come from: HDLC frames on a serial line, or the wrapper on TCP connections.

Both give APDUs with their sender; what is none is an error, counted by the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from agent.dlms.errors import AnswerMalformed, DlmsError
from agent.dlms.link.unasked import UnaskedApdus
from agent.dlms.link.wrapper import PacketCutter
from agent.line.listening import ListeningPort
from agent.line.serial_port import SerialPort

_PAUSE_S: Final = 3.0
"""An APDU whose next frame takes longer is given up: its end was lost."""


@dataclass(frozen=True, slots=True)
class HeardApdu:
    """One APDU, and whose frames or connection brought it; or why none came of what did."""

    sender: Hashable
    address: tuple[int, ...]
    apdu: bytes | DlmsError


class PushSource(Protocol):
    """Used by one thread."""

    @property
    def damaged(self) -> int:
        """Frames so far whose checks were wrong."""
        ...

    def open(self) -> None:
        """Raises PortLost; what was unfinished is forgotten."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...

    def hear(self, until_s: float) -> Iterator[HeardApdu]:
        """What has come by `until_s` (monotonic) at the latest; raises PortLost."""
        ...


class SerialPushes:
    """HDLC on a serial port."""

    def __init__(self, port: SerialPort, longest: int) -> None:
        """`longest` is the most that one APDU may have, in bytes."""
        self._port = port
        self._apdus = UnaskedApdus(longest)
        self._last_s = -math.inf

    @property
    def damaged(self) -> int:
        return self._apdus.damaged

    def open(self) -> None:
        self._apdus.clear()
        self._port.open()

    def close(self) -> None:
        self._port.close()

    def hear(self, until_s: float) -> Iterator[HeardApdu]:
        data = self._port.read(1, until_s)
        now_s = time.monotonic()
        if data:
            if now_s - self._last_s > _PAUSE_S:
                self._apdus.clear()
            self._last_s = now_s
        for sender, apdu in self._apdus.receive(data):
            yield HeardApdu(sender, address_of(sender), apdu)


class TcpPushes:
    """The wrapper (IEC 62056-47) on connections that meters make."""

    damaged = 0

    def __init__(self, port: ListeningPort, longest: int) -> None:
        """`longest` is the most that one APDU may have, in bytes."""
        self._port = port
        self._longest = longest
        self._cutters: dict[int, PacketCutter] = {}

    def open(self) -> None:
        self._cutters.clear()
        self._port.open()

    def close(self) -> None:
        self._port.close()

    def hear(self, until_s: float) -> Iterator[HeardApdu]:
        for number, data in self._port.receive(until_s):
            if data:
                yield from self._cut(number, data)
            else:
                yield from self._ended(number)

    def _cut(self, number: int, data: bytes) -> Iterator[HeardApdu]:
        cutter = self._cutters.setdefault(number, PacketCutter(self._longest))
        try:
            for packet in cutter.feed(data):
                sender = (number, packet.source)
                yield HeardApdu(sender, (packet.source,), packet.apdu)
        except DlmsError as error:
            # Nothing in the stream says where the next head would begin.
            del self._cutters[number]
            self._port.drop(number)
            yield HeardApdu(number, (), error)

    def _ended(self, number: int) -> Iterator[HeardApdu]:
        cutter = self._cutters.pop(number, None)
        if cutter is not None and cutter.unfinished:
            error = AnswerMalformed("a connection ended within a notification; its begin is lost")
            yield HeardApdu(number, (), error)


def address_of(raw: bytes) -> tuple[int, ...]:
    """The numbers of an HDLC address of 1, 2 or 4 bytes: logical and, from 2 on, physical."""
    bits = [byte >> 1 for byte in raw]
    if len(bits) == 4:
        return bits[0] << 7 | bits[1], bits[2] << 7 | bits[3]
    return tuple(bits)
