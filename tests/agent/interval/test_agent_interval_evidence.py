"""What a meter's counters and gauges say of an interval, looked at twice and never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from interval_bench import (
    EXPORT,
    IMPORT,
    MODULUS,
    RAW,
    SAMPLES,
    T0,
    VOLTAGE,
    VOLTAGE_MIN,
    S,
    flags_of,
    meter_of,
    recalled_at,
    rows_of,
    sample,
)

from agent.driver import MeterSilent
from wire.quality import Quality

# --- what the counters show


def test_a_rollover_is_interpolated_through_and_stored_as_the_meter_shows_it() -> None:
    meter = meter_of(
        sample(T0 + 1, MODULUS - 200),
        sample(T0 + S - 10, MODULUS - 40),
        sample(T0 + S + 10, 20),
        sample(T0 + S + 10.5, 20),
        sample(T0 + 2 * S, 120),
    )
    groups = meter.read_all()
    first, second = rows_of(groups)[T0 + S], rows_of(groups)[T0 + 2 * S]
    assert (first[IMPORT], first[RAW]) == (MODULUS - 10, MODULUS - 40)
    assert (second[IMPORT], second[RAW]) == (120, 120)
    assert not first[-1] & (Quality.ROLLOVER | Quality.COUNTER_RESET)
    assert second[-1] & Quality.ROLLOVER
    assert not second[-1] & Quality.COUNTER_RESET
    assert {group.epoch.serial for group in groups} == {"A1"}


def test_a_rollover_while_the_agent_was_off_is_one() -> None:
    meter = meter_of(
        sample(T0 + 200, 20),
        sample(T0 + S, 90),
        now=T0 + 190,
        recalled=recalled_at(T0, MODULUS - 30),
    )
    (closed,) = rows_of(meter.read_all()).values()
    assert closed[IMPORT] == 90
    assert closed[-1] & Quality.ROLLOVER


def test_a_reset_of_a_known_meter_is_flagged_and_its_epoch_goes_on() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 10, 5100),
        sample(T0 + S + 10, 4),
        sample(T0 + S + 10.5, 4),
        sample(T0 + 2 * S, 30),
    )
    groups = meter.read_all()
    first, second = rows_of(groups)[T0 + S], rows_of(groups)[T0 + 2 * S]
    assert (first[IMPORT], first[RAW], second[IMPORT]) == (4, 5100, 30)
    assert first[-1] & Quality.COUNTER_RESET
    assert not second[-1] & Quality.COUNTER_RESET
    assert {group.epoch.serial for group in groups} == {"A1"}


def test_a_reset_after_a_rollover_begins_again_with_what_the_meter_shows() -> None:
    meter = meter_of(
        sample(T0 + 1, MODULUS - 100),
        sample(T0 + 300, 50),
        sample(T0 + S, 900),
        sample(T0 + S + 300, 20),
        sample(T0 + S + 301, 20),
        sample(T0 + 2 * S, 400),
        sample(T0 + 3 * S, 700),
    )
    groups = meter.read_all()
    values = [rows_of(groups)[T0 + n * S] for n in (1, 2, 3)]
    assert [one[IMPORT] for one in values] == [900, 400, 700]
    flags = [one[-1] & (Quality.ROLLOVER | Quality.COUNTER_RESET) for one in values]
    assert flags == [Quality.ROLLOVER, Quality.COUNTER_RESET, 0]


def test_a_reset_of_a_meter_without_a_serial_number_opens_an_epoch_that_a_restart_keeps() -> None:
    samples = [
        sample(T0 + 1, 5000, None),
        sample(T0 + S, 5050, None),
        sample(T0 + 2 * S - 10, 5100, None),
        sample(T0 + 2 * S + 10, 4, None),
        sample(T0 + 2 * S + 11, 4, None),
        sample(T0 + 3 * S, 30, None),
    ]
    groups = meter_of(*samples).read_all()
    assert [(group.epoch.serial, *rows_of([group])) for group in groups] == [
        ("", T0 + S),
        ("", T0 + 2 * S),
        ("?2", T0 + 3 * S),
    ]
    assert flags_of(groups)[T0 + 2 * S] == Quality.NO_DATA
    assert flags_of(groups)[T0 + 3 * S] & Quality.COUNTER_RESET
    after = meter_of(
        sample(T0 + 3 * S + 10, 40, None),
        sample(T0 + 4 * S, 50, None),
        now=T0 + 3 * S + 5,
        recalled=recalled_at(T0 + 3 * S, 30, "?2"),
    )
    (group,) = after.read_all()
    assert group.epoch.serial == "?2"
    assert not flags_of([group])[T0 + 4 * S] & Quality.COUNTER_RESET


def test_a_counter_that_falls_again_and_again_opens_no_more_than_one_epoch_an_interval() -> None:
    at = [T0 + 1 + 30 * n for n in range(1, 480) for _ in (0, 1)]
    meter = meter_of(*(sample(s, (s - T0) % 500, None) for s in at))
    groups = []
    while len(meter.driver.samples) > 1:
        groups += meter.read()
        # The second of each pair answers the second look; without one it is not there.
        if len(meter.driver.samples) % 2:
            meter.driver.samples.pop(0)
    closed = sum(not flags & Quality.NO_DATA for flags in flags_of(groups).values())
    number = int(groups[-1].epoch.serial.removeprefix("?"))
    assert closed >= 5
    assert 5 <= number <= closed + 1


def test_a_jump_that_a_second_look_does_not_show_is_not_used_and_flagged() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + 300, 9_113_000),
        sample(T0 + 301, 5050),
        sample(T0 + S, 5100),
        sample(T0 + 2 * S, 5200),
    )
    groups = meter.read_all()
    assert rows_of(groups)[T0 + S][IMPORT] == 5100
    assert flags_of(groups)[T0 + S] & Quality.OUT_OF_RANGE
    assert not flags_of(groups)[T0 + 2 * S] & Quality.OUT_OF_RANGE


def test_a_jump_of_a_known_meter_is_what_it_shows_and_flagged_on_both_sides_of_the_edge() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 10, 5100),
        sample(T0 + S + 10, 905_100),
        sample(T0 + S + 10, 905_100),
        sample(T0 + 2 * S, 905_200),
        sample(T0 + 3 * S, 905_300),
    )
    flags = flags_of(meter.read_all())
    assert [bool(flags[T0 + n * S] & Quality.OUT_OF_RANGE) for n in (1, 2, 3)] == [
        True,
        True,
        False,
    ]


def test_a_jump_of_a_meter_without_a_serial_number_opens_an_epoch() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000, None),
        sample(T0 + S, 5100, None),
        sample(T0 + S + 10, 905_100, None),
        sample(T0 + S + 11, 905_100, None),
        sample(T0 + 2 * S, 905_200, None),
    )
    groups = meter.read_all()
    assert [group.epoch.serial for group in groups] == ["", "?2"]
    assert flags_of(groups)[T0 + 2 * S] & Quality.OUT_OF_RANGE


def test_an_odd_sample_is_believed_when_it_comes_again_after_a_failed_second_look() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + 300, 4),
        MeterSilent("m1: silent"),
        sample(T0 + 305, 4),
        sample(T0 + S, 9),
    )
    meter.read()
    with pytest.raises(MeterSilent):
        meter.read()
    meter.read()
    assert meter.driver.asked == [True, False, True, True]
    ((end, values),) = rows_of(meter.read()).items()
    assert (end, values[IMPORT]) == (T0 + S, 9)
    assert values[-1] & Quality.COUNTER_RESET


def test_a_counter_that_stands_still_while_power_flows_is_flagged_until_it_moves() -> None:
    at = [T0 + 1 + 60 * n for n in range(61)]
    samples = [sample(s, 1000 if n else 990, power_w=2000) for n, s in enumerate(at)]
    meter = meter_of(*samples, sample(T0 + 3700, 1010), sample(T0 + 5 * S, 1020))
    flags = flags_of(meter.read_all())
    frozen = [bool(flags[T0 + n * S] & Quality.FROZEN) for n in range(1, 6)]
    assert frozen == [False, True, True, True, False]


# --- values that are not there


def test_a_sample_without_one_of_the_meters_counters_is_not_used_and_flagged() -> None:
    meter = meter_of(
        sample(T0 + 1, 1000, export_wh=70),
        sample(T0 + 300, 1100, export_wh=None, flags=int(Quality.NO_VALUE)),
        sample(T0 + S, 1300, export_wh=70),
        sample(T0 + 2 * S, 1500, export_wh=70),
    )
    groups = meter.read_all()
    first, second = rows_of(groups)[T0 + S], rows_of(groups)[T0 + 2 * S]
    assert (first[EXPORT], second[EXPORT]) == (70, 70)
    assert (first[SAMPLES], second[SAMPLES]) == (2, 1)
    assert first[-1] & Quality.NO_VALUE
    assert not second[-1] & Quality.NO_VALUE


def test_an_interval_without_a_usable_sample_is_missing_and_says_why() -> None:
    gone = [sample(T0 + S + 1 + 100 * n, None, flags=int(Quality.NO_VALUE)) for n in range(19)]
    meter = meter_of(sample(T0 + 1, 1000), sample(T0 + S, 1100), *gone)
    meter.read_all()
    assert flags_of(meter.expire(T0 + 3 * S)) == {
        T0 + 2 * S: Quality.NO_DATA | Quality.NO_VALUE,
        T0 + 3 * S: Quality.NO_DATA | Quality.NO_VALUE,
    }


def test_a_counter_in_doubt_for_a_whole_interval_is_one_that_the_meter_does_not_have() -> None:
    ones = int(Quality.NO_VALUE)
    at = [T0 + 1, *(T0 + n * S for n in (1, 2, 3))]
    meter = meter_of(*(sample(s, n, export_wh=None, flags=ones) for n, s in enumerate(at)))
    groups = meter.read_all()
    assert {end: bool(flags & Quality.NO_DATA) for end, flags in flags_of(groups).items()} == {
        T0 + 2 * S: True,
        T0 + 3 * S: False,
    } | {T0 + S: True}
    assert not groups[-1].epoch.channels >> EXPORT & 1
    assert not flags_of(groups)[T0 + 3 * S] & Quality.NO_VALUE


def test_a_counter_that_the_meter_refuses_from_now_on_costs_one_interval_not_all() -> None:
    at = [T0 + 1, *(T0 + n * S // 3 for n in range(3, 19))]
    gone = T0 + 2 * S + 1
    meter = meter_of(*(sample(s, s - T0, export_wh=70 if s < gone else None) for s in at))
    groups = meter.read_all()
    flags = flags_of(groups)
    assert [n for n in range(1, 7) if flags[T0 + n * S] & Quality.NO_DATA] == [3]
    assert [group.epoch.serial for group in groups] == ["A1"] * 3 + ["A1?2"] * 3
    assert [bool(group.epoch.channels >> EXPORT & 1) for group in groups] == [True] * 3 + [
        False
    ] * 3


def test_a_counter_that_a_profile_learns_of_later_begins_an_epoch_of_its_own() -> None:
    at = [T0 + 1, *(T0 + n * S // 3 for n in range(3, 19))]
    new = T0 + 2 * S + 1
    meter = meter_of(*(sample(s, s - T0, export_wh=70 if s > new else None) for s in at))
    groups = meter.read_all()
    assert not any(flags & Quality.NO_DATA for flags in flags_of(groups).values())
    for group in groups:
        has = group.epoch.channels >> EXPORT & 1
        assert group.epoch.serial == ("A1?2" if has else "A1")
        assert all(values[EXPORT] == (70 if has else 0) for _, values in group.rows)
    assert groups[-1].epoch.serial == "A1?2"


def test_a_gauge_that_is_missing_once_holds_and_for_long_is_unknown_never_zero() -> None:
    bad = int(Quality.OUT_OF_RANGE)
    missing = [sample(T0 + S + 60 * n, 0, voltage_dv=None, flags=bad) for n in range(1, 40)]
    meter = meter_of(
        sample(T0 + 1, 0),
        sample(T0 + 300, 0, voltage_dv=None, flags=bad),
        sample(T0 + 310, 0),
        sample(T0 + S, 0),
        *missing,
        sample(T0 + 4 * S, 0),
        sample(T0 + 5 * S, 0),
    )
    rows = rows_of(meter.read_all())
    flags = [Quality(rows[T0 + n * S][-1]) for n in range(1, 6)]
    assert [bool(one & Quality.OUT_OF_RANGE) for one in flags] == [True, True, True, True, False]
    assert [bool(one & Quality.NO_GAUGES) for one in flags] == [False, False, True, True, False]
    assert all(
        values[VOLTAGE_MIN] == values[VOLTAGE] == 2300
        for values in rows.values()
        if not values[-1] & Quality.NO_GAUGES
    )


def test_a_gauge_that_is_wrong_from_the_beginning_holds_up_no_counter() -> None:
    bad = int(Quality.OUT_OF_RANGE)
    all_three: dict[str, Any] = {"export_wh": 7, "import_varh": 8}
    meter = meter_of(
        sample(T0 + 1, 0, voltage_dv=None, flags=bad, **all_three),
        sample(T0 + 300, 3, **all_three),
        sample(T0 + S, 9, **all_three),
        sample(T0 + 2 * S, 12, **all_three),
    )
    groups = meter.read_all()
    first, second = rows_of(groups)[T0 + S], rows_of(groups)[T0 + 2 * S]
    assert (first[IMPORT], second[IMPORT]) == (9, 12)
    assert first[-1] & Quality.NO_GAUGES
    assert not second[-1] & Quality.NO_GAUGES
    assert second[VOLTAGE_MIN] == 2300
    assert groups[-1].epoch.channels >> VOLTAGE & 1


def test_a_gauge_beyond_all_sense_is_out_of_range_and_the_counters_stay() -> None:
    meter = meter_of(
        sample(T0 + 1, 0), sample(T0 + 300, 5, power_w=1 << 60), sample(T0 + S, 10, power_w=100)
    )
    ((_, values),) = rows_of(meter.read_all()).items()
    assert values[IMPORT] == 10
    assert values[-1] & Quality.OUT_OF_RANGE
