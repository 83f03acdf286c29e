"""What the agent knows survives that its own clock is set, by days or by decades."""

from __future__ import annotations

import pytest
from recovery_bench import T0, Meter, S, meter_of, read_all

from agent.store.outline import Recalled
from wire.quality import Quality


@pytest.mark.parametrize("ahead_s", [10 * 86_400, 400 * 86_400])
def test_live_intervals_come_at_once_after_a_clock_that_was_ahead_is_set(ahead_s: int) -> None:
    """The meter's rows end at T0, whatever the agent's clock shows."""
    driver = Meter(recorded={T0 - k * S: 9 for k in range(96)})
    early = T0 + ahead_s + 5.0
    meter = meter_of(driver, early, recover_s=96 * S, history_s=500 * 86_400)
    for step in range(4):
        read_all(meter, early + step * S)
        meter.expire(early + step * S)
    now = T0 + 5.0
    got = {}
    for step in range(3):
        driver.recorded[T0 + step * S] = 9
        got |= read_all(meter, now + step * S)
    assert {end for end, flags in got.items() if flags == Quality.PROFILE} >= {
        T0 + step * S for step in range(3)
    }
    meter.expire(now + 2 * S)
    assert meter.progress(now + 2 * S) == (96, 96)


def test_a_restart_after_a_clock_that_was_ahead_forgets_what_it_said_of_the_future() -> None:
    future = [T0 + k * S for k in range(1, 500)]
    past = [T0 - k * S for k in range(1, 97)]
    driver = Meter(recorded=dict.fromkeys([*past, T0], 9))
    recalled = Recalled("A1", 0b111011, past + future, missing_utc_s=future)
    meter = meter_of(driver, T0 + 5.0, recalled=recalled)
    assert read_all(meter, T0 + 5.0) == {T0: Quality.PROFILE}
    driver.recorded[T0 + S] = 9
    driver.serial = "B2"
    assert read_all(meter, T0 + S + 5.0) == {T0 + S: Quality.PROFILE | Quality.METER_EXCHANGED}


def test_a_clock_that_was_decades_behind_reports_no_decades_missing() -> None:
    meter = meter_of(Meter(), 5.0, recalled=Recalled("A1", 0, [T0 - S, T0]), history_s=192 * S)
    (group,) = meter.expire(T0 + 5.0)
    assert len(group.rows) <= 192
    assert min(end for end, _ in group.rows) > T0 - 400 * S
