"""Puts one unit's transactions on a port: silence, deadlines, repeats, waits for what is owed.

A read costs two wake-ups: one when the answer begins, one when its last byte
is due. A silent unit costs its response timeout, not the length of an answer.
"""

from __future__ import annotations

import time
from collections import Counter

from agent.driver import MeterSilent, ReadError
from agent.line.port import Port
from agent.modbus.planner import t35
from agent.modbus.transaction import (
    Answered,
    ReadRequest,
    Reason,
    Refused,
    UnitTransactions,
    Verdict,
)
from wire.clock import Clock, SystemClock

_BUSY_PAUSE_S = 0.2
_REQUEST_LENGTH = 8
_LEAST_ANSWER = 5
_HOLE_S = 0.05
"""Silence that may come inside an answer, from adapters that hand over bytes in lumps."""
_BABBLE_S = 1.0
"""A line that is not silent for so long is not used."""


class AnswerRejected(ReadError):
    """Bytes came, and none of them were the answer that was asked for."""


class UnitExchange:
    """Reads registers of one unit; `transactions.rejected` counts what was not accepted."""

    def __init__(
        self,
        port: Port,
        unit: int,
        *,
        gap_s: float = 0.0,
        response_timeout_s: float = 0.5,
        name: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.transactions = UnitTransactions(unit)
        self._port = port
        self._gap_s = gap_s
        self._response_timeout_s = response_timeout_s
        self._name = name or f"Modbus unit {unit}"
        self._clock = clock or SystemClock()
        self._free_at_s = float("-inf")
        self.span_utc_s = (0.0, 0.0)
        """When the last answered request was sent and its answer complete, by the clock."""

    @property
    def rejected(self) -> Counter[Reason]:
        """What was not accepted, by reason."""
        return self.transactions.rejected

    @property
    def char_s(self) -> float:
        """Time of one character on the wire, s."""
        return self._port.char_s

    def ask(self, request: ReadRequest, attempts: int) -> Answered | Refused:
        """The unit's answer, asking at most `attempts` times.

        Raises MeterSilent, AnswerRejected, and the port's PortLost. A busy
        unit (exceptions 5, 6) is asked again after a pause; a gateway's word
        that the unit is not there (10, 11) counts as silence.
        """
        verdict: Verdict | None = None
        before = self.transactions.rejected.total()
        for _ in range(attempts):
            verdict = self._once(request)
            if isinstance(verdict, Answered):
                return verdict
            if isinstance(verdict, Refused):
                if verdict.code in (5, 6):
                    self._free_at_s = max(self._free_at_s, time.monotonic() + _BUSY_PAUSE_S)
                elif verdict.code not in (10, 11):
                    return verdict
        if isinstance(verdict, Refused) and verdict.code in (5, 6):
            return verdict
        raise self._failure(request, attempts, self.transactions.rejected.total() - before)

    def _once(self, request: ReadRequest) -> Verdict | None:
        self._await_silence(request)
        char_s = self._port.char_s
        sent_utc_s = self._clock.now_utc_s()
        sent_s = time.monotonic()
        answered_s = sent_s + _REQUEST_LENGTH * char_s + self._response_timeout_s
        whole_s = answered_s + 1.5 * request.answer_length * char_s + _HOLE_S
        frame = self.transactions.ask(request, sent_s, whole_s)
        try:
            self._port.write(frame)
            verdict = self._hear(answered_s + _LEAST_ANSWER * char_s, whole_s)
        finally:
            # Also when the port is lost: the answer may still come once it is back.
            self.transactions.give_up(time.monotonic())
            self._free_at_s = time.monotonic() + self._gap_s
        self.span_utc_s = (sent_utc_s, self._clock.now_utc_s())
        return verdict

    def _hear(self, first_s: float, whole_s: float) -> Verdict | None:
        """The verdict; None if nothing began by `first_s` or nothing was whole by `whole_s`."""
        deadline_s = first_s
        while True:
            data = self._port.read(self.transactions.missing(), deadline_s)
            now_s = time.monotonic()
            verdict = self.transactions.receive(data, now_s) if data else None
            if verdict is not None or not data or now_s >= whole_s:
                return verdict
            deadline_s = whole_s

    def _await_silence(self, request: ReadRequest) -> None:
        """Listen until the line is silent, the unit is rested and owes nothing else."""
        silence_s = t35(self._port.char_s)
        start_s = time.monotonic()
        give_up_s = max(start_s, self._ready_s(request)) + _BABBLE_S
        until_s = max(start_s + silence_s, self._ready_s(request))
        while data := self._port.read(1, until_s):
            now_s = time.monotonic()
            self.transactions.overhear(data, now_s)
            if now_s > give_up_s:
                raise AnswerRejected(
                    f"{self._name}: expected {silence_s * 1000:.1f} ms of silence before a "
                    f"request, the line was not silent for {_BABBLE_S:.0f} s; look for a second "
                    "master, a wrong baud rate or swapped wires"
                )
            until_s = max(now_s + silence_s, self._ready_s(request))

    def _ready_s(self, request: ReadRequest) -> float:
        return max(self._free_at_s, self.transactions.clear_at_s(request))

    def _failure(self, request: ReadRequest, attempts: int, rejected: int) -> ReadError:
        what = (
            f"{self._name}: expected {request.count} registers from {request.address} "
            f"(function {request.function}) within {self._response_timeout_s * 1000:.0f} ms, "
            f"asked {attempts} times, "
        )
        if not rejected and not self.transactions.begun:
            return MeterSilent(
                what + "got nothing; check wiring, unit number, baud rate and parity"
            )
        counts = ", ".join(f"{n} {reason}" for reason, n in self.transactions.rejected.items())
        return AnswerRejected(
            what + f"got nothing acceptable (rejected since start: {counts}); check termination, "
            "unit numbers used twice, and parity"
        )
