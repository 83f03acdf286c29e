"""The share of time in which a line was busy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.poll.load import LineLoad


def test_a_line_that_was_never_read_is_not_busy() -> None:
    load = LineLoad(100.0)
    assert load.busy_share(100.0) == 0
    assert load.busy_share(200.0) == 0


def test_reads_that_take_a_quarter_of_the_time_make_a_quarter() -> None:
    load = LineLoad(0.0)
    for second in range(600):
        load.read(second + 0.75, second + 1.0)
    assert load.busy_share(600.0) == pytest.approx(0.25, abs=0.01)


def test_what_was_minutes_ago_is_forgotten() -> None:
    load = LineLoad(0.0)
    load.read(0.0, 300.0)
    assert load.busy_share(300.0) == pytest.approx(1)
    assert load.busy_share(360.0) == pytest.approx(0.37, abs=0.02)
    assert load.busy_share(900.0) < 0.001


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=50), st.floats(0, 1000))
def test_the_share_lies_between_nothing_and_all(
    reads: list[tuple[float, float]], later_s: float
) -> None:
    now_s = 50.0
    load = LineLoad(now_s)
    for pause_s, taken_s in reads:
        load.read(now_s + pause_s, now_s + pause_s + taken_s)
        now_s += pause_s + taken_s
    assert 0 <= load.busy_share(now_s + later_s) <= 1 + 1e-9
