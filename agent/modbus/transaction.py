"""Modbus RTU transactions of one unit: which bytes are the answer, and which are not.

Sans-I/O: bytes and monotonic instants in, verdicts out. A frame is accepted
only if unit, function, byte count and CRC all fit the request; it is searched
at any offset, so echoes and noise cost nothing. RTU has no transaction
number: an answer that comes after its deadline looks like the answer to the
next request. So a unit that owes an answer is not asked anything else before
that answer has arrived whole or the late window is over; the same question
may be repeated at once, and is waited for likewise once the repeat was
answered. An answer later than the window is recognised only by
its register count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from agent.modbus.rejection import Reason, sort_out
from agent.modbus.request import (
    MAX_REGISTERS,
    READ_HOLDING,
    READ_INPUT,
    REQUEST_LENGTH,
    ReadRequest,
    is_question,
    question_of,
)
from ext.frame import search

__all__ = [
    "EXCEPTIONS",
    "GATEWAY",
    "LATE_WINDOW_S",
    "MAX_REGISTERS",
    "READ_HOLDING",
    "READ_INPUT",
    "Answered",
    "Heard",
    "ReadRequest",
    "Reason",
    "Refused",
    "UnitTransactions",
    "Verdict",
]

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
GATEWAY: Final = (10, 11)
"""Exceptions by which a gateway says that the unit did not answer it: no word of the unit's own."""
LATE_WINDOW_S: Final = 0.6
"""How long after its deadline an answer is still waited for before anything else is asked."""
_EXCEPTION_LENGTH: Final = 5
_MOST_BUFFERED: Final = 2048


@dataclass(frozen=True, slots=True)
class Answered:
    """The registers that were asked for, as sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The unit's exception answer."""

    code: int


Verdict = Answered | Refused
Heard = Callable[[str, bytes], None]
"""Takes the verdict on a frame (see `agent.modbus.frame.Frame`) and its bytes."""


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that is outstanding; `foreign` if another master asked for it.

    It is `doubtful` if a repeat of its question was answered: then it may never come.
    """

    request: ReadRequest
    asked_at_s: float
    late_from_s: float
    foreign: bool = False
    doubtful: bool = False


class UnitTransactions:
    """One unit's requests and answers; `rejected` counts what was not accepted, by reason.

    Instants are monotonic seconds. `heard` is told every frame with its
    verdict, in the order in which they came.
    """

    def __init__(
        self, unit: int, *, late_window_s: float = LATE_WINDOW_S, heard: Heard | None = None
    ) -> None:
        self.unit = unit
        self.rejected: Counter[Reason] = Counter()
        self._heard = heard
        self._shortest_window_s = late_window_s
        self._slowest_s = 0.0
        self._asked: ReadRequest | None = None
        self._sent = b""
        self._asked_at_s = 0.0
        self._deadline_s = 0.0
        self._owed: list[_Debt] = []
        self._buffer = bytearray()

    @property
    def late_window_s(self) -> float:
        """How long after its deadline an answer may still come, s."""
        return max(self._shortest_window_s, 2 * self._slowest_s)

    @property
    def begun(self) -> bool:
        """Whether bytes wait that are not yet understood: an answer's beginning, or noise."""
        return bool(self._buffer)

    def clear_at_s(self, request: ReadRequest) -> float:
        """Until when the line must be listened to before `request` may go; -inf if it may now."""
        clear_s = -math.inf
        for debt in self._owed:
            if debt.foreign or debt.doubtful or debt.request != request:
                clear_s = max(clear_s, debt.late_from_s + self.late_window_s)
        return clear_s

    def owed_since_s(self, request: ReadRequest) -> float | None:
        """When the same request was asked whose answer may be the next one; None if none is."""
        asked_s = (d.asked_at_s for d in self._owed if d.request == request and not d.foreign)
        return min(asked_s, default=None)

    def overhear(self, data: bytes, now_s: float, *, just_came: bool = True) -> None:
        """Take bytes that came while nothing was asked: late answers settle what is owed.

        Another master's question to this unit makes it owe one answer more.
        Bytes that may have waited unread (not `just_came`) say nothing of how
        slow the unit is.
        """
        self._buffer += data
        while (at := self._foreign_question_at()) >= 0:
            rest = self._buffer[at + REQUEST_LENGTH :]
            del self._buffer[at + REQUEST_LENGTH :]
            question = bytes(self._buffer[at:])
            self._settle(now_s if just_came else None)
            self._classify(len(self._buffer))
            self.asked_by_another(question, now_s)
            self._buffer = rest
        self._settle(now_s if just_came else None)
        # Only now: what pays the oldest debt may have waited unread until its window was over.
        self._forget(now_s)
        self._trim()

    def asked_by_another(self, question: bytes, now_s: float) -> None:
        """Another master was heard to put the sound `question` to this unit."""
        self._owed.append(_Debt(question_of(question), now_s, now_s, foreign=True))

    def ask(self, request: ReadRequest, now_s: float, deadline_s: float) -> bytes:
        """The bytes to send at `now_s`; whatever came before them is no answer to them.

        An answer that comes after `deadline_s` is late.
        """
        self._classify(len(self._buffer))
        self._forget(now_s)
        self._asked = request
        self._asked_at_s = now_s
        self._deadline_s = deadline_s
        self._sent = request.frame
        return self._sent

    def receive(self, data: bytes, now_s: float) -> Verdict | None:
        """Take bytes as they arrive; the verdict as soon as an acceptable frame is whole."""
        request = self._asked
        if request is None:
            self.overhear(data, now_s)
            return None
        self._buffer += data
        at, length = self._answer(request)
        if at != 0 and self._foreign_question_at(len(self._buffer) if at < 0 else at) >= 0:
            # The unit has two questions and will answer both: neither answer can be told for ours.
            self._owed.append(_Debt(request, self._asked_at_s, max(now_s, self._deadline_s)))
            self._asked = None
            self.overhear(b"", now_s)
            return None
        if at < 0:
            self._trim()
            return None
        self._classify(at)
        frame = self._take(length)
        self._slowest_s = max(self._slowest_s, now_s - self._asked_at_s)
        self._asked = None
        still_s = max(now_s, self._deadline_s)
        self._pay_oldest(_Debt(request, self._asked_at_s, still_s))
        verdict = self._verdict(frame)
        if isinstance(verdict, Refused) and verdict.code in GATEWAY:
            # The gateway's patience is at an end; the unit's answer may still be on its way.
            self._owed.append(_Debt(request, self._asked_at_s, still_s))
        if self._buffer:
            self.overhear(b"", now_s)
        return verdict

    def missing(self) -> int:
        """How many more bytes could at the earliest complete a frame that is asked for or owed."""
        if self._asked is not None:
            return max(1, self._search(self._asked)[2])
        return min((self._search(debt.request)[2] for debt in self._owed), default=1)

    def give_up(self, now_s: float) -> None:
        """Nothing acceptable came in time: from the deadline on the answer is late.

        An answer that has begun is kept, so that its rest settles what is owed.
        """
        request = self._asked
        if request is None:
            return
        self._owed.append(_Debt(request, self._asked_at_s, max(now_s, self._deadline_s)))
        if not self._buffer:
            self._tell("silence", b"")
        self._classify(self._begins_at(request))
        self._asked = None

    # --- the search -------------------------------------------------------------------------

    def _search(self, request: ReadRequest) -> tuple[int, int, int]:
        return search(self._buffer, self.unit, request.function, 2 * request.count)

    def _begins_at(self, request: ReadRequest) -> int:
        """Where in the buffer an answer begins that is not whole; its end if none does."""
        size = len(self._buffer)
        found = size
        for head, length in (
            (bytes([self.unit, request.function, 2 * request.count]), request.answer_length),
            (bytes([self.unit, request.function | 0x80]), _EXCEPTION_LENGTH),
        ):
            at = self._buffer.find(head, max(0, size - length + 1))
            if at >= 0:
                found = min(found, at)
        return found

    def _answer(self, request: ReadRequest) -> tuple[int, int]:
        """Where in the buffer the answer is, and its length; -1 while there is none.

        The request's own first 7 bytes may be a sound answer of one register,
        as 07 04 02 41 00 01 60 are: what may still become the echo is none.
        """
        sent = self._sent
        if self._buffer.startswith(sent):
            self._classify(len(sent))
        while True:
            at, length, _ = self._search(request)
            if at < 0 or not sent.startswith(self._buffer[at : at + len(sent)]):
                return at, length
            if len(self._buffer) < at + len(sent):
                return -1, 0
            self._classify(at + len(sent))

    def _foreign_question_at(self, end: int | None = None) -> int:
        """Where another master's question to this unit stands before `end`; -1 if nowhere."""
        own = self._sent if self._asked else b""
        found = -1
        for function in (READ_HOLDING, READ_INPUT):
            head = bytes([self.unit, function])
            at = self._buffer.find(head, 0, end)
            while at >= 0:
                frame = self._buffer[at : at + REQUEST_LENGTH]
                if frame != own and is_question(frame):
                    found = at if found < 0 else min(found, at)
                    break
                at = self._buffer.find(head, at + 1, end)
        return found

    def _pay_oldest(self, repeat: _Debt) -> None:
        """A repeat was answered. Twice, if the answers before were only late: one is still owed.

        A meter answers in order, so this was the answer to the oldest question.
        """
        same = [d for d in self._owed if d.request == repeat.request and not d.foreign]
        if same:
            paid = min(same, key=lambda debt: debt.asked_at_s)
            left = [*(debt for debt in same if debt is not paid), repeat]
            self._owed = [debt for debt in self._owed if debt not in same]
            self._owed += [replace(d, late_from_s=repeat.late_from_s, doubtful=True) for d in left]

    def _settle(self, came_s: float | None) -> None:
        """Let whole answers in the buffer pay what is owed; they came at `came_s`, if known."""
        for debt in tuple(self._owed):
            at, length, _ = self._search(debt.request)
            if at < 0:
                continue
            self._classify(at)
            frame = self._take(length)
            self.rejected["late"] += 1
            self._tell("late", frame)
            if frame[1] & 0x80 and frame[2] in GATEWAY:
                continue
            # Which of several it answers is unknown; what stays owed is what lasts longest.
            paid = min(
                (owed for owed in self._owed if owed.request.has_the_shape_for(frame)),
                key=lambda owed: owed.late_from_s,
                default=None,
            )
            if paid is None:
                continue
            self._owed.remove(paid)
            if came_s is not None:
                self._slowest_s = max(self._slowest_s, came_s - paid.asked_at_s)

    def _verdict(self, frame: bytes) -> Verdict:
        if not frame[1] & 0x80:
            self._tell("answer", frame)
            return Answered(frame[3:-2])
        self._tell(f"exception {frame[2]} ({EXCEPTIONS.get(frame[2], 'unknown')})", frame)
        return Refused(frame[2])

    def _forget(self, now_s: float) -> None:
        if not self._owed:
            return
        window_s = self.late_window_s
        self._owed = [debt for debt in self._owed if now_s < debt.late_from_s + window_s]

    def _take(self, length: int) -> bytes:
        """The first `length` bytes of the buffer, which no longer holds them."""
        frame = bytes(self._buffer[:length])
        del self._buffer[:length]
        return frame

    def _trim(self) -> None:
        """Keep the buffer bounded under a flood; no frame is longer than what stays."""
        if len(self._buffer) > _MOST_BUFFERED:
            self._classify(len(self._buffer) - 256)

    # --- what was not accepted ----------------------------------------------------------------

    def _classify(self, end: int) -> None:
        """Count what the first `end` bytes were, and drop them."""
        if end:
            asked = self._asked or (self._owed[-1].request if self._owed else None)
            for reason, data in sort_out(self._take(end), self.unit, asked):
                self.rejected[reason] += 1
                self._tell(reason, data)

    def _tell(self, verdict: str, data: bytes) -> None:
        if self._heard is not None:
            self._heard(verdict, data)
