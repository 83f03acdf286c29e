from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.driver import CounterLimits, MeterSilent, ProfileRow, Sample
from agent.interval import SampledMeter
from agent.store.database import Recalled
from agent.store.rows import MeterRows
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
IMPORT, EXPORT, RAW, AGE, VOLTAGE, VOLTAGE_MIN, SAMPLES = (
    SAMPLED_SCHEMA.index(name)
    for name in (
        "import_wh",
        "export_wh",
        "raw_import_wh",
        "raw_age_ms",
        "voltage_dv",
        "voltage_min_dv",
        "samples",
    )
)
CHANNELS = ((1 << len(SAMPLED_SCHEMA.channels)) - 1) & ~sum(
    1 << SAMPLED_SCHEMA.index(name)
    for name in ("export_wh", "raw_export_wh", "import_varh", "raw_import_varh")
)
MODULUS = 100_000_000
LIMITS = CounterLimits({"import_wh": MODULUS}, most_per_hour=15_000)


@dataclass
class Meter:
    """A driver that answers with prepared samples; the serial number only when it is asked."""

    samples: list[Sample | MeterSilent] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    deadlines_s: list[float] = field(default_factory=list)
    keeps_profile: bool = False
    counter_limits: CounterLimits = field(default_factory=CounterLimits)

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        self.asked.append(identify)
        self.deadlines_s.append(deadline_s)
        sample = self.samples.pop(0)
        if isinstance(sample, MeterSilent):
            raise sample
        return sample if identify else without_serial(sample)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise NotImplementedError


def without_serial(sample: Sample) -> Sample:
    return Sample(
        sample.at_utc_ms,
        sample.import_wh,
        sample.export_wh,
        sample.import_varh,
        sample.voltage_dv,
        sample.current_ca,
        sample.power_w,
        None,
        sample.flags,
    )


def sample(at_s: float, wh: int | None, serial: str | None = "A1", **values: int | None) -> Sample:
    shown = {"voltage_dv": 2300, "current_ca": 50, "power_w": 100, "flags": 0} | values
    return Sample(round(at_s * 1000), import_wh=wh, serial=serial, **shown)  # type: ignore[arg-type]


@dataclass
class Bench:
    """A meter under test and what its driver was asked."""

    driver: Meter
    meter: SampledMeter

    def read(self, now_utc_s: float | None = None) -> list[MeterRows]:
        """Read when the driver's next sample is due."""
        if now_utc_s is None:
            due = self.driver.samples[0]
            assert isinstance(due, Sample)
            now_utc_s = due.at_utc_ms / 1000
        return self.meter.read(now_utc_s)

    def read_all(self) -> list[MeterRows]:
        groups = []
        while self.driver.samples:
            groups += self.read()
        return groups

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        return self.meter.expire(now_utc_s)


def meter_of(
    *samples: Sample | MeterSilent,
    now: float = T0,
    recalled: Recalled | None = None,
    limits: CounterLimits = LIMITS,
    serial: str = "",
) -> Bench:
    driver = Meter(list(samples))
    return Bench(
        driver,
        SampledMeter(
            "m1",
            driver,
            interval_s=S,
            recover_s=96 * S,
            now_utc_s=now,
            recalled=recalled,
            limits=limits,
            serial=serial,
        ),
    )


def rows_of(groups: list[MeterRows]) -> dict[int, tuple[int, ...]]:
    return {end: tuple(values) for group in groups for end, values in group.rows}


def flags_of(groups: list[MeterRows]) -> dict[int, Quality]:
    return {end: Quality(values[-1]) for end, values in rows_of(groups).items()}


def recalled_at(end: int, wh: int, serial: str = "A1") -> Recalled:
    values = [0] * len(SAMPLED_SCHEMA.channels)
    values[IMPORT] = wh
    return Recalled(
        serial,
        CHANNELS,
        [end - S, end],
        (end, tuple(values)),
        schema_id=SAMPLED_SCHEMA.id,
        data_serial=serial,
    )


def test_the_counter_is_interpolated_to_the_edge_and_the_raw_one_kept() -> None:
    meter = meter_of(sample(T0 + 1, 0), sample(T0 + S - 10, 1000), sample(T0 + S + 10, 1020))
    assert meter.read() == []
    assert meter.read() == []
    (group,) = meter.read()
    values = rows_of([group])[T0 + S]

    assert values[IMPORT] == 1010
    assert (values[RAW], values[AGE]) == (1000, 10_000)
    assert values[-1] & Quality.INTERPOLATED
    assert not group.epoch.channels >> SAMPLED_SCHEMA.index("export_wh") & 1
    assert group.epoch.channels >> SAMPLED_SCHEMA.index("raw_import_wh") & 1


def test_a_silence_longer_than_an_interval_is_reported_missing_exactly_once() -> None:
    meter = meter_of(sample(T0 + 10, 0), sample(T0 + 3 * S + 10, 9), sample(T0 + 4 * S, 12))
    meter.read()
    assert meter.expire(T0 + S + 5) == []
    early = rows_of(meter.expire(T0 + 2 * S + 20))
    assert list(early) == [T0 + S, T0 + 2 * S]
    assert all(values[-1] == Quality.NO_DATA for values in early.values())
    assert list(rows_of(meter.read())) == [T0 + 3 * S]
    (closed,) = rows_of(meter.read()).items()
    assert closed[0] == T0 + 4 * S
    assert closed[1][IMPORT] == 12
    assert closed[1][-1] & Quality.PARTIAL


def test_a_meter_that_never_answered_is_reported_missing_from_the_agents_start() -> None:
    meter = meter_of(now=T0 + 100)
    assert meter.expire(T0 + S + 50) == []
    missing = meter.expire(T0 + 2 * S)
    assert list(rows_of(missing)) == [T0 + S, T0 + 2 * S]
    # Nothing is said of what the meter has: a counter that it lacks must not come out as 0.
    assert not missing[0].epoch.channels >> IMPORT & 1


def test_a_short_restart_goes_on_from_the_stored_edge() -> None:
    meter = meter_of(
        sample(T0 + 200, 20), sample(T0 + S, 90), now=T0 + 190, recalled=recalled_at(T0, 10)
    )
    assert meter.read() == []
    (closed,) = rows_of(meter.read()).items()
    assert closed[0] == T0 + S
    assert closed[1][IMPORT] == 90
    assert closed[1][-1] & Quality.PARTIAL


def test_a_restart_that_took_too_long_leaves_a_reported_gap() -> None:
    meter = meter_of(
        sample(T0 + 2 * S + 5, 20),
        sample(T0 + 3 * S, 90),
        now=T0 + 2 * S,
        recalled=recalled_at(T0, 1),
    )
    assert flags_of(meter.read()) == {T0 + S: Quality.NO_DATA, T0 + 2 * S: Quality.NO_DATA}
    assert list(rows_of(meter.read())) == [T0 + 3 * S]


# --- who it is


def test_the_serial_number_is_asked_at_first_after_a_failure_and_after_each_edge() -> None:
    meter = meter_of(
        sample(T0 + 1, 0),
        sample(T0 + 60, 1),
        MeterSilent("m1: silent"),
        sample(T0 + 120, 2),
        sample(T0 + 180, 3),
        sample(T0 + S, 9),
        sample(T0 + S + 10, 9),
    )
    meter.read()
    meter.read()
    with pytest.raises(MeterSilent):
        meter.read(T0 + 90)
    meter.read_all()
    assert meter.driver.asked == [True, False, False, True, False, True, False]


@pytest.mark.parametrize(("told", "edge_wh"), [("A1", 5105), ("B2", None)])
def test_a_read_that_runs_over_an_edge_closes_nothing_before_the_serial_number_is_known(
    told: str, edge_wh: int | None
) -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 10, 5100, "A1"),
        sample(T0 + S + 10, 5110, told),
        sample(T0 + S + 20, 5120, told),
        sample(T0 + S + 21, 5120, told),
    )
    meter.read()
    meter.read()
    assert meter.read(T0 + S - 1) == []
    assert meter.driver.asked == [True, False, False]
    groups = meter.read()
    values = rows_of(groups)[T0 + S]
    assert meter.driver.asked[3]
    assert groups[0].epoch.serial == "A1"
    if edge_wh is None:
        assert values[-1] == Quality.NO_DATA
    else:
        assert values[IMPORT] == edge_wh


def test_a_deadline_reaches_the_driver() -> None:
    meter = meter_of(sample(T0 + 1, 0))
    meter.meter.read(T0 + 1, 12.5)
    assert meter.driver.deadlines_s == [12.5]


def test_no_difference_is_taken_across_an_exchange() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 1, 5100),
        sample(T0 + S + 20, 3, "B2"),
        sample(T0 + S + 21, 3, "B2"),
        sample(T0 + 2 * S, 8, "B2"),
        sample(T0 + 3 * S, 9, "B2"),
    )
    meter.read()
    meter.read()
    lost = meter.read()
    assert flags_of(lost) == {T0 + S: Quality.NO_DATA}
    assert lost[0].epoch.serial == "A1"
    (first,) = meter.read()
    assert first.epoch.serial == "B2"
    assert rows_of([first])[T0 + 2 * S][IMPORT] == 8
    assert flags_of([first])[T0 + 2 * S] & Quality.METER_EXCHANGED
    assert not flags_of(meter.read())[T0 + 3 * S] & Quality.METER_EXCHANGED


def test_an_exchange_between_two_edges_is_noticed_by_the_counter_and_asked_again() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + 300, 3, "B2"),
        sample(T0 + 301, 3, "B2"),
        sample(T0 + S, 9, "B2"),
    )
    meter.read()
    assert meter.read() == []
    assert meter.driver.asked == [True, False, True]
    (group,) = meter.read()
    assert (group.epoch.serial, rows_of([group])[T0 + S][IMPORT]) == ("B2", 9)
    assert flags_of([group])[T0 + S] == Quality.METER_EXCHANGED | Quality.PARTIAL


def test_a_serial_number_seen_once_and_then_no_more_opens_no_epoch() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S, 5100, "B2"),
        sample(T0 + S, 5100, "A1"),
        sample(T0 + 2 * S, 5200),
    )
    groups = meter.read_all()
    assert {group.epoch.serial for group in groups} == {"A1"}
    assert [rows_of(groups)[T0 + n * S][IMPORT] for n in (1, 2)] == [5100, 5200]
    assert flags_of(groups)[T0 + 2 * S] & Quality.OUT_OF_RANGE


def test_a_serial_number_set_by_hand_names_a_meter_that_tells_none() -> None:
    meter = meter_of(sample(T0 + 1, 10, None), sample(T0 + S, 20, None), serial="H1")
    (group,) = meter.read_all()
    assert group.epoch.serial == "H1"
    assert not flags_of([group])[T0 + S] & Quality.METER_EXCHANGED


def test_a_serial_number_changed_by_hand_opens_a_new_epoch() -> None:
    meter = meter_of(
        sample(T0 + 10, 20, None),
        sample(T0 + S, 30, None),
        now=T0 + 5,
        recalled=recalled_at(T0, 10, "H1"),
        serial="H2",
    )
    (group,) = meter.read_all()
    assert group.epoch.serial == "H2"
    assert flags_of([group])[T0 + S] & Quality.METER_EXCHANGED


def test_what_another_kind_of_meter_left_in_the_store_is_not_gone_on_from() -> None:
    recalled = Recalled(
        "4711",
        0b111111,
        [T0],
        (T0, (9_000, 0, 0, 2300, 5, 2)),
        schema_id=PROFILE_SCHEMA.id,
        data_serial="4711",
    )
    meter = meter_of(
        sample(T0 + 10, 20, None), sample(T0 + S, 30, None), now=T0 + 5, recalled=recalled
    )
    (group,) = meter.read_all()
    assert (group.epoch.serial, group.epoch.schema_id) == ("", SAMPLED_SCHEMA.id)
    assert rows_of([group])[T0 + S][IMPORT] == 30
    assert not flags_of([group])[T0 + S] & Quality.COUNTER_RESET


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


# --- over everything


@settings(max_examples=200)
@given(
    steps=st.lists(st.integers(1, 4000), min_size=1, max_size=40),
    silences=st.sets(st.integers(0, 40)),
)
def test_every_interval_is_reported_once_in_order_and_closed_ones_sum_exactly(
    steps: list[int], silences: set[int]
) -> None:
    at, samples = T0 + 1.0, [sample(T0 + 1.0, 0)]
    for step in steps:
        at += step
        samples.append(sample(at, int(at - T0)))
    meter = meter_of(*samples)
    ends: list[int] = []
    for number, taken in enumerate(samples):
        if number in silences:
            ends += rows_of(meter.expire(taken.at_utc_ms / 1000 - 0.5))
        for end, values in rows_of(meter.read()).items():
            ends.append(end)
            if not values[-1] & Quality.NO_DATA:
                assert abs(values[IMPORT] - (end - T0)) <= 1
    newest = int(at // S) * S
    assert ends == list(range(T0 + S, newest + S, S))


@dataclass
class Walker:
    """A meter that counts, rolls over, is reset, exchanged, or shows nothing, as it is told."""

    tells: bool
    at_ms: int = T0 * 1000 + 500
    true_wh: int = MODULUS - 4000
    number: int = 1
    lost: bool = False
    keeps_profile: bool = False
    counter_limits: CounterLimits = LIMITS
    shown: list[tuple[int, int]] = field(default_factory=list)

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        self.at_ms += 300
        if self.lost:
            return Sample(self.at_ms, None, voltage_dv=2300, flags=int(Quality.NO_VALUE))
        wh = self.true_wh % MODULUS
        self.shown.append((self.at_ms, wh))
        serial = f"N{self.number}" if identify and self.tells else None
        return Sample(self.at_ms, wh, voltage_dv=2300, power_w=5000, serial=serial)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise NotImplementedError


EVENTS = st.sampled_from(["count"] * 12 + ["reset", "exchange", "lose", "find", "jump"])


@settings(max_examples=300, deadline=None)
@given(
    tells=st.booleans(),
    steps=st.lists(st.tuples(EVENTS, st.integers(5, 700)), min_size=5, max_size=60),
)
def test_sums_telescope_and_nothing_is_negative_or_invented(
    tells: bool, steps: list[tuple[str, int]]
) -> None:
    walker = Walker(tells)
    meter = SampledMeter(
        "m1",
        walker,
        interval_s=S,
        recover_s=96 * S,
        now_utc_s=T0,
        recalled=None,
        limits=LIMITS,
    )
    kept: list[tuple[int, str, tuple[int, ...]]] = []
    for event, seconds in steps:
        walker.at_ms += seconds * 1000
        if event == "count":
            walker.true_wh += seconds * 4
        elif event == "reset":
            walker.true_wh = 0
        elif event == "exchange":
            walker.true_wh, walker.number = 77_000_000, walker.number + 1
        elif event == "jump":
            walker.true_wh += 5_000_000
        else:
            walker.lost = event == "lose"
        for group in meter.read(walker.at_ms / 1000):
            kept += [(end, group.epoch.serial, tuple(values)) for end, values in group.rows]
    ends = [end for end, _, _ in kept]
    assert ends == list(range(T0 + S, T0 + S + S * len(ends), S))
    raw = {wh for _, wh in walker.shown}
    breaks = Quality.COUNTER_RESET | Quality.METER_EXCHANGED
    before: tuple[int, str, tuple[int, ...]] | None = None
    for end, serial, values in kept:
        flags = Quality(values[-1])
        if flags & Quality.NO_DATA:
            before = None
            continue
        assert values[RAW] in raw
        assert 0 <= values[IMPORT] < MODULUS
        if before is not None and before[1] == serial and not flags & breaks:
            gained = values[IMPORT] - before[2][IMPORT]
            assert (gained < 0) is bool(flags & Quality.ROLLOVER)
            gained %= MODULUS
            # Nothing can be counted faster than the meter can, unless it is flagged.
            assert gained <= 15_000 * (2 * S + 360) // 3600 or flags & Quality.OUT_OF_RANGE
        before = (end, serial, values)
