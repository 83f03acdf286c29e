"""A unit's exchange on a line in simulated time: waits, deadlines, repeats, faults in any order."""

from __future__ import annotations

from contextlib import suppress

import pytest
from exchange_bench import (
    CHAR_S,
    ENERGY,
    EPSILON_S,
    T35_S,
    TIMEOUT_S,
    VOLTAGE,
    WINDOW_S,
    Sent,
    SimulatedLine,
    answer,
    exchange_on,
    is_right,
    late_by,
    refusal,
    refusing,
    scripted,
    silent,
    well,
)
from hypothesis import given
from hypothesis import strategies as st

from agent.driver import MeterSilent, ReadError
from agent.modbus.exchange import AnswerRejected
from agent.modbus.frame import Frame
from agent.modbus.transaction import ReadRequest, Refused

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
