"""Reading a load profile from meters of many habits, and what is never read wrong."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import AccessRefused, AnswerTooLarge, MeterDiffers
from agent.dlms.load_profile.columns import RowsDoNotFit, capture_positions
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.settings import Security
from tests.agent.dlms.plain_meter import (
    COLUMNS,
    IMPORT,
    PERIOD_S,
    PlainMeter,
    Row,
)
from wire.quality import Quality

NOW_UTC_S = 1_763_820_003
EDGE = NOW_UTC_S - NOW_UTC_S % PERIOD_S
PROFILE = int(Quality.PROFILE)
CLASS = load_meter_class("idis_residential")


class StoppedClock:
    def __init__(self) -> None:
        self.utc_s = float(NOW_UTC_S)

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


def a_row(end: int, **changes) -> Row:
    number = end // PERIOD_S
    values = [number * 7 % 10**9, number % 1000, number * 3 % 10**6, 2300 + number % 40, 400]
    return dataclasses.replace(Row(end, values), **changes)


def a_meter(count: int = 200, *habits: str, **fields) -> PlainMeter:
    rows = [a_row(EDGE - PERIOD_S * ago) for ago in reversed(range(count))]
    return PlainMeter(StoppedClock(), rows, frozenset(habits), **fields)


def a_driver(meter: PlainMeter, *, transformers=None, **changes) -> DlmsDriver:
    """A driver whose meter class, or its profile, differs in the named settings."""
    of_profile = {field.name for field in dataclasses.fields(CLASS.profile)}
    profile = {name: changes.pop(name) for name in list(changes) if name in of_profile}
    meter_class = dataclasses.replace(
        CLASS,
        mechanism="none",
        profile=dataclasses.replace(CLASS.profile, **profile),
        **changes,
    )
    ratios = {} if transformers is None else {"transformers": transformers}
    return DlmsDriver(
        lambda client_sap: meter,
        meter_class,
        meter.clock,
        security=Security(),
        name="meter P1",
        **ratios,
    )


def written(rows, first, last):
    return {row.stamp_utc_s: tuple(row.values) for row in rows if first <= row.stamp_utc_s <= last}


def read(rows):
    return {
        row.end_utc_s: (
            row.import_wh,
            row.export_wh,
            row.import_varh,
            row.voltage_dv,
            row.current_ca,
        )
        for row in rows
    }


HABITS = (
    "range refused",
    "range empty",
    "whole hours",
    "exclusive",
    "ignores range",
    "bounds without deviation",
    "null clocks",
    "null values",
    "newest first",
)


def order(habits):
    return "newest first" if "newest first" in habits else "oldest first"


@pytest.mark.parametrize("habit", ["", *HABITS])
@pytest.mark.parametrize("ago", [(0, 0), (1, 1), (3, 6), (90, 99), (0, 150)])
def test_whatever_the_meters_habit_the_rows_come(habit, ago):
    meter = a_meter(200, habit)
    first, last = EDGE - ago[1] * PERIOD_S, EDGE - ago[0] * PERIOD_S
    driver = a_driver(meter, order=order([habit]))
    for _ in range(2):
        assert read(driver.profile(first, last)) == written(meter.rows, first, last)


@pytest.mark.parametrize("access", ["range", "entry", "range, else entry"])
@pytest.mark.parametrize("habit", ["", "ignores range", "newest first"])
def test_less_is_asked_for_where_an_answer_is_too_large(habit, access):
    meter = a_meter(200, habit, most_entries=20)
    if (habit, access) == ("ignores range", "range"):
        with pytest.raises(AnswerTooLarge):
            a_driver(meter, access=access).profile(EDGE - 90 * PERIOD_S, EDGE)
        return
    driver = a_driver(meter, access=access, order=order([habit]))
    found = read(driver.profile(EDGE - 90 * PERIOD_S, EDGE))
    assert found == written(meter.rows, EDGE - 90 * PERIOD_S, EDGE)
    asked = len(meter.asked)
    driver.profile(EDGE - 9 * PERIOD_S, EDGE)
    assert len(meter.asked) - asked <= 8, "what was too large is remembered"


@pytest.mark.parametrize("habit", ["range refused", "range empty"])
def test_a_meter_that_reads_by_entry_only_is_remembered(habit):
    meter = a_meter(200, habit)
    driver = a_driver(meter)
    driver.profile(EDGE - 4 * PERIOD_S, EDGE)
    assert meter.asked.count("range") == 1
    driver.profile(EDGE - 9 * PERIOD_S, EDGE)
    assert meter.asked.count("range") == 1
    meter.serial = "P2"
    meter.habits = frozenset()
    driver.profile(EDGE, EDGE)
    driver.profile(EDGE, EDGE)
    assert meter.asked[-1] == "range", "an exchanged meter has its own habits"


def test_a_meter_that_reads_by_range_is_not_asked_by_entry():
    meter = a_meter()
    driver = a_driver(meter)
    driver.profile(EDGE, EDGE)
    driver.profile(EDGE - 20 * PERIOD_S, EDGE)
    assert "entry" not in meter.asked


def test_a_refused_range_is_the_error_where_entries_are_refused_too():
    driver = a_driver(a_meter(20, "range refused", "no entry"))
    with pytest.raises(AccessRefused, match="other-reason"):
        driver.profile(EDGE, EDGE)


def test_a_gap_is_believed_where_the_meter_has_no_access_by_entry():
    meter = a_meter(20, "no entry")
    del meter.rows[-6]
    driver = a_driver(meter)
    for _ in range(2):
        rows = driver.profile(EDGE - 9 * PERIOD_S, EDGE)
        assert read(rows) == written(meter.rows, EDGE - 9 * PERIOD_S, EDGE)
    assert meter.asked.count("entry") == 1


@pytest.mark.parametrize(("access", "never"), [("range", "entry"), ("entry", "range")])
def test_the_class_may_say_how_rows_are_selected(access, never):
    meter = a_meter(30)
    del meter.rows[10]
    driver = a_driver(meter, access=access)
    assert len(driver.profile(EDGE - 25 * PERIOD_S, EDGE)) == 25
    assert never not in meter.asked


def test_reading_by_entry_takes_few_rows_of_a_large_memory():
    meter = a_meter(5760)
    sent = []
    whole = meter.encoded
    meter_encoded = lambda rows: sent.append(len(rows)) or whole(rows)  # noqa: E731

    class Counting(PlainMeter):
        encoded = staticmethod(meter_encoded)

    counting = Counting(meter.clock, meter.rows)
    driver = a_driver(counting, access="entry")
    first = EDGE - 3000 * PERIOD_S
    assert read(driver.profile(first, first + 900)) == written(meter.rows, first, first + 900)
    assert sum(sent) < 60


def test_what_lies_before_the_memory_costs_few_requests():
    meter = a_meter(100)
    assert a_driver(meter).profile(0, EDGE - 5000 * PERIOD_S) == []
    assert len(meter.asked) < 20


def test_columns_are_read_once_a_day_and_mapped_again_only_when_they_change():
    meter = a_meter()
    driver = a_driver(meter)
    driver.profile(EDGE, EDGE)
    driver.profile(EDGE, EDGE)
    assert meter.asked.count("columns") == 1
    mapped = driver._profile._columns
    meter.clock.utc_s += 86400
    driver.profile(EDGE, EDGE)
    assert meter.asked.count("columns") == 2
    assert driver._profile._columns is mapped


def test_columns_that_change_are_found_by_rows_that_do_not_fit():
    meter = a_meter()
    driver = a_driver(meter)
    driver.profile(EDGE, EDGE)
    meter.columns = (*COLUMNS[:2], (3, bytes([1, 0, 5, 8, 0, 255])), *COLUMNS[2:])
    for row in meter.rows:
        row.values = [99, *row.values]
    rows = driver.profile(EDGE - PERIOD_S, EDGE)
    assert [row.import_wh for row in rows] == [row.values[1] for row in meter.rows[-2:]]


def test_rows_that_fit_no_columns_are_an_error():
    meter = a_meter()
    for row in meter.rows:
        row.values = row.values[:-1]
    with pytest.raises(RowsDoNotFit, match="7 columns, came 6"):
        a_driver(meter).profile(EDGE, EDGE)


def test_scalers_and_columns_of_an_exchanged_meter_are_read_anew():
    meter = a_meter()
    driver = a_driver(meter)
    driver.profile(EDGE, EDGE)
    meter.serial = "P2"
    meter.scalers[IMPORT[1]] = (1, 30)
    (row,) = driver.profile(EDGE, EDGE)
    assert row.import_wh == meter.rows[-1].values[0] * 10
    assert driver.serial == "P2"


def test_a_profile_that_is_captured_by_an_action_needs_its_period_from_the_class():
    meter = a_meter(period_s=0)
    with pytest.raises(MeterDiffers, match="period_s"):
        a_driver(meter).profile(EDGE, EDGE)
    assert len(a_driver(meter, period_s=900).profile(EDGE - 1800, EDGE)) == 3


@st.composite
def memories(draw):
    """Rows as a meter may have written them: outages, a clock set forward and back.

    Set back by less than an hour in an hour: entries are read so far beyond a range.
    """
    rows, stamp, jump = [], EDGE - draw(st.integers(20, 120)) * PERIOD_S, 0
    while stamp <= EDGE:
        for _ in range(draw(st.integers(4 if jump < 0 else 1, 30))):
            if stamp <= EDGE:
                rows.append(a_row(stamp, values=[len(rows), 1, 2, 2300, len(rows) % 3]))
            stamp += PERIOD_S
        jump = draw(st.sampled_from([0, 1, 7, 50, -1, -3]))
        stamp += jump * PERIOD_S
    return rows


@settings(max_examples=300, deadline=None)
@given(
    rows=memories(),
    habits=st.sets(st.sampled_from(HABITS)),
    slice_rows=st.sampled_from([5, 40, 1000]),
    asks=st.lists(st.tuples(st.integers(0, 130), st.integers(0, 40)), min_size=1, max_size=4),
)
def test_what_comes_is_what_was_written_and_all_of_it(rows, habits, slice_rows, asks):
    meter = PlainMeter(StoppedClock(), rows, frozenset(habits))
    driver = a_driver(meter, slice_rows=slice_rows, order=order(habits))
    for ago, length in asks:
        first = EDGE - ago * PERIOD_S
        last = min(EDGE, first + length * PERIOD_S)
        stamps = {}
        for row in rows:
            stamps.setdefault(row.stamp_utc_s, []).append(tuple(row.values))
        found = read(driver.profile(first, last))
        for end, values in found.items():
            assert values in stamps[end], "a wrong value"
        settled = min(last, NOW_UTC_S - PERIOD_S)
        assert {end for end in stamps if first <= end <= settled} <= set(found), "incomplete"


@pytest.mark.parametrize("slice_rows", [5, 40])
def test_rows_by_entry_are_complete_around_a_clock_that_was_set_back(slice_rows):
    begin = EDGE - 40 * PERIOD_S
    # Set forward by seven intervals, then back by three: 15 and 16 were written after 17 only.
    places = [*range(10), 17, *range(15, 41)]
    stamps = [begin + place * PERIOD_S for place in places]
    rows = [a_row(stamp, values=[place, 1, 2, 2300, 0]) for place, stamp in enumerate(stamps)]
    driver = a_driver(
        PlainMeter(StoppedClock(), rows, frozenset({"range refused"})), slice_rows=slice_rows
    )
    for first in stamps:
        last = min(EDGE, first + 2 * PERIOD_S)
        found = {row.end_utc_s for row in driver.profile(first, last)}
        assert found == {stamp for stamp in stamps if first <= stamp <= last}


def test_bounds_on_the_hour_prove_nothing_of_other_bounds():
    meter = a_meter(60, "whole hours")
    hour = EDGE - EDGE % 3600
    meter.clock.utc_s = hour + 3.0
    meter.rows = [row for row in meter.rows if row.stamp_utc_s <= hour]
    driver = a_driver(meter)
    assert len(driver.profile(hour, hour)) == 1
    for end in range(hour - 8 * PERIOD_S, hour, PERIOD_S):
        assert [row.end_utc_s for row in driver.profile(end, end)] == [end]


@pytest.mark.parametrize("access", ["range", "entry"])
def test_of_rows_with_one_stamp_the_first_counts_and_is_marked(access):
    meter = a_meter(20)
    again = dataclasses.replace(meter.rows[-3], values=[9, 9, 9, 9, 9])
    meter.rows.insert(18, again)
    rows = a_driver(meter, access=access, slice_rows=4).profile(EDGE - 6 * PERIOD_S, EDGE)
    marked = {row.end_utc_s for row in rows if row.flags & Quality.CLOCK_UNTRUSTED}
    assert marked == {again.stamp_utc_s}
    assert read(rows)[again.stamp_utc_s] == tuple(meter.rows[17].values)


def test_a_row_off_the_period_is_passed_over():
    meter = a_meter(20)
    meter.rows.insert(18, a_row(meter.rows[17].stamp_utc_s + 100))
    rows = a_driver(meter).profile(EDGE - 6 * PERIOD_S, EDGE)
    assert [row.end_utc_s for row in rows] == [EDGE - ago * PERIOD_S for ago in range(6, -1, -1)]


@pytest.mark.parametrize("access", ["range", "entry", "range, else entry"])
@pytest.mark.parametrize("habit", ["", "null clocks", "newest first"])
def test_a_row_without_a_whole_date_costs_only_the_rows_that_count_from_it(habit, access):
    lost = [EDGE - ago * PERIOD_S for ago in (0, 4, 5, 9)]

    class Forgetful(PlainMeter):
        def octets(self, utc_s):
            whole = super().octets(utc_s)
            return b"\xff" * 4 + whole[4:] if utc_s in lost else whole

    whole = a_meter(40, habit)
    # Of the rows without clock only those count that follow one with a clock.
    before_lost = EDGE - 10 * PERIOD_S
    rows = [row for row in whole.rows if habit != "null clocks" or row.stamp_utc_s != before_lost]
    meter = Forgetful(whole.clock, rows, whole.habits)
    driver = a_driver(meter, access=access, order=order([habit]))
    first = EDGE - 12 * PERIOD_S
    found = read(driver.profile(first, EDGE))
    expected = written(rows, first, EDGE)
    if habit == "null clocks":
        assert found == {end: row for end, row in expected.items() if end < before_lost}
    else:
        assert found == {end: row for end, row in expected.items() if end not in lost}


@pytest.mark.parametrize(("parts", "position"), [((1, 0, 2), 1), ((0, 0, 1), 0), ((2, 1, 3), 0)])
def test_of_columns_of_one_attribute_that_of_the_whole_counts(parts, position):
    captured = [(3, IMPORT[1], 2, part) for part in parts]
    assert capture_positions(captured, "meter P1") == {Attribute(3, IMPORT[1], 2): position}
