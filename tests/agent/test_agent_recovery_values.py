"""A row of a profile as the wire has it: what it lacks is said, never made up."""

from __future__ import annotations

from recovery_bench import T0, Rows, S, flags_by_end, meter_of

from agent.driver import ProfileRow
from agent.recovery import Gap
from wire.quality import Quality


def test_a_null_counter_is_never_taken_for_zero() -> None:
    rows = [
        ProfileRow(T0 - S, import_wh=1000, export_wh=None, voltage_dv=2300, current_ca=100),
        ProfileRow(T0, import_wh=1100, export_wh=500, voltage_dv=None, current_ca=100),
    ]
    driver = Rows(rows)
    (group,) = meter_of(driver, T0 + 1).read(Gap(T0 - S, T0), T0 + 1)
    assert dict(group.rows) == {
        T0 - S: (0, 0, 0, 0, 0, int(Quality.NO_DATA)),
        T0: (1100, 500, 0, 0, 100, int(Quality.PROFILE | Quality.NO_GAUGES)),
    }


def test_what_the_first_rows_lack_is_no_channel_less_for_those_that_follow() -> None:
    driver = Rows([ProfileRow(T0 - S, import_wh=1, export_wh=1, current_ca=5)])
    meter = meter_of(driver, T0 + 1)
    (before,) = meter.read(Gap(T0 - S, T0 - S), T0 + 1)
    driver.rows = [ProfileRow(T0, import_wh=2, export_wh=1, voltage_dv=2300, current_ca=5)]
    (after,) = meter.read(Gap(T0, T0), T0 + 1)
    assert before.epoch.channels == after.epoch.channels == 0b111011
    assert after.rows == [(T0, (2, 1, 0, 2300, 5, int(Quality.PROFILE)))]


def test_values_that_no_meter_has_are_refused_here_as_the_centre_would_refuse_the_whole_batch() -> (
    None
):
    driver = Rows(
        [
            ProfileRow(T0 - S, import_wh=1 << 53, export_wh=0, voltage_dv=2300, current_ca=5),
            ProfileRow(T0, import_wh=1, export_wh=0, voltage_dv=1 << 40, current_ca=5),
        ]
    )
    (group,) = meter_of(driver, T0 + 1).read(Gap(T0 - S, T0), T0 + 1)
    flags = flags_by_end([group])
    assert flags[T0 - S] == Quality.NO_DATA | Quality.OUT_OF_RANGE
    assert flags[T0] == Quality.PROFILE | Quality.NO_GAUGES | Quality.OUT_OF_RANGE
