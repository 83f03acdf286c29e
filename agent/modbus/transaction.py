"""Modbus RTU transactions of one unit: which bytes are the answer, and which are not.

Sans-I/O: bytes and monotonic instants in, verdicts out. A frame is accepted
only if unit, function, byte count and CRC all fit the request; it is searched
at any offset, so echoes and noise cost nothing. RTU has no transaction
number: an answer that comes after its deadline looks like the answer to the
next request. So a unit that owes an answer is not asked anything else before
that answer has arrived whole or the late window is over; the same question
may be repeated at once. An answer later than the window is recognised only by
its register count.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from ext.checksum import crc16_modbus

READ_HOLDING: Final = 3
READ_INPUT: Final = 4
MAX_REGISTERS: Final = 125
"""The most that one request may ask (Modbus application protocol 1.1b3, 6.3)."""

EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target failed to respond",
}
LATE_WINDOW_S: Final = 0.6
_EXCEPTION_LENGTH: Final = 5
_MOST_BUFFERED: Final = 2048

Reason = Literal["bad_crc", "other_unit", "other_function", "other_count", "echo", "late", "noise"]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Asks `unit` for `count` registers from wire address `address` on; function 3 or 4."""

    unit: int
    function: int
    address: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.unit <= 247:
            raise ValueError(f"unit {self.unit}: expected 1..247")
        if self.function not in (READ_HOLDING, READ_INPUT):
            raise ValueError(f"function {self.function}: expected 3 or 4")
        if not 1 <= self.count <= MAX_REGISTERS or not 0 <= self.address <= 65536 - self.count:
            raise ValueError(
                f"{self.count} registers from {self.address}: expected 1..125 within 0..65535"
            )

    @property
    def frame(self) -> bytes:
        """The request as sent, 8 bytes."""
        body = struct.pack(">BBHH", self.unit, self.function, self.address, self.count)
        return body + crc16_modbus(body).to_bytes(2, "little")

    @property
    def answer_length(self) -> int:
        """Bytes of the whole answer."""
        return 5 + 2 * self.count


@dataclass(frozen=True, slots=True)
class Answered:
    """The registers that were asked for, as sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The unit's exception answer."""

    code: int


Verdict = Answered | Refused


class UnitTransactions:
    """One unit's requests and answers; `rejected` counts what was not accepted, by reason."""

    def __init__(self, unit: int, *, late_window_s: float = LATE_WINDOW_S) -> None:
        self.unit = unit
        self.rejected: Counter[Reason] = Counter()
        self._shortest_window_s = late_window_s
        self._slowest_s = 0.0
        self._asked: ReadRequest | None = None
        self._asked_at_s = 0.0
        self._deadline_s = 0.0
        self._owed: list[tuple[ReadRequest, float]] = []
        """Requests whose answer is outstanding, with the instant from which on it is late."""
        self._buffer = bytearray()

    @property
    def late_window_s(self) -> float:
        """How long after its deadline an answer may still come, s."""
        return max(self._shortest_window_s, 2 * self._slowest_s)

    def clear_at_s(self, request: ReadRequest) -> float:
        """Until when the line must be listened to before `request` may go; -inf if it may now."""
        return max(
            (late_s + self.late_window_s for owed, late_s in self._owed if owed != request),
            default=float("-inf"),
        )

    def overhear(self, data: bytes, now_s: float) -> None:
        """Take bytes that came while nothing was asked: late answers settle what is owed."""
        self._buffer += data
        self._forget(now_s)
        for request, late_s in list(self._owed):
            at = self._find(request)
            if at is not None:
                self._classify(at)
                self._settle(request)
                self._slowest_s = max(self._slowest_s, now_s - late_s)
                self.rejected["late"] += 1
        self._trim()

    def ask(self, request: ReadRequest, now_s: float, deadline_s: float) -> bytes:
        """The bytes to send at `now_s`; whatever came before them is no answer to them.

        An answer that comes after `deadline_s` is late.
        """
        self._classify(len(self._buffer))
        self._forget(now_s)
        self._asked = request
        self._asked_at_s = now_s
        self._deadline_s = deadline_s
        return request.frame

    def receive(self, data: bytes, now_s: float) -> Verdict | None:
        """Take bytes as they arrive; the verdict as soon as an acceptable frame is whole."""
        request = self._asked
        if request is None:
            self.overhear(data, now_s)
            return None
        self._buffer += data
        at = self._find(request)
        if at is None:
            self._trim()
            return None
        length = self._length_at(at, request)
        frame = bytes(self._buffer[at : at + length])
        self._classify(at)
        del self._buffer[:length]
        self._slowest_s = max(self._slowest_s, now_s - self._asked_at_s)
        self._asked = None
        # A repeated request is answered twice if the first answer was only late: one is still owed.
        still_s = max(now_s, self._deadline_s)
        self._owed = [(owed, still_s if owed == request else late) for owed, late in self._owed]
        return Refused(frame[2]) if frame[1] & 0x80 else Answered(frame[3:-2])

    def missing(self) -> int:
        """How many more bytes could at the earliest complete an acceptable frame."""
        request = self._asked
        if request is None:
            return 1
        heads = self._heads(request)
        whole = [
            at + length - len(self._buffer)
            for head, length in heads
            if (at := self._buffer.rfind(head)) >= 0
        ]
        pending = [count for count in whole if count > 0]
        if pending:
            return min(pending)
        tail = self._buffer[-2:]
        begun = max(
            (
                size
                for head, _ in heads
                for size in (1, 2)
                if len(tail) >= size and size < len(head) and tail.endswith(head[:size])
            ),
            default=0,
        )
        return _EXCEPTION_LENGTH - begun

    def give_up(self, now_s: float) -> None:
        """Nothing acceptable came in time: from the deadline on the answer is late.

        An answer that has begun is kept, so that its rest settles what is owed.
        """
        request, self._asked = self._asked, None
        if request is None:
            return
        self._owed.append((request, max(now_s, self._deadline_s)))
        begun = [
            at
            for head, length in self._heads(request)
            if (at := self._buffer.rfind(head)) >= 0 and len(self._buffer) < at + length
        ]
        self._classify(min(begun, default=len(self._buffer)))

    @property
    def begun(self) -> bool:
        """Whether a part of an answer waits for its rest."""
        return bool(self._buffer)

    # --- the search -------------------------------------------------------------------------

    def _heads(self, request: ReadRequest) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        """How an acceptable frame begins, and its length: the answer, the exception."""
        return (
            (bytes([self.unit, request.function, 2 * request.count]), request.answer_length),
            (bytes([self.unit, request.function | 0x80]), _EXCEPTION_LENGTH),
        )

    def _length_at(self, at: int, request: ReadRequest) -> int:
        return _EXCEPTION_LENGTH if self._buffer[at + 1] & 0x80 else request.answer_length

    def _find(self, request: ReadRequest) -> int | None:
        """Where in the buffer the first acceptable whole frame for `request` begins."""
        found = []
        for head, length in self._heads(request):
            at = self._buffer.find(head)
            while at >= 0:
                if _sound(self._buffer[at : at + length], length):
                    found.append(at)
                    break
                at = self._buffer.find(head, at + 1)
        return min(found, default=None)

    def _settle(self, request: ReadRequest) -> None:
        """Drop the owed frame at the buffer's start and the oldest debt that it pays."""
        del self._buffer[: self._length_at(0, request)]
        for position, (owed, _) in enumerate(self._owed):
            if owed == request:
                del self._owed[position]
                return

    def _forget(self, now_s: float) -> None:
        window_s = self.late_window_s
        self._owed = [(owed, late_s) for owed, late_s in self._owed if now_s < late_s + window_s]

    def _trim(self) -> None:
        """Keep the buffer bounded under a flood; no frame is longer than what stays."""
        if len(self._buffer) > _MOST_BUFFERED:
            self._classify(len(self._buffer) - 256)

    # --- what was not accepted ----------------------------------------------------------------

    def _classify(self, end: int) -> None:
        """Count what the first `end` bytes were, and drop them."""
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        at = 0
        in_noise = False
        while at < len(data):
            reason, length = self._recognise(data, at)
            if reason != "noise" or not in_noise:
                self.rejected[reason] += 1
            in_noise = reason == "noise"
            at += length

    def _recognise(self, data: bytes, at: int) -> tuple[Reason, int]:
        rest = data[at:]
        asked = self._asked or (self._owed[-1][0] if self._owed else None)
        if asked is not None and rest.startswith(asked.frame):
            return "echo", len(asked.frame)
        if len(rest) < _EXCEPTION_LENGTH or not 1 <= rest[0] <= 247:
            return "noise", 1
        length = _EXCEPTION_LENGTH if rest[1] & 0x80 else 5 + rest[2]
        if _sound(rest[:length], length):
            if rest[0] != self.unit:
                return "other_unit", length
            if asked is None or rest[1] & 0x7F != asked.function:
                return "other_function", length
            return ("other_count" if rest[2] != 2 * asked.count else "late"), length
        if asked is not None and any(rest.startswith(head) for head, _ in self._heads(asked)):
            return "bad_crc", min(length, len(rest))
        return "noise", 1


def _sound(frame: bytes | bytearray, length: int) -> bool:
    """Whether `frame` is whole and its CRC is right."""
    return len(frame) == length and crc16_modbus(bytes(frame[:-2])) == int.from_bytes(
        frame[-2:], "little"
    )
