"""A meter's HDLC station for tests, a line with faults before it, and simulated time.

The station shares frame building with the bench's meters and nothing with the
agent; unlike theirs it takes and sends windows of up to seven, may be busy,
reject, or forget the final bit.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, field

from agent.dlms.link.frame import client_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from hil.meters.dlms.hdlc import Ear, Heard, build

CLIENT = client_address(1)
CHAR_S = 1 / 960
LLC = b"\xe6\xe7\x00"


def answer_to(request: bytes, size: int) -> bytes:
    """What the station answers: it differs for each request and each place in it."""
    return random.Random(hashlib.sha256(request).digest()).randbytes(size)


@dataclass
class Station:
    """A meter's link. `busy`: how many times it says RNR first; `info`, `window`: its limits."""

    answer_size: int = 40
    info: int = 128
    window: int = 7
    busy: int = 0
    rejects: bool = False
    forgets_final: bool = False
    pushes: bytes = b""
    parameter_size: int = 2
    """Bytes of each value in UA; 0: no information field."""
    deaf: int = 0
    """How many SNRMs are ignored because another link is up, until DISC."""
    acknowledges_first: bool = False
    """Whether RR comes before an answer, which then has to be polled for."""
    messages: int = 1
    """How many answers one request leads to, as in a block stream."""

    connected: bool = False
    expected: int = 0
    first: int = 0
    sent: int = 0
    request: bytes = b""
    asked: list[bytes] = field(default_factory=list)
    segments: list[tuple[bytes, bool]] = field(default_factory=list)
    missing: bool = False
    their_info: int = 128
    their_window: int = 1

    def receive(self, heard: Heard) -> bytes:
        if heard.control == 0x93:
            return self._connect(heard)
        if heard.control == 0x53:
            self.deaf = 0
            was, self.connected = self.connected, False
            return build(heard.sender, heard.to, 0x73 if was else 0x1F)
        if not self.connected:
            return build(heard.sender, heard.to, 0x1F)
        acknowledged = (heard.control >> 5) - self.first & 7
        if acknowledged > self.sent:
            self.connected = False
            return build(heard.sender, heard.to, 0x97)
        del self.segments[:acknowledged]
        self.first, self.sent = self.first + acknowledged & 7, self.sent - acknowledged
        polled_for = heard.control & 1 == 1
        if not polled_for:
            self._take(heard)
        return self._speak(heard, polled_for) if heard.control & 0x10 else b""

    def _connect(self, heard: Heard) -> bytes:
        if self.deaf:
            return b""
        wanted = {5: 128, 6: 128, 7: 1, 8: 1}
        fields = heard.payload[3:]
        while fields:
            wanted[fields[0]] = int.from_bytes(fields[2 : 2 + fields[1]], "big")
            fields = fields[2 + fields[1] :]
        self.connected, self.request, self.segments, self.missing = True, b"", [], False
        self.expected = self.first = self.sent = 0
        self.their_info, self.their_window = 128, 1
        size = self.parameter_size
        if not size:
            return build(heard.sender, heard.to, 0x73)
        limit = min(self.info, 255) if size == 1 else self.info
        self.their_info = min(limit, wanted[6])
        self.their_window = min(self.window, wanted[8])
        values = {
            5: self.their_info,
            6: min(limit, wanted[5]),
            7: self.their_window,
            8: min(self.window, wanted[7]),
        }
        body = b"".join(
            bytes([code, size]) + value.to_bytes(size, "big") for code, value in values.items()
        )
        return build(heard.sender, heard.to, 0x73, b"\x81\x80" + bytes([len(body)]) + body)

    def _take(self, heard: Heard) -> None:
        if heard.control >> 1 & 7 != self.expected:
            self.missing = heard.control >> 1 & 7 != self.expected - 1 & 7
            return
        self.missing = False
        self.expected = self.expected + 1 & 7
        self.request += heard.payload
        if heard.more:
            return
        request, self.request = self.request[3:], b""
        self.asked.append(request)
        for number in range(self.messages):
            answer = LLC + answer_to(request + bytes(number), self.answer_size)
            cuts = range(0, len(answer), self.their_info)
            self.segments += [(answer[at : at + self.their_info], at != cuts[-1]) for at in cuts]

    def _speak(self, heard: Heard, polled_for: bool) -> bytes:
        supervisory = self.expected << 5 | 0x10
        said = build(heard.sender, heard.to, 0x13, LLC + self.pushes) if self.pushes else b""
        if self.busy:
            self.busy -= 1
            return said + build(heard.sender, heard.to, supervisory | 0x05)
        window = self.segments[: self.their_window]
        if not window or (self.acknowledges_first and not polled_for):
            kind = 0x09 if self.missing and self.rejects else 0x01
            return said + build(heard.sender, heard.to, supervisory | kind)
        self.sent = len(window)
        for place, (segment, more) in enumerate(window):
            final = place == len(window) - 1 and not self.forgets_final
            control = self.expected << 5 | final << 4 | (self.first + place & 7) << 1
            said += build(heard.sender, heard.to, control, segment, more)
        return said


class Line:
    """A `Port` in simulated time with one station. Faults strike single frames, by number.

    A read wakes when its bytes are there or its deadline is over, as a real one.
    """

    char_s = CHAR_S
    opened_at_s = 0.0

    def __init__(
        self,
        station: Station,
        address: bytes,
        faults: dict[int, str] | None = None,
        *,
        echoes: bool = False,
        reaction_s: float = 0.05,
    ) -> None:
        self.now_s = 0.0
        self._station, self._address = station, address
        self._faults = faults or {}
        self._echoes = echoes
        self._reaction_s = reaction_s
        self._number = 0
        self._ear = Ear()
        self._free_at_s = 0.0
        self._coming: deque[tuple[float, int]] = deque()
        self.controls: list[int] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s

    def write(self, data: bytes) -> None:
        start_s = max(self.now_s, self._free_at_s)
        if self._echoes:
            self._put(start_s, data)
        self._free_at_s = start_s + len(data) * self.char_s
        for sent in self._ear.hear(data):
            self.controls.append(sent.control)
            for heard in Ear().hear(self._disturbed(sent)):
                if heard.to == self._address:
                    said = Ear().hear(self._station.receive(heard))
                    passed = b"".join(map(self._disturbed, said))
                    self._put(self._free_at_s + self._reaction_s, passed)

    def _put(self, at_s: float, data: bytes) -> None:
        if self._coming:
            at_s = max(at_s, self._coming[-1][0])
        for place, byte in enumerate(data):
            self._coming.append((at_s + (place + 1) * self.char_s, byte))

    def _disturbed(self, heard: Heard) -> bytes:
        self._number += 1
        whole = build(heard.to, heard.sender, heard.control, heard.payload, heard.more)
        return disturbed(whole, self._faults.get(self._number, ""))

    def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
        assert at_least > 0
        if not self._coming or self._coming[0][0] > deadline_s:
            self.now_s = max(self.now_s, deadline_s)
            return b""
        data = bytearray()
        while self._coming and len(data) < at_least and self._coming[0][0] <= deadline_s:
            at_s, byte = self._coming.popleft()
            self.now_s = max(self.now_s, at_s)
            data.append(byte)
        return bytes(data)

    def discard(self) -> bytes:
        data = bytearray()
        while self._coming and self._coming[0][0] <= self.now_s:
            data.append(self._coming.popleft()[1])
        return bytes(data)


def disturbed(whole: bytes, fault: str) -> bytes:
    middle = len(whole) // 2
    return {
        "lost": b"",
        "garbled": whole[:middle] + bytes([whole[middle] ^ 0x10]) + whole[middle + 1 :],
        "doubled": whole + whole,
        "cut": whole[:middle],
        "noise before": b"\x00\x7e\xa0\x31\xff" + whole,
        "flag before": b"\x7e" + whole,
        "": whole,
    }[fault]


def a_carrier(line: Line, server: bytes = b"\x02\x23", **changes: object) -> HdlcCarrier:
    return HdlcCarrier(
        line,
        LinkSettings(**{"exchange_s": 30.0, **changes}),
        client_address=CLIENT,
        server_address=server,
        name="a meter",
        now_s=line.clock,
        sleep=line.sleep,
    )
