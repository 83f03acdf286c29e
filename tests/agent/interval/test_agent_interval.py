"""Intervals closed from samples: edges, gaps, restarts, and which meter it was."""

from __future__ import annotations

import pytest
from interval_bench import AGE, IMPORT, RAW, T0, S, flags_of, meter_of, recalled_at, rows_of, sample

from agent.driver import MeterSilent
from agent.store.database import Recalled
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA
from wire.quality import Quality


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
        meter.read()
    meter.read_all()
    assert meter.driver.asked == [True, False, False, True, False, False, False]
    # After the edge the sample comes first, as near to it as may be, the number after it.
    assert meter.driver.named_after == [6]


@pytest.mark.parametrize(("told", "edge_wh"), [("A1", 5105), ("B2", None)])
def test_a_sample_from_behind_an_edge_closes_nothing_before_the_serial_number_is_known(
    told: str, edge_wh: int | None
) -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 10, 5100, "A1"),
        sample(T0 + S + 10, 5110, told),
        sample(T0 + S + 20, 5120, told),
    )
    meter.read()
    meter.read()
    assert meter.meter.read() == []
    assert meter.meter.nameless
    groups = meter.meter.identify()
    assert not meter.meter.nameless
    values = rows_of(groups)[T0 + S]
    assert groups[0].epoch.serial == "A1"
    if edge_wh is None:
        assert values[-1] == Quality.NO_DATA
    else:
        assert values[IMPORT] == edge_wh


def test_a_deadline_reaches_the_driver() -> None:
    meter = meter_of(sample(T0 + 1, 0))
    meter.meter.read(12.5)
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


def test_a_restart_compares_no_meter_with_the_one_before_it() -> None:
    recalled = recalled_at(T0, 9_000)
    recalled.ends_utc_s.append(T0 + S)
    recalled.serial = "B2"
    meter = meter_of(
        sample(T0 + S + 10, 20, "B2"),
        sample(T0 + 2 * S, 30, "B2"),
        now=T0 + S + 5,
        recalled=recalled,
    )
    (group,) = meter.read_all()
    assert group.epoch.serial == "B2"
    assert not flags_of([group])[T0 + 2 * S] & Quality.COUNTER_RESET


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


def test_a_meter_that_tells_its_serial_number_no_more_may_be_another_one() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S, 5100),
        sample(T0 + 2 * S, 7200, None),
        sample(T0 + 3 * S, 7300, None),
    )
    groups = meter.read() + meter.read()
    meter.driver.tells = False
    groups += meter.read_all()
    assert [group.epoch.serial for group in groups if group.rows] == ["A1", "A1", "A1?2"]
    flags = flags_of(groups)
    assert flags[T0 + 2 * S] & Quality.NO_DATA
    assert flags[T0 + 3 * S] & Quality.METER_EXCHANGED
