"""A unit's exchange on a line in simulated time: waits, deadlines, repeats, faults in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.driver import MeterSilent, ReadError
from agent.line.port import PortLost
from agent.modbus.exchange import AnswerRejected, UnitExchange
from agent.modbus.frame import Frame
from agent.modbus.transaction import Answered, ReadRequest, Refused
from ext.checksum import crc16_modbus

CHAR_S = 10 / 9600
T35_S = 3.5 * CHAR_S
TIMEOUT_S = 0.3
WINDOW_S = 0.6
EPSILON_S = 1e-6

VOLTAGE = ReadRequest(7, 4, 0, 2)
ENERGY = ReadRequest(7, 4, 72, 2)


def sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")


@dataclass(frozen=True)
class Sent:
    """Bytes that a meter sends `delay_s` after the request's end, `gap_s` between two of them."""

    data: bytes
    delay_s: float = 0.0
    gap_s: float = 0.0
    latest_s: float = math.inf
    """Nothing is sent that would not be whole by then (an instant)."""


Meter = Callable[[bytes, "SimulatedLine"], list[Sent]]


@dataclass(eq=False)
class SimulatedLine:
    """A `Port` and a `Clock` whose time passes only while it is read or written."""

    meter: Meter
    now_s: float = 1000.0
    opened_at_s: float = 0.0
    char_s: float = CHAR_S
    requests: list[tuple[float, bytes]] = field(default_factory=list)
    lost_at_s: float = math.inf
    _coming: list[tuple[float, int]] = field(default_factory=list)
    _busy_until_s: float = -math.inf
    _last_byte_s: float = -math.inf

    def monotonic(self) -> float:
        return self.now_s

    def now_utc_s(self) -> float:
        return self.now_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.now_s

    def open_anew(self, *, forget_after_s: float = math.inf) -> None:
        """Whatever has come is lost; what has not begun by `forget_after_s` never comes."""
        self.opened_at_s = self.now_s
        late = self.now_s + forget_after_s
        self._coming = [(at_s, byte) for at_s, byte in self._coming if self.now_s < at_s < late]

    def write(self, data: bytes) -> None:
        self._fail_if_lost()
        self._drain()
        assert self.now_s - self._last_byte_s >= T35_S - EPSILON_S, "no silence before a request"
        self.requests.append((self.now_s, data))
        ends_s = self.now_s + len(data) * self.char_s
        for sent in self.meter(data, self):
            self._send(sent, ends_s)

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        self._fail_if_lost()
        self._pass_until(min(due_s, deadline_s))
        first_s = self._coming[0][0] if self._coming else math.inf
        if first_s > max(deadline_s, self.now_s):
            self._pass_until(deadline_s)
            return b""
        self._pass_until(first_s)
        data = self._drain()
        if len(data) < at_least:
            self._pass_until(min(deadline_s, self.now_s + (at_least - len(data)) * self.char_s))
            data += self._drain()
        return data

    def discard(self) -> bytes:
        return self._drain()

    def carry(self, frames: list[Sent]) -> None:
        """Let others use the line from now on."""
        for sent in frames:
            self._send(sent, self.now_s)

    def _send(self, sent: Sent, ends_s: float) -> None:
        at_s = max(ends_s + sent.delay_s, self._busy_until_s)
        whole_s = at_s + len(sent.data) * (self.char_s + sent.gap_s)
        if whole_s > sent.latest_s:
            return
        for byte in sent.data:
            at_s += self.char_s + sent.gap_s
            self._coming.append((at_s, byte))
        self._busy_until_s = at_s
        self._coming.sort(key=lambda coming: coming[0])

    def _pass_until(self, at_s: float) -> None:
        """Time goes on; a port that is lost on the way says so and is open again at once."""
        if self.lost_at_s <= at_s:
            self.now_s = max(self.now_s, self.lost_at_s)
        else:
            self.now_s = max(self.now_s, at_s)
        self._fail_if_lost()

    def _fail_if_lost(self) -> None:
        if self.lost_at_s <= self.now_s:
            self.lost_at_s = math.inf
            self.open_anew()
            raise PortLost("simulated")

    def _drain(self) -> bytes:
        here = [(at_s, byte) for at_s, byte in self._coming if at_s <= self.now_s]
        if here:
            self._last_byte_s = here[-1][0]
        del self._coming[: len(here)]
        return bytes(byte for _, byte in here)


def registers(request: bytes, number: int = 0) -> bytes:
    """What a meter shows: in each pair of registers the address asked and the request's number."""
    count = int.from_bytes(request[4:6])
    return (request[2:4] + number.to_bytes(2)) * (count // 2)


def answer(request: bytes, number: int = 0) -> bytes:
    data = registers(request, number)
    return sealed(request[:2] + bytes([len(data)]) + data)


def refusal(request: bytes, code: int) -> bytes:
    return sealed(bytes([request[0], request[1] | 0x80, code]))


def scripted(*turns: Callable[[bytes], list[Sent]]) -> Meter:
    """A meter that behaves as the turns say, one each, then well."""
    waiting = iter(turns)

    def meter(request: bytes, line: SimulatedLine) -> list[Sent]:
        return next(waiting, well)(request)

    return meter


def well(request: bytes) -> list[Sent]:
    return [Sent(answer(request), 0.04)]


def silent(request: bytes) -> list[Sent]:
    return []


def late_by(delay_s: float) -> Callable[[bytes], list[Sent]]:
    return lambda request: [Sent(answer(request), delay_s)]


def refusing(code: int) -> Callable[[bytes], list[Sent]]:
    return lambda request: [Sent(refusal(request, code), 0.04)]


def exchange_on(
    line: SimulatedLine, unit: int = 7, frames: list[Frame] | None = None, gap_s: float = 0.0
) -> UnitExchange:
    return UnitExchange(
        line,
        unit,
        gap_s=gap_s,
        response_timeout_s=TIMEOUT_S,
        clock=line,
        observe=None if frames is None else frames.append,
        monotonic=line.monotonic,
    )


def is_right(verdict: Answered | Refused, request: ReadRequest) -> bool:
    return verdict == Answered(registers(request.frame))


# --- deadlines -----------------------------------------------------------------------------------


def test_a_read_without_time_for_an_attempt_asks_nothing_and_waits_for_nothing() -> None:
    line = SimulatedLine(scripted())
    exchange = exchange_on(line)
    with pytest.raises(MeterSilent, match=r"asked 0 times of 2.*time budget.*got no turn"):
        exchange.ask(VOLTAGE, 2, line.now_s + 0.2)
    assert line.requests == []
    assert line.now_s == 1000.0


def test_a_repeat_that_has_no_time_is_not_begun() -> None:
    line = SimulatedLine(scripted(silent))
    with pytest.raises(MeterSilent, match=r"asked 1 times of 2, then the time budget"):
        exchange_on(line).ask(VOLTAGE, 2, line.now_s + 0.6)
    assert len(line.requests) == 1


def test_a_unit_that_owes_an_answer_is_not_waited_for_beyond_the_deadline() -> None:
    line = SimulatedLine(scripted(silent))
    exchange = exchange_on(line)
    with pytest.raises(MeterSilent):
        exchange.ask(VOLTAGE, 1)
    before_s = line.now_s
    with pytest.raises(MeterSilent, match="time budget"):
        exchange.ask(ENERGY, 1, before_s + 0.8)
    assert line.now_s == before_s
    assert is_right(exchange.ask(ENERGY, 1, before_s + 1.2), ENERGY)


@given(st.floats(0.0, 3.0), st.integers(1, 3), st.lists(st.floats(0.0, 1.5), max_size=3))
def test_no_read_lasts_longer_than_its_deadline(
    budget_s: float, attempts: int, delays_s: list[float]
) -> None:
    line = SimulatedLine(scripted(*(late_by(delay_s) for delay_s in delays_s)))
    exchange = exchange_on(line)
    for request in (VOLTAGE, ENERGY):
        deadline_s = line.now_s + budget_s
        with suppress(ReadError):
            exchange.ask(request, attempts, deadline_s)
        assert line.now_s <= deadline_s + EPSILON_S


# --- what is owed --------------------------------------------------------------------------------


def test_after_an_open_the_line_is_listened_to_for_the_late_window() -> None:
    line = SimulatedLine(scripted())
    line.write(ENERGY.frame)
    line.open_anew()
    exchange = exchange_on(line)
    assert is_right(exchange.ask(VOLTAGE, 1), VOLTAGE)
    assert line.requests[1][0] >= line.opened_at_s + WINDOW_S
    assert exchange.rejected == {"late": 1}


def test_a_line_that_has_been_open_for_long_is_used_at_once() -> None:
    line = SimulatedLine(scripted())
    assert is_right(exchange_on(line).ask(VOLTAGE, 1), VOLTAGE)
    assert line.requests[0][0] - 1000.0 == pytest.approx(T35_S)


def test_a_port_that_was_opened_anew_is_listened_to_again_by_every_unit() -> None:
    line = SimulatedLine(scripted())
    exchanges = {unit: exchange_on(line, unit) for unit in (7, 8)}
    for unit, exchange in exchanges.items():
        exchange.ask(ReadRequest(unit, 4, 0, 2), 1)
    line.open_anew()
    asked = len(line.requests)
    for unit, exchange in exchanges.items():
        exchange.ask(ReadRequest(unit, 4, 0, 2), 1)
    first_s, second_s = (at_s for at_s, _ in line.requests[asked:])
    assert first_s >= line.opened_at_s + WINDOW_S
    # The time has passed for both.
    assert second_s < first_s + 0.2


def test_what_a_gateway_has_given_up_is_still_owed() -> None:
    line = SimulatedLine(scripted(refusing(11)))
    exchange = exchange_on(line)
    with pytest.raises(MeterSilent, match="asked 1 times, got nothing"):
        exchange.ask(VOLTAGE, 1)
    refused_s = line.now_s
    assert is_right(exchange.ask(ENERGY, 1), ENERGY)
    assert line.requests[1][0] >= refused_s + WINDOW_S


def test_a_late_answer_is_waited_for_and_ends_the_wait() -> None:
    line = SimulatedLine(scripted(late_by(0.5)))
    exchange = exchange_on(line)
    with pytest.raises(MeterSilent):
        exchange.ask(VOLTAGE, 1)
    assert is_right(exchange.ask(ENERGY, 1), ENERGY)
    assert 0.5 < line.requests[1][0] - line.requests[0][0] < 0.6
    assert exchange.rejected == {"late": 1}


def test_a_repeated_question_is_as_old_as_its_first_asking() -> None:
    line = SimulatedLine(scripted(late_by(0.45)))
    exchange = exchange_on(line)
    assert is_right(exchange.ask(VOLTAGE, 2), VOLTAGE)
    assert exchange.span_utc_s == (line.requests[0][0], line.now_s)


def test_a_question_repeated_long_after_is_as_old_as_its_last_asking() -> None:
    line = SimulatedLine(scripted(silent))
    exchange = exchange_on(line)
    with pytest.raises(MeterSilent):
        exchange.ask(VOLTAGE, 1)
    line.now_s += 10
    exchange.ask(VOLTAGE, 1)
    assert exchange.span_utc_s[0] == line.requests[1][0]


# --- refusals, rest, what is learned -------------------------------------------------------------


@pytest.mark.parametrize("period_s", [0.5, 1.0, 2.0])
def test_one_lost_answer_leaves_no_later_instant_in_doubt(period_s: float) -> None:
    line = SimulatedLine(scripted(silent))
    exchange = exchange_on(line)
    with suppress(ReadError):
        exchange.ask(VOLTAGE, 1)
    spans_s = []
    for _ in range(20):
        line.now_s += period_s
        asked_s = line.now_s
        assert is_right(exchange.ask(VOLTAGE, 2), VOLTAGE)
        sent_s, came_s = exchange.span_utc_s
        spans_s.append(came_s - sent_s)
        # The line is listened to for the late window once, not at every read.
        assert line.now_s - asked_s < 2 * WINDOW_S + TIMEOUT_S
    assert max(spans_s[1:]) < 0.1
    assert exchange.transactions.late_window_s == pytest.approx(WINDOW_S)


def test_losing_many_answers_ages_the_next_one_by_no_more_than_what_can_still_come() -> None:
    line = SimulatedLine(scripted(*[silent] * 30))
    exchange = exchange_on(line)
    for _ in range(30):
        with suppress(ReadError):
            exchange.ask(VOLTAGE, 1)
        line.now_s += 0.2
    assert is_right(exchange.ask(VOLTAGE, 1), VOLTAGE)
    sent_s, came_s = exchange.span_utc_s
    assert came_s - sent_s < 2.0


def test_a_busy_unit_is_asked_again_after_a_pause() -> None:
    line = SimulatedLine(scripted(refusing(6)))
    assert is_right(exchange_on(line).ask(VOLTAGE, 2), VOLTAGE)
    assert 0.1 <= line.requests[1][0] - line.requests[0][0] <= 0.5


def test_a_unit_that_stays_busy_says_so() -> None:
    line = SimulatedLine(scripted(refusing(6), refusing(6)))
    assert exchange_on(line).ask(VOLTAGE, 2) == Refused(6)


def test_a_refusal_of_these_registers_is_told_at_once() -> None:
    line = SimulatedLine(scripted(refusing(2)))
    assert exchange_on(line).ask(VOLTAGE, 2) == Refused(2)
    assert len(line.requests) == 1


def test_a_unit_gets_its_own_rest_between_two_questions() -> None:
    line = SimulatedLine(scripted())
    exchange = exchange_on(line, gap_s=0.1)
    exchange.ask(VOLTAGE, 1)
    answered_s = line.now_s
    exchange.ask(ENERGY, 1)
    assert line.requests[1][0] >= answered_s + 0.1


def test_the_turnaround_is_learned_from_clean_answers_only() -> None:
    line = SimulatedLine(scripted(well, late_by(0.25), late_by(0.36), well, well))
    exchange = exchange_on(line)
    assert exchange.turnaround_s is None
    exchange.ask(VOLTAGE, 1)
    assert exchange.turnaround_s == pytest.approx(0.04, abs=2 * CHAR_S)
    exchange.ask(VOLTAGE, 1)
    assert exchange.turnaround_s == pytest.approx(0.145, abs=2 * CHAR_S)
    exchange.ask(VOLTAGE, 2)
    assert exchange.turnaround_s == pytest.approx(0.145, abs=2 * CHAR_S)


def test_a_known_turnaround_is_slept_through_and_a_quicker_unit_is_noticed() -> None:
    line = SimulatedLine(lambda request, line: [Sent(answer(request), turnaround_s)])
    exchange = exchange_on(line)

    def took_s() -> float:
        exchange.ask(VOLTAGE, 1)
        return line.now_s - line.requests[-1][0]

    turnaround_s = 0.2
    for _ in range(12):
        took_s()
    turnaround_s = 0.04
    assert took_s() == pytest.approx(0.2 + 17 * CHAR_S, abs=2 * CHAR_S), "woken by the first byte"
    for _ in range(4):
        took_s()
    assert took_s() < 0.05 + 17 * CHAR_S
    for _ in range(200):
        took_s()
    assert exchange.turnaround_s == pytest.approx(0.04, abs=0.005)
    turnaround_s = 0.28
    assert took_s() == pytest.approx(0.28 + 17 * CHAR_S, abs=2 * CHAR_S), "a slower one: no loss"


def test_a_dead_unit_behind_an_echoing_adapter_costs_no_more_than_its_timeout() -> None:
    line = SimulatedLine(scripted(lambda request: [Sent(request, -8 * CHAR_S)]))
    exchange = exchange_on(line)
    with pytest.raises(AnswerRejected, match="1 echo"):
        exchange.ask(ReadRequest(7, 4, 0, 80), 1)
    assert line.now_s - line.requests[0][0] < TIMEOUT_S + 15 * CHAR_S


def test_a_line_that_is_never_silent_is_not_used() -> None:
    def babbling(request: bytes) -> list[Sent]:
        return [Sent(bytes(3000))]

    line = SimulatedLine(scripted(babbling))
    exchange = exchange_on(line)
    with pytest.raises(AnswerRejected):
        exchange.ask(VOLTAGE, 1)
    with pytest.raises(AnswerRejected, match="not silent for 1 s; look for a second master"):
        exchange.ask(VOLTAGE, 1)
    assert len(line.requests) == 1


# --- what an observer sees -----------------------------------------------------------------------


def test_an_observer_sees_every_frame_with_its_verdict() -> None:
    noisy = answer(VOLTAGE.frame)
    line = SimulatedLine(
        scripted(
            lambda request: [Sent(request, -8 * CHAR_S), Sent(b"\0\0" + noisy, 0.04)],
            refusing(2),
            silent,
        )
    )
    frames: list[Frame] = []
    exchange = exchange_on(line, frames=frames)
    exchange.ask(VOLTAGE, 1)
    exchange.ask(VOLTAGE, 1)
    with pytest.raises(MeterSilent):
        exchange.ask(VOLTAGE, 1)
    assert [(frame.direction, frame.verdict, frame.data) for frame in frames] == [
        ("sent", "request", VOLTAGE.frame),
        ("heard", "echo", VOLTAGE.frame),
        ("heard", "noise", b"\0\0"),
        ("heard", "answer", noisy),
        ("sent", "request", VOLTAGE.frame),
        ("heard", "exception 2 (illegal data address)", refusal(VOLTAGE.frame, 2)),
        ("sent", "request", VOLTAGE.frame),
        ("heard", "silence", b""),
    ]
    assert [frame.at_utc_s for frame in frames] == sorted(frame.at_utc_s for frame in frames)


# --- faults and timings in any order -------------------------------------------------------------

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
