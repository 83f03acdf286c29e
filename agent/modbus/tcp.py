"""One unit behind a Modbus TCP gateway, with the checks of a serial line.

Whether an answer is one is decided here, not by pymodbus, which carries it:
transaction number, unit, function and register count must all be the
request's. The transaction number tells a late answer from the next one, so
nothing has to be waited for to be right. Only a gateway that is still busy
with a silent unit is given time, or its other units would seem silent as well.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, Literal

from agent.driver import MeterSilent, ReadError
from agent.modbus.exchange import AnswerRejected
from agent.modbus.frame import Frame, Observer
from agent.modbus.gateway import TcpFrame
from agent.modbus.gateway import TcpGateway as TcpGateway
from agent.modbus.planner import t35
from agent.modbus.transaction import (
    EXCEPTIONS,
    GATEWAY,
    Answered,
    ReadRequest,
    Reason,
    Refused,
    Verdict,
)
from wire.clock import Clock, SystemClock

NETWORK_S: Final = 0.5
"""What network and gateway may add to a meter's own response timeout."""
_MARGIN_S: Final = 0.02
"""A wait may last so much longer than asked for."""
_BUSY: Final = (5, 6)
_BUSY_PAUSE_S: Final = 0.2
_REQUEST_LENGTH: Final = 8
_HEADER_LENGTH: Final = 7
_SMOOTHING: Final = 1 / 8


class TcpExchange:
    """`Exchange` with one unit behind a gateway. Frames are shown as unit, function and data."""

    def __init__(
        self,
        gateway: TcpGateway,
        unit: int,
        *,
        gap_s: float = 0.0,
        response_timeout_s: float = 0.5,
        name: str = "",
        clock: Clock | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.rejected: Counter[Reason] = Counter()
        self.span_utc_s = (0.0, 0.0)
        self.turnaround_s: float | None = None
        self._gateway = gateway
        self._unit = unit
        self._gap_s = gap_s
        self._response_timeout_s = response_timeout_s
        self._name = name or f"Modbus unit {unit} behind {gateway.path}"
        self._clock = clock or SystemClock()
        self._observe = observe
        self._free_at_s = -math.inf

    @property
    def char_s(self) -> float:
        return self._gateway.char_s

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        verdict: Verdict | None = None
        before = self.rejected.total()
        made = 0
        while made < attempts and self._await_turn(request, deadline_s):
            verdict = self._once(request)
            made += 1
            if isinstance(verdict, Answered):
                return verdict
            if isinstance(verdict, Refused):
                if verdict.code in _BUSY:
                    self._free_at_s = max(
                        self._free_at_s, self._gateway.monotonic() + _BUSY_PAUSE_S
                    )
                elif verdict.code not in GATEWAY:
                    return verdict
        if isinstance(verdict, Refused) and verdict.code in _BUSY:
            return verdict
        raise self._failure(request, made, attempts, verdict, self.rejected.total() - before)

    # --- one attempt ------------------------------------------------------------------------

    def _longest_s(self, request: ReadRequest) -> float:
        """What one attempt can take at most."""
        line_s = (_REQUEST_LENGTH + request.answer_length) * self.char_s + 2 * t35(self.char_s)
        return line_s + self._response_timeout_s + NETWORK_S

    def _await_turn(self, request: ReadRequest, deadline_s: float) -> bool:
        """Listen until the unit is rested and the gateway done with what it owes.

        False when an attempt could end after `deadline_s`. What is owed may
        take until then, not longer.
        """
        latest_s = deadline_s - self._longest_s(request)
        until_s = self._gateway.monotonic()
        if max(until_s, self._free_at_s) > latest_s:
            return False
        while True:
            for frame in self._gateway.receive(until_s):
                self._reject(frame)
            until_s = max(self._free_at_s, min(self._gateway.free_at_s(), latest_s - _MARGIN_S))
            if self._gateway.monotonic() >= until_s:
                return self._gateway.monotonic() <= latest_s

    def _once(self, request: ReadRequest) -> Verdict | None:
        before = self.rejected.total()
        sent_utc_s = self._clock.now_utc_s()
        sent_s = self._gateway.monotonic()
        until_s = sent_s + self._longest_s(request)
        transaction, data = self._gateway.send(request)
        self._show("sent", data[_HEADER_LENGTH - 1 :], "request")
        verdict = self._hear(request, transaction, until_s)
        now_s = self._gateway.monotonic()
        self._free_at_s = now_s + self._gap_s
        if verdict is None:
            self._gateway.owe(transaction, self.rejected, sent_s)
            return None
        self.span_utc_s = (sent_utc_s, self._clock.now_utc_s())
        self._gateway.learn(now_s - sent_s)
        if isinstance(verdict, Answered) and self.rejected.total() == before:
            line_s = (_REQUEST_LENGTH + request.answer_length) * self.char_s
            self._learn(max(0.0, now_s - sent_s - line_s))
        return verdict

    def _hear(self, request: ReadRequest, transaction: int, until_s: float) -> Verdict | None:
        """The verdict; None if nothing acceptable came by `until_s`."""
        while True:
            verdict = None
            for frame in self._gateway.receive(until_s):
                if verdict is not None or frame.transaction != transaction:
                    self._reject(frame)
                    continue
                judged = _judge(request, frame)
                if isinstance(judged, str):
                    self._reject(frame, judged)
                    continue
                verdict = judged
                self._show("heard", bytes([frame.unit]) + frame.pdu, _in_words(judged))
            if verdict is not None or self._gateway.monotonic() >= until_s:
                if verdict is None:
                    self._show("heard", b"", "silence")
                return verdict

    def _reject(self, frame: TcpFrame, reason: Reason = "noise") -> None:
        if self._gateway.settle(frame):
            reason = "late"
        else:
            self.rejected[reason] += 1
        self._show("heard", bytes([frame.unit]) + frame.pdu, reason)

    def _learn(self, turnaround_s: float) -> None:
        known_s = self.turnaround_s
        self.turnaround_s = (
            turnaround_s if known_s is None else known_s + _SMOOTHING * (turnaround_s - known_s)
        )

    def _show(self, direction: Literal["sent", "heard"], data: bytes, verdict: str) -> None:
        if self._observe is not None:
            self._observe(Frame(self._clock.now_utc_s(), direction, data, verdict))

    def _failure(
        self, request: ReadRequest, made: int, attempts: int, verdict: Verdict | None, rejected: int
    ) -> ReadError:
        asked = f"asked {made} times"
        if made < attempts:
            asked += f" of {attempts}, then the time budget of this read was used up"
        what = (
            f"{self._name}: expected {request.count} registers from {request.address} "
            f"(function {request.function}) through {self._gateway.path} within "
            f"{self._longest_s(request):.1f} s, {asked}, "
        )
        if isinstance(verdict, Refused):
            return MeterSilent(
                what + f"got the gateway's exception {verdict.code} "
                f"({EXCEPTIONS[verdict.code]}); check the unit number, and wiring and baud rate "
                "behind the gateway"
            )
        if not rejected:
            return MeterSilent(
                what + "got nothing; check the unit number, and wiring and baud rate behind the "
                "gateway"
            )
        counts = ", ".join(f"{n} {reason}" for reason, n in self.rejected.items())
        return AnswerRejected(
            what + f"got nothing acceptable (rejected since start: {counts}); check the gateway's "
            "settings and its maker's notes"
        )


def _judge(request: ReadRequest, frame: TcpFrame) -> Verdict | Reason:
    """What a frame with the request's transaction number is: its answer, or why it is none."""
    function, rest = frame.pdu[0], frame.pdu[1:]
    if frame.unit != request.unit:
        return "other_unit"
    if function == request.function | 0x80 and len(rest) == 1:
        return Refused(rest[0])
    if function != request.function:
        return "other_function"
    if len(rest) != 1 + 2 * request.count or rest[0] != 2 * request.count:
        return "other_count"
    return Answered(rest[1:])


def _in_words(verdict: Verdict) -> str:
    if isinstance(verdict, Answered):
        return "answer"
    return f"exception {verdict.code} ({EXCEPTIONS.get(verdict.code, 'unknown')})"
