"""Rows that a meter cannot answer for are given up, and only these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_bench import T0, Meter, S, Stumbling, meter_of, read_on

from agent.driver import MeterSilent, ReadError
from agent.store.outline import Recalled
from wire.quality import Quality


@given(
    damaged=st.sets(st.integers(1, 95), min_size=1, max_size=4),
    most=st.sampled_from([1, 16, 96, 192]),
    silent=st.booleans(),
)
def test_rows_that_cannot_be_read_are_given_up_and_keep_nothing_older_from_coming(
    damaged: set[int], most: int, silent: bool
) -> None:
    now = T0 + 5.0
    driver = Stumbling(recorded={T0 - k * S: 9 for k in range(96)})
    driver.damaged = frozenset(T0 - k * S for k in damaged)
    driver.error = MeterSilent if silent else ReadError
    meter = meter_of(driver, now, recover_s=96 * S, history_s=1000 * S)
    got = read_on(meter, now, most)
    assert {end for end, flags in got.items() if flags == Quality.NO_DATA} == driver.damaged
    assert len(got) == 96
    # Once a day they are asked for again, and come when they can.
    driver.damaged = frozenset()
    driver.recorded |= {T0 + k * S: 9 for k in range(1, 97)}
    meter.expire(now + 86_400)
    late = read_on(meter, now + 86_400, most)
    assert {end for end in late if end <= T0} == {T0 - k * S for k in damaged}


@given(most=st.sampled_from([1, 16, 96, 192]), tries=st.integers(1, 300))
def test_a_meter_that_is_away_is_never_said_to_lack_anything(most: int, tries: int) -> None:
    now = T0 + 5.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(96)})
    recalled = Recalled("A1", 0b111011, [T0 - 50 * S])
    meter = meter_of(driver, now, recalled=recalled, recover_s=96 * S)
    driver.silent = True
    with pytest.raises(AssertionError, match="for ever"):
        read_on(meter, now, most, tries)
    driver.silent = False
    assert set(read_on(meter, now, most).values()) == {int(Quality.PROFILE)}


def test_the_newest_row_is_not_given_up_while_the_meter_may_be_writing_it() -> None:
    now = T0 + 5.0
    driver = Stumbling(recorded={T0 - k * S: 9 for k in range(96)})
    driver.damaged = frozenset([T0])
    meter = meter_of(driver, now, recalled=Recalled("A1", 0, [T0 - k * S for k in range(1, 97)]))
    with pytest.raises(AssertionError, match="for ever"):
        read_on(meter, now, 16, 200)
    driver.damaged = frozenset()
    assert read_on(meter, now, 16) == {T0: Quality.PROFILE}
