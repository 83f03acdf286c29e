"""Puts one unit's transactions on a port: silence, deadlines, repeats, waits for what is owed.

A read costs two wake-ups: when the line was silent and when the answer's last
byte is due; a third, when the answer begins, while the unit's turnaround is not
known. A silent unit costs its response timeout, not the length of an answer.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, Protocol

from agent.driver import MeterSilent, ReadError
from agent.line.port import Port
from agent.modbus.frame import Frame, Observer
from agent.modbus.neighbours import neighbours_on
from agent.modbus.planner import t35
from agent.modbus.transaction import (
    GATEWAY,
    Answered,
    ReadRequest,
    Reason,
    Refused,
    UnitTransactions,
    Verdict,
)
from agent.modbus.turnaround import Turnaround
from wire.clock import Clock, SystemClock

_BUSY: Final = (5, 6)
_BUSY_PAUSE_S: Final = 0.2
_REQUEST_LENGTH: Final = 8
_LEAST_ANSWER: Final = 5
_HOLE_S: Final = 0.05
"""Silence that may come inside an answer, from adapters that hand over bytes in lumps."""
_BABBLE_S: Final = 1.0
"""A line that is not silent for so long is not used."""
_AT_ONCE: Final = 4
"""Bytes for which a listener to silence sleeps; t3.5 is as long as they are."""


class AnswerRejected(ReadError):
    """Bytes came, and none of them were the answer that was asked for."""


class Exchange(Protocol):
    """One unit's questions and answers, whatever carries them. Used by one thread."""

    @property
    def rejected(self) -> Counter[Reason]:
        """How many frames were not accepted, by reason, since the start."""
        ...

    @property
    def span_utc_s(self) -> tuple[float, float]:
        """When the last answered request was sent and its answer complete, by the clock."""
        ...

    @property
    def turnaround_s(self) -> float | None:
        """Smoothed time from a request's last byte to its answer's first; None until known."""
        ...

    @property
    def char_s(self) -> float:
        """Time of one character on the wire, s; 0 where there is none."""
        ...

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        """The unit's answer, asking at most `attempts` times.

        Begins no attempt that could end after `deadline_s` (monotonic) and
        never waits past it. A busy unit (exceptions 5, 6) is asked again after
        a pause; a gateway's word that the unit is not there (10, 11) counts as
        silence. Raises MeterSilent (also when the deadline leaves no time for
        an attempt), AnswerRejected, PortLost.
        """
        ...


class UnitExchange:
    """`Exchange` with one unit on a serial port.

    A port has one of these per unit: what a unit still owes is known to the
    one that asked. After the port was opened nobody knows what the meters
    owe, so the line is listened to for the late window before the first
    request. `observe` is shown every frame; `monotonic` is what the port's
    deadlines count in.
    """

    def __init__(
        self,
        port: Port,
        unit: int,
        *,
        gap_s: float = 0.0,
        response_timeout_s: float = 0.5,
        name: str = "",
        clock: Clock | None = None,
        observe: Observer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self.transactions = UnitTransactions(unit, heard=self._show_heard if observe else None)
        self._neighbours = neighbours_on(port)
        self._neighbours.join(self.transactions)
        self._port = port
        self._gap_s = gap_s
        self._response_timeout_s = response_timeout_s
        self._name = name or f"Modbus unit {unit}"
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self._opened_at_s = -math.inf
        self._free_at_s = -math.inf
        self._turnaround = Turnaround()
        self._span_utc_s = (0.0, 0.0)
        self._asked: list[tuple[float, float]] = []
        """When the same question was put to which the next answer may belong: monotonic, UTC s."""

    @property
    def rejected(self) -> Counter[Reason]:
        return self.transactions.rejected

    @property
    def span_utc_s(self) -> tuple[float, float]:
        return self._span_utc_s

    @property
    def turnaround_s(self) -> float | None:
        return self._turnaround.known_s

    @property
    def char_s(self) -> float:
        return self._port.char_s

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        verdict: Verdict | None = None
        before = self.rejected.total()
        made = 0
        while made < attempts and self._await_silence(request, deadline_s):
            verdict = self._once(request)
            made += 1
            if isinstance(verdict, Answered):
                return verdict
            if isinstance(verdict, Refused):
                if verdict.code in _BUSY:
                    self._free_at_s = max(self._free_at_s, self._monotonic() + _BUSY_PAUSE_S)
                elif verdict.code not in GATEWAY:
                    return verdict
        if isinstance(verdict, Refused) and verdict.code in _BUSY:
            return verdict
        raise self._failure(request, made, attempts, self.rejected.total() - before)

    # --- one attempt ------------------------------------------------------------------------

    def _longest_s(self, request: ReadRequest) -> float:
        """What one attempt can take at most, from its first byte on."""
        characters = _REQUEST_LENGTH + 1.5 * request.answer_length
        return characters * self._port.char_s + self._response_timeout_s + _HOLE_S

    def _once(self, request: ReadRequest) -> Verdict | None:
        char_s = self._port.char_s
        before = self.rejected.total()
        sent_utc_s = self._clock.now_utc_s()
        sent_s = self._monotonic()
        first_s = sent_s + (_REQUEST_LENGTH + _LEAST_ANSWER) * char_s + self._response_timeout_s
        whole_s = sent_s + self._longest_s(request)
        frame = self.transactions.ask(request, sent_s, whole_s)
        first_time = self._note_asked(request, sent_s, sent_utc_s)
        slept_s = self._turnaround.sleep_s()
        due_s = sent_s
        if slept_s is not None:
            due_s += slept_s + (_REQUEST_LENGTH + request.answer_length) * char_s
        self._show("sent", frame, "request")
        try:
            self._port.write(frame)
            verdict = self._hear(request, due_s, first_s, whole_s)
        finally:
            # Also when the port is lost: the answer may still come once it is back.
            now_s = self._monotonic()
            self.transactions.give_up(now_s)
            self._free_at_s = now_s + self._gap_s
        self._span_utc_s = (self._asked[0][1], self._clock.now_utc_s())
        clean = first_time and self.rejected.total() == before
        if verdict is not None and slept_s is None and clean:
            answer = request.answer_length if isinstance(verdict, Answered) else _LEAST_ANSWER
            self._turnaround.learn(now_s - sent_s - (_REQUEST_LENGTH + answer) * char_s)
        return verdict

    def _hear(
        self, request: ReadRequest, due_s: float, first_s: float, whole_s: float
    ) -> Verdict | None:
        """The verdict; None if nothing began by `first_s` or nothing was whole by `whole_s`."""
        # The first sleep is for the answer, not for the shorter exception, which is rare.
        data = self._port.read(request.answer_length, first_s, due_s)
        while True:
            now_s = self._monotonic()
            verdict = self.transactions.receive(data, now_s) if data else None
            if not isinstance(verdict, Answered) or len(data) != request.answer_length:
                self._neighbours.hear(data, now_s, request.unit)
            if verdict is not None or not data or now_s >= whole_s:
                return verdict
            deadline_s = whole_s if self.transactions.begun else first_s
            data = self._port.read(self.transactions.missing(), deadline_s)

    def _note_asked(self, request: ReadRequest, sent_s: float, sent_utc_s: float) -> bool:
        """Whether the answer, if one comes, can only be to this question.

        Otherwise it may be one to the same question before, and as old as that.
        """
        since_s = self.transactions.owed_since_s(request)
        self._asked = [] if since_s is None else [a for a in self._asked if a[0] >= since_s]
        self._asked.append((sent_s, sent_utc_s))
        return since_s is None

    # --- before an attempt --------------------------------------------------------------------

    def _await_silence(self, request: ReadRequest, deadline_s: float) -> bool:
        """Listen until the line is silent, the unit is rested and owes nothing else.

        False at once when an attempt after that could end after `deadline_s`.
        """
        silence_s = t35(self._port.char_s)
        longest_s = self._longest_s(request)
        now_s = self._monotonic()
        ready_s = self._ready_s(request)
        until_s = max(now_s + silence_s, ready_s)
        give_up_s = until_s + _BABBLE_S
        listening = False
        while until_s + longest_s <= deadline_s:
            data = self._port.read(max(_AT_ONCE, self.transactions.missing()), until_s)
            now_s = self._monotonic()
            reopened = self._port.opened_at_s != self._opened_at_s
            if reopened:
                self._opened_at_s = self._port.opened_at_s
                give_up_s = max(give_up_s, self._ready_s(request) + _BABBLE_S)
            if data:
                self.transactions.overhear(data, now_s, just_came=listening)
                self._neighbours.hear(data, now_s, request.unit)
            if data or reopened:
                ready_s = self._ready_s(request)
                until_s = max(now_s + silence_s, ready_s) if data else ready_s
            if not data and now_s >= ready_s:
                return True
            listening = True
            if now_s > give_up_s:
                raise AnswerRejected(
                    f"{self._name}: expected {silence_s * 1000:.1f} ms of silence before a "
                    f"request, the line was not silent for {_BABBLE_S:.0f} s; look for a second "
                    "master, a wrong baud rate or swapped wires"
                )
        return False

    def _ready_s(self, request: ReadRequest) -> float:
        settled_s = self._opened_at_s + self.transactions.late_window_s
        return max(self._free_at_s, self.transactions.clear_at_s(request), settled_s)

    # --- reports ------------------------------------------------------------------------------

    def _show_heard(self, verdict: str, data: bytes) -> None:
        self._show("heard", data, verdict)

    def _show(self, direction: Literal["sent", "heard"], data: bytes, verdict: str) -> None:
        if self._observe is not None:
            self._observe(Frame(self._clock.now_utc_s(), direction, data, verdict))

    def _failure(self, request: ReadRequest, made: int, attempts: int, rejected: int) -> ReadError:
        asked = f"asked {made} times"
        if made < attempts:
            asked += f" of {attempts}, then the time budget of this read was used up"
        what = (
            f"{self._name}: expected {request.count} registers from {request.address} "
            f"(function {request.function}) within {self._response_timeout_s * 1000:.0f} ms, "
            f"{asked}, "
        )
        if not made:
            return MeterSilent(
                what
                + "got no turn; give the line fewer meters, a longer sample_s or a higher baud "
                "rate, see check"
            )
        if not rejected and not self.transactions.begun:
            return MeterSilent(
                what + "got nothing; check wiring, unit number, baud rate and parity"
            )
        counts = ", ".join(f"{n} {reason}" for reason, n in self.rejected.items())
        return AnswerRejected(
            what + f"got nothing acceptable (rejected since start: {counts}); check termination, "
            "unit numbers used twice, and parity"
        )
