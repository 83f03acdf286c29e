"""Chores come last: they delay no live read, no edge and no recovery."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_bench import INTERVAL_S, Met, SimulatedLine, forever


def chores_of(line: SimulatedLine) -> list[int]:
    return [asked.ask.index for asked in line.log if asked.ask.why == "chore"]


def test_chores_wait_until_no_interval_of_the_line_is_missing() -> None:
    line = SimulatedLine(
        [Met(keeps_profile=True, chore_s=1.0), Met(keeps_profile=True, missing=1, chore_s=1.0)]
    )
    line.run(60.0)
    assert chores_of(line) == []
    line.meters[1].missing = None
    line.run(60.0)
    assert {0, 1} == set(chores_of(line))


def test_chores_of_several_meters_take_turns() -> None:
    line = SimulatedLine([Met(keeps_profile=True, chore_s=1.0) for _ in range(3)])
    line.run(30.0)
    turns = chores_of(line)
    assert turns[:6] == [0, 1, 2, 0, 1, 2]


def test_a_meter_that_fails_is_asked_for_no_chore() -> None:
    line = SimulatedLine(
        [Met(keeps_profile=True, away=forever, chore_s=1.0), Met(keeps_profile=True)]
    )
    line.run(2 * INTERVAL_S)
    asked = line.of(0)
    first_failure = next(number for number, one in enumerate(asked) if not one.answered)
    assert all(one.ask.why != "chore" for one in asked[first_failure:])


@settings(max_examples=20, deadline=None)
@given(
    chore_s=st.lists(st.floats(5.0, 200.0), min_size=1, max_size=3),
    before_edge_s=st.floats(1.0, 899.0),
)
def test_no_edge_waits_for_a_chore(chore_s: list[float], before_edge_s: float) -> None:
    line = SimulatedLine(
        [Met(keeps_profile=True, chore_s=taken) for taken in chore_s],
        utc_s=1_767_225_600 + INTERVAL_S - before_edge_s,
    )
    line.run(before_edge_s + 670.0)
    edges = [asked for asked in line.log if asked.ask.why == "after edge"]
    assert len(edges) == len(chore_s)
    for earlier, one in enumerate(edges):
        # One after the other from the edge on, whatever chores there were before it.
        assert one.began_utc_s - one.ask.edge_utc_s <= 0.25 * earlier + 0.3
    assert set(chores_of(line)) == set(range(len(chore_s)))
