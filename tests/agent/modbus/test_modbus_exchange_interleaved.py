"""Whatever faults, delays and other masters there are, no value is wrong or an older one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from exchange_bench import (
    CHAR_S,
    EPSILON_S,
    TIMEOUT_S,
    WINDOW_S,
    Sent,
    SimulatedLine,
    answer,
    exchange_on,
    refusal,
    sealed,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.driver import ReadError
from agent.line.port import PortLost
from agent.modbus.transaction import ReadRequest, Refused

FAULTS = (
    *("late", "late", "late", "well", "lost", "bad_crc", "half", "function", "unit", "count"),
    *("echo", "before", "after", "torn", "2", "6", "11", "11 too early", "rival"),
)
NOISE = st.binary(min_size=1, max_size=12)
RIVALS_ADDRESS = 12
"""What another master asks of the same units."""


@dataclass(frozen=True)
class Turn:
    """One read, and how the line and the meter behave meanwhile."""

    unit: int
    address: int
    count: int
    attempts: int
    faults: tuple[str, ...]
    """One for each attempt."""
    lateness: float
    """Delay of a late answer as a share of the longest that the owed window allows."""
    noise: bytes
    pause_s: float
    budget_s: float
    event: str
    event_s: float
    pause_after_s: float


turns = st.builds(
    Turn,
    unit=st.sampled_from([7, 7, 7, 8]),
    address=st.sampled_from([0, 72, 74]),
    count=st.sampled_from([2, 2, 2, 4]),
    attempts=st.integers(1, 2),
    faults=st.tuples(st.sampled_from(FAULTS), st.sampled_from(FAULTS)),
    lateness=st.floats(0.0, 0.99),
    noise=NOISE,
    pause_s=st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 2.0]),
    budget_s=st.sampled_from([math.inf, math.inf, 0.5, 1.5]),
    event=st.sampled_from(["", "", "", "", "restart", "lost", "rival"]),
    event_s=st.floats(0.0, 0.5),
    pause_after_s=st.sampled_from([0.0, 0.004, 0.02, 1.0]),
)


class Meters:
    """Units 7 and 8 of the simulated line; each request has a number, which its answer shows."""

    def __init__(self) -> None:
        self.turn: Turn | None = None
        self.asked_s: list[float] = []
        self._attempt = 0

    def begin(self, turn: Turn) -> None:
        self.turn = turn
        self._attempt = 0

    def __call__(self, request: bytes, line: SimulatedLine) -> list[Sent]:
        assert self.turn is not None
        number = len(self.asked_s)
        self.asked_s.append(line.now_s)
        fault = self.turn.faults[self._attempt]
        self._attempt += 1
        return list(self._suffered(fault, self.turn, request, answer(request, number), line.now_s))

    def _suffered(
        self, fault: str, turn: Turn, request: bytes, right: bytes, now_s: float
    ) -> Iterator[Sent]:
        # By then an answer must be whole to be owed still: the exchange's own longest attempt.
        longest_s = (8 + 1.5 * len(right)) * CHAR_S + TIMEOUT_S + 0.05 + WINDOW_S
        latest_s = now_s + longest_s - EPSILON_S
        body = right[:-2]
        match fault:
            case "late":
                yield Sent(right, turn.lateness * longest_s, latest_s=latest_s)
            case "well":
                yield Sent(right, 0.04)
            case "bad_crc":
                yield Sent(right[:4] + bytes([right[4] ^ 1]) + right[5:], 0.04)
            case "half":
                yield Sent(right[: len(right) // 2], turn.lateness * 0.3)
            case "function":
                yield Sent(sealed(bytes([body[0], body[1] ^ 7]) + body[2:]), 0.04)
            case "unit":
                yield Sent(sealed(bytes([body[0] + 2]) + body[1:]), 0.04)
            case "count":
                yield Sent(sealed(body[:2] + bytes([body[2] + 4]) + body[3:] + bytes(4)), 0.04)
            case "echo":
                yield Sent(request, -8 * CHAR_S)
                yield Sent(right, 0.04)
            case "before":
                yield Sent(turn.noise + right, 0.04)
            case "after":
                yield Sent(right + turn.noise, 0.04)
            case "torn":
                yield Sent(right, 0.01, gap_s=turn.lateness * 0.02, latest_s=latest_s)
            case "2" | "6" | "11":
                yield Sent(refusal(request, int(fault)), 0.04)
            case "11 too early":
                yield Sent(refusal(request, 11), 0.04)
                yield Sent(right, turn.lateness * longest_s, latest_s=latest_s)
            case "rival":
                rival = ReadRequest(request[0], 4, RIVALS_ADDRESS, turn.count).frame
                yield Sent(rival)
                yield Sent(answer(rival), turn.lateness * 0.5)
                yield Sent(right, 0.04)


_RIVAL_THEN_NEIGHBOUR = (("rival", 0.1, 7, 4, 0.5), ("", 0.0, 8, 2, 0.5), ("", 0.0, 7, 4, math.inf))


@settings(max_examples=1000, deadline=None)
@given(st.lists(turns, max_size=12))
@example(
    [
        Turn(unit, 0, count, 1, ("late", "late"), 0.0, b"", pause_s, budget_s, event, 0.5, 0.0)
        for event, pause_s, unit, count, budget_s in _RIVAL_THEN_NEIGHBOUR
    ]
)
def test_no_interleaving_of_faults_and_delays_yields_a_wrong_or_an_older_value(
    steps: list[Turn],
) -> None:
    meters = Meters()
    line = SimulatedLine(meters, opened_at_s=1000.0)
    exchanges = {unit: exchange_on(line, unit) for unit in (7, 8)}
    for turn in steps:
        line.now_s += turn.pause_s
        if turn.event == "restart":
            line.open_anew(forget_after_s=WINDOW_S)
            exchanges = {unit: exchange_on(line, unit) for unit in (7, 8)}
        if turn.event == "lost":
            line.lost_at_s = line.now_s + turn.event_s
        if turn.event == "rival":
            rival = ReadRequest(turn.unit, 4, RIVALS_ADDRESS, turn.count).frame
            line.carry([Sent(rival), Sent(answer(rival), turn.event_s)])
            line.now_s += turn.pause_after_s
        meters.begin(turn)
        request = ReadRequest(turn.unit, 4, turn.address, turn.count)
        exchange = exchanges[turn.unit]
        try:
            verdict = exchange.ask(request, turn.attempts, line.now_s + turn.budget_s)
        except (ReadError, PortLost):
            continue
        if isinstance(verdict, Refused):
            assert verdict.code in (2, 6)
            continue
        assert verdict.data[:2] == turn.address.to_bytes(2)
        assert len(verdict.data) == 2 * turn.count
        began_s, ended_s = exchange.span_utc_s
        assert began_s <= meters.asked_s[int.from_bytes(verdict.data[2:4])] <= ended_s
