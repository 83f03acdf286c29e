"""The order of one line, in simulated time."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_bench import INTERVAL_S, T0, Asked, Met, SimulatedLine, forever, steady

from agent.poll.back_off import SHARE
from agent.poll.schedule import Ask, MeterOnLine, Now, Rest, Schedule

EDGE = T0 + INTERVAL_S


def around_edge(line: SimulatedLine, index: int, edge: int = EDGE) -> tuple[float, float]:
    """The last sample's end before the edge and the first one's begin after it, s from it."""
    begins = [asked.began_utc_s - edge for asked in line.of(index) if asked.answered]
    read_utc_s = line.meters[index].read_s * line.speed
    before = max(begin + read_utc_s for begin in begins if begin + read_utc_s <= 0)
    return before, min(begin for begin in begins if begin >= 0)


def test_samples_are_spread_evenly_over_the_cycle() -> None:
    line = SimulatedLine([Met() for _ in range(20)], sample_s=60)
    line.run(300)
    settled = [asked.began_s for asked in line.log if asked.began_s > 60]
    pauses = [later - earlier for earlier, later in itertools.pairwise(settled)]
    assert max(pauses) < 3.1
    assert min(pauses) > 2.9
    assert set(Counter(asked.ask.index for asked in line.log if asked.began_s > 60).values()) == {4}


def test_every_meter_is_sampled_right_before_and_right_after_the_edge() -> None:
    line = SimulatedLine([Met() for _ in range(32)], sample_s=60)
    line.run(600)
    bus_s = 32 * 0.25
    for index in range(32):
        before, after = around_edge(line, index)
        # One turn of the line lies between the two, with a tenth more for the unforeseen.
        assert after - before < 1.1 * bus_s + 0.1
        assert before < 0 <= after
    ((finished_s, edge),) = line.finished
    assert edge == EDGE
    assert finished_s == pytest.approx(450 + bus_s, abs=0.6)
    assert line.schedule.round_s == pytest.approx(bus_s)


def test_no_sample_of_the_cycle_comes_soon_after_another_sample() -> None:
    line = SimulatedLine([Met() for _ in range(10)], sample_s=60, utc_s=EDGE - 200.0)
    line.run(400)
    for index in range(10):
        asked = [one for one in line.of(index) if one.began_s > 60]
        for earlier, later in itertools.pairwise(asked):
            if later.ask.why == "cycle":
                assert later.began_s - earlier.began_s > 29


def test_a_line_too_slow_for_its_cycle_asks_in_turn_without_a_pause_and_says_so() -> None:
    line = SimulatedLine([Met(read_s=0.25) for _ in range(32)], sample_s=4)
    line.run(200)
    counts = Counter(asked.ask.index for asked in line.log)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert line.rested_s < 0.01
    assert line.schedule.cycle_share(line.now) == pytest.approx(2.0)
    assert line.schedule.missed > 0


def test_a_line_with_time_misses_no_sample() -> None:
    line = SimulatedLine([Met() for _ in range(32)], sample_s=15)
    line.run(1800)
    assert line.schedule.missed == 0
    assert line.schedule.cycle_share(line.now) == pytest.approx(32 * 0.25 / 15)


def test_a_dead_meter_costs_a_busy_line_little() -> None:
    meters = [Met() for _ in range(31)] + [Met(away=forever)]
    line = SimulatedLine(meters, sample_s=1)
    line.run(20)
    began_s = line.real_s
    line.run(400)
    lost_s = line.spent_s([asked for asked in line.of(31) if asked.began_s >= began_s])
    assert lost_s / 400 < 0.025


def test_a_dead_meter_of_an_idle_line_is_found_within_seconds_of_its_return() -> None:
    back_s = 300.0
    meters = [Met() for _ in range(16)] + [Met(away=lambda real_s: real_s < back_s)]
    line = SimulatedLine(meters, sample_s=60)
    line.run(400)
    found_s = next(asked.ended_s for asked in line.of(16) if asked.answered)
    assert found_s - back_s < 6


def test_a_line_whose_meters_all_came_back_is_in_order_within_seconds() -> None:
    back_s = 1000.0
    line = SimulatedLine([Met(away=lambda real_s: real_s < back_s) for _ in range(32)])
    line.run(back_s)
    assert len(line.schedule.failing) == 32
    line.run(40)
    assert not line.schedule.failing


def test_probes_in_free_time_delay_nobody() -> None:
    meters = [Met() for _ in range(8)] + [Met(away=forever) for _ in range(8)]
    line = SimulatedLine(meters, sample_s=60)
    line.run(60)
    began_s = line.real_s
    line.run(240)
    for index in range(8):
        begins = [asked.began_s for asked in line.of(index) if asked.began_s > began_s]
        pauses = [later - earlier for earlier, later in itertools.pairwise(begins)]
        assert all(59 < pause < 61 for pause in pauses), pauses


def test_one_failure_is_looked_into_at_once_even_on_a_busy_line() -> None:
    meters = [Met() for _ in range(31)] + [Met(away=lambda real_s: 20 < real_s < 24.5)]
    line = SimulatedLine(meters, sample_s=1)
    line.run(60)
    failed, back = (
        next(asked for asked in line.of(31) if not asked.answered),
        next(asked for asked in line.of(31) if asked.answered and asked.began_s > 20),
    )
    assert back.began_s - failed.ended_s < 1


def test_a_meter_that_comes_and_goes_costs_a_busy_line_little() -> None:
    meters = [Met() for _ in range(31)] + [Met(away=lambda real_s: int(real_s / 8) % 2 == 0)]
    line = SimulatedLine(meters, sample_s=1)
    line.run(120)
    began_s = line.real_s
    line.run(800)
    in_vain = [asked for asked in line.of(31) if asked.began_s >= began_s and not asked.answered]
    assert line.spent_s(in_vain) / 800 < 0.04


def test_without_a_port_edges_pass_and_every_meter_is_due_once_it_is_back() -> None:
    line = SimulatedLine([Met() for _ in range(4)], sample_s=600)
    line.run(20)
    assert line.schedule.port_lost() is None
    assert line.schedule.edge_without_port(line.now) is None
    line.utc_s += 900
    assert line.schedule.edge_without_port(line.now) == EDGE
    assert line.schedule.edge_without_port(line.now) is None
    before = len(line.log)
    line.run(3)
    assert len(line.log) == before + 4


def test_a_round_that_loses_its_port_names_the_edge_to_be_finished() -> None:
    line = SimulatedLine([Met() for _ in range(4)], utc_s=EDGE - 5.0)
    while not line.schedule.in_round:
        line.step()
    assert line.schedule.port_lost() == EDGE
    assert not line.schedule.in_round


def test_meters_with_a_profile_are_asked_after_each_edge_and_recovered_between() -> None:
    meters = [Met(keeps_profile=True, read_s=0.1) for _ in range(5)]
    meters[3].missing = T0 - 9000
    meters[1].missing = T0 - 900
    line = SimulatedLine(meters, utc_s=EDGE - 1.0)
    line.run(0.9)
    assert {asked.ask.index for asked in line.log} == {1}
    assert all(asked.ask.why == "recover" and asked.ask.most >= 4 for asked in line.log)
    line.log.clear()
    meters[1].missing = meters[3].missing = None
    line.run(3)
    assert [(asked.ask.index, asked.ask.why) for asked in line.log] == [
        (index, "after edge") for index in range(5)
    ]
    assert line.finished[0][1] == EDGE


def test_a_clock_that_stands_lets_the_line_rest() -> None:
    line = SimulatedLine([Met()], utc_s=T0 + 1.0)
    line.run(5)
    now = Now(line.real_s + 10, line.utc_s, float("inf"))
    step = line.schedule.next(now, lambda index: None)
    assert isinstance(step, Rest)
    assert step.until_s <= now.real_s + 0.2


def test_a_clock_set_back_stops_no_samples() -> None:
    line = SimulatedLine([Met()], sample_s=60)
    line.run(60)
    line.utc_s -= 3600
    before = len(line.log)
    line.run(130)
    assert len(line.log) >= before + 2


METERS = st.lists(
    st.builds(
        Met,
        read_s=st.floats(0.02, 0.6),
        vain_s=st.floats(0.1, 1.5),
        away=st.sampled_from(
            [
                steady,
                steady,
                forever,
                lambda real_s: int(real_s / 50) % 2 == 0,
            ]
        ),
    ),
    min_size=1,
    max_size=24,
)


def longest_pause_s(asked: list[Asked], begin_s: float, end_s: float) -> float:
    begins = [begin_s, *(one.began_s for one in asked), end_s]
    return max(later - earlier for earlier, later in itertools.pairwise(begins))


@settings(max_examples=15, deadline=None)
@given(METERS, st.sampled_from([1, 5, 30, 60]), st.sampled_from([1.0, 20.0, 300.0]))
def test_no_meter_starves_whatever_the_others_do(
    meters: list[Met], sample_s: int, speed: float
) -> None:
    line = SimulatedLine(meters, sample_s=sample_s, speed=speed)
    line.run(600)
    turn_s = sum(meter.read_s for meter in meters)
    vain_s = sum(meter.vain_s for meter in meters if meter.away is not steady)
    most_s = max(sample_s / speed, 1.0) * 1.5 + 3 * turn_s + 6 * vain_s + 1
    for index, meter in enumerate(meters):
        allowed_s = most_s if meter.away is steady else most_s + 4 * vain_s / SHARE
        assert longest_pause_s(line.of(index), 0, 600) <= allowed_s
    edges = [edge for _, edge in line.finished]
    assert edges == sorted(set(edges))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 31),
    st.integers(1, 31),
    st.floats(0.1, 0.5),
    st.floats(0.2, 1.5),
    st.sampled_from([1, 10]),
)
def test_dead_meters_take_a_bounded_share_of_a_busy_line(
    healthy: int, dead: int, read_s: float, vain_s: float, sample_s: int
) -> None:
    meters = [Met(read_s) for _ in range(healthy)]
    meters += [Met(read_s, vain_s, forever) for _ in range(dead)]
    line = SimulatedLine(meters, sample_s=sample_s)
    # Each is asked twice before it is known to be dead.
    first_s = dead * 4 * vain_s + 60
    line.run(first_s)
    rested_s = line.rested_s
    line.run(600)
    began_s = line.real_s - 600
    wanted_s = max(sample_s, 1.0)
    in_vain = [asked for asked in line.log if asked.began_s >= began_s and not asked.answered]
    unfree_s = sum(
        max(0.0, asked.ended_s - max(asked.began_s, asked.ask.free_until_s)) for asked in in_vain
    )
    earned = 0.02 * (1 + 5 * (line.rested_s - rested_s) / 600)
    assert unfree_s / 600 <= earned + 2 * vain_s / 600
    if healthy * read_s > wanted_s:
        assert line.spent_s(in_vain) / 600 <= 0.03 + 2 * vain_s / 600


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(0.02, 0.5), min_size=1, max_size=32),
    st.sampled_from([10, 60, 300]),
    st.floats(700, 850),
)
def test_the_samples_around_an_edge_lie_as_close_as_one_turn_of_the_line(
    reads_s: list[float], sample_s: int, since_edge_s: float
) -> None:
    line = SimulatedLine([Met(read_s) for read_s in reads_s], sample_s, utc_s=T0 + since_edge_s)
    line.run(INTERVAL_S - since_edge_s + 20)
    for index in range(len(reads_s)):
        before, after = around_edge(line, index)
        assert after - before <= 1.1 * sum(reads_s) + max(reads_s) + 0.05


def test_a_read_in_order_has_until_twice_its_longest_time() -> None:
    schedule = Schedule(
        [MeterOnLine(False, 0.25, 1.5)], interval_s=900, sample_s=60, now_utc_s=T0 + 1.0
    )
    ask = schedule.next(Now(100.0, T0 + 1.0), lambda index: None)
    assert isinstance(ask, Ask)
    assert ask.until_s == 103.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rest", "pass", "speed", "port", "back"]), st.floats(0.0, 2000.0)
        ),
        max_size=60,
    ),
    st.lists(st.booleans(), min_size=1, max_size=6),
)
def test_the_order_stays_sound_whatever_clock_and_port_do(
    events: list[tuple[str, float]], profiles: list[bool]
) -> None:
    meters = [
        Met(keeps_profile=keeps, away=forever if number == 2 else steady)
        for number, keeps in enumerate(profiles)
    ]
    line = SimulatedLine(meters)
    for event, amount in events:
        if event == "pass":
            line.utc_s += amount
        elif event == "speed":
            line.speed = max(0.5, amount / 3)
        elif event == "port":
            line.finished += [(line.real_s, edge) for edge in [line.schedule.port_lost()] if edge]
            passed = line.schedule.edge_without_port(line.now)
            line.finished += [(line.real_s, passed)] if passed else []
        elif event == "back":
            line.utc_s -= amount
        line.run(min(amount, 3.0))
    edges = [edge for _, edge in line.finished]
    # Each edge is finished once, in order, whatever happened.
    assert edges == sorted(set(edges))
    assert all(edge % INTERVAL_S == 0 for edge in edges)


def test_names_are_asked_once_all_samples_are_taken_and_before_the_edge_is_over() -> None:
    line = SimulatedLine([Met(tells=number != 1) for number in range(4)], utc_s=T0 + 890.0)
    line.run(30)
    edge = T0 + INTERVAL_S
    after = [asked for asked in line.log if asked.ask.edge_utc_s == edge]
    names = [asked for asked in after if asked.ask.why == "name"]
    samples = [asked for asked in after if asked.ask.why == "after edge"]
    assert [asked.ask.index for asked in names] == [0, 2, 3]
    assert max(asked.ended_s for asked in samples) <= min(asked.began_s for asked in names)
    ((finished_s, _),) = line.finished
    assert finished_s >= max(asked.ended_s for asked in names)


def test_a_name_that_is_not_told_makes_the_meter_a_failing_one() -> None:
    line = SimulatedLine([Met(tells=True), Met()], utc_s=T0 + 890.0)
    while not any(asked.ask.why == "after edge" for asked in line.of(0)):
        line.step()
    line.meters[0].away = forever
    while not line.finished:
        line.step()
    assert line.schedule.failing == [0]


@pytest.mark.parametrize("speed", [100.0, 120.0, 300.0])
def test_every_round_ends_on_a_line_that_takes_longer_than_an_interval(speed: float) -> None:
    line = SimulatedLine([Met(tells=True) for _ in range(32)], speed=speed)
    line.run(300)
    # A round is one sample and one name of every meter.
    assert len(line.finished) >= 300 / (2 * 32 * 0.25) - 2
