"""The simulated load profile: what is recorded, and which rows and columns a selection gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.constants import obis
from hil.meters.climbing import Climbing
from hil.meters.dlms.clock import MeterClock, Zone
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import DlmsMeter

NOW_UTC_S = 1_763_820_003
PERIOD_S = 900
EDGE = NOW_UTC_S - NOW_UTC_S % PERIOD_S
CLOCK = obis("0.0.1.0.0.255")
IMPORT = obis("1.0.1.8.0.255")
MEAN_VOLTAGE = obis("1.0.32.24.0.255")


def _profile(*quirks: str, **fields: object) -> LoadProfile:
    return LoadProfile(DlmsMeter(Climbing(), quirks=frozenset(quirks), **fields), NOW_UTC_S)


def _capture(class_id: int, name: bytes, index: int = 2) -> bytes:
    return axdr.structure(
        axdr.number(18, class_id), axdr.octets(name), axdr.number(15, index), axdr.number(18, 0)
    )


def _by_range(first_s: int, last_s: int, *columns: bytes, by: bytes = CLOCK) -> bytes:
    zone = Zone(60)
    first, last = (axdr.octets(zone.date_time(at)) for at in (first_s, last_s))
    return b"\x01" + axdr.structure(_capture(8, by), first, last, axdr.array(columns))


def _by_entry(first: int, last: int, first_column: int = 1, last_column: int = 0) -> bytes:
    return b"\x02" + axdr.structure(
        axdr.number(6, first),
        axdr.number(6, last),
        axdr.number(18, first_column),
        axdr.number(18, last_column),
    )


def _answer(profile: LoadProfile, selection: bytes = b"", index: int = 2) -> object:
    result, value = profile.attribute(index, selection)
    return axdr.decode(value)[0] if result == 0 else f"refused {result}"


def _stamps(rows: object) -> list[int]:
    assert isinstance(rows, list)
    return [Zone(60).instant(row[0]) for row in rows]


def test_sixty_days_are_kept_and_the_attributes_say_so() -> None:
    profile = _profile()
    assert [_answer(profile, index=index) for index in (4, 5, 7, 8)] == [900, 1, 5760, 5760]
    assert _answer(_profile("newest first"), index=5) == 2
    captured = _answer(profile, index=3)
    assert isinstance(captured, list)
    assert captured[0] == (8, CLOCK, 2, 0)
    assert [len(row) for row in _answer(profile, _by_entry(1, 3))] == [7, 7, 7]
    assert _answer(profile, index=6) == "refused 4"


def test_rows_are_selected_by_time_with_both_bounds_and_by_entry_with_0_for_the_last() -> None:
    profile = _profile()
    first, last = EDGE - 3 * PERIOD_S, EDGE - PERIOD_S
    assert _stamps(_answer(profile, _by_range(first, last))) == [*range(first, EDGE, PERIOD_S)]
    assert _stamps(_answer(profile, _by_entry(5759, 0))) == [EDGE - PERIOD_S, EDGE]
    assert _stamps(_answer(profile, _by_entry(2, 2))) == [EDGE - 5758 * PERIOD_S]
    assert _stamps(_answer(_profile("newest first"), _by_entry(1, 2))) == [EDGE, EDGE - PERIOD_S]
    assert _answer(profile, _by_entry(5761, 5765)) == []
    assert _answer(profile, _by_range(last, first)) == []


def test_columns_are_those_that_the_client_names_in_its_order() -> None:
    profile = _profile()
    (wanted,) = _answer(
        profile, _by_range(EDGE, EDGE, _capture(3, MEAN_VOLTAGE), _capture(3, IMPORT))
    )
    assert wanted == (2312, Climbing().registers(EDGE).import_wh)
    (row,) = _answer(profile, _by_entry(5760, 0, 3, 4))
    shown = Climbing().registers(EDGE)
    assert row == (shown.import_wh, shown.export_wh)


@pytest.mark.parametrize(
    "selection",
    [
        _by_range(EDGE, EDGE, _capture(3, obis("1.0.9.8.0.255"))),
        _by_range(EDGE, EDGE, _capture(3, IMPORT, 3)),
        _by_range(EDGE, EDGE, by=IMPORT),
        b"\x03" + _by_entry(1, 1)[1:],
        b"\x02" + axdr.number(6, 1),
        b"\x01" + axdr.structure(_capture(8, CLOCK), axdr.octets(b"\x07"), axdr.NULL, axdr.NULL),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(selection: bytes) -> None:
    assert _answer(_profile(), selection) == "refused 250"


def test_an_outage_leaves_rows_out_and_marks_those_of_the_intervals_that_it_touched() -> None:
    meter = DlmsMeter(Climbing())
    profile = LoadProfile(meter, NOW_UTC_S)
    begin = EDGE - 10 * PERIOD_S
    meter.lose_power(begin - 100, begin + 2 * PERIOD_S + 1)
    stamps = [row.end_utc_s for row in profile.rows(begin - PERIOD_S)]
    left_out = [begin, begin + PERIOD_S, begin + 2 * PERIOD_S]
    assert sorted({*stamps, *left_out}) == [*range(begin - PERIOD_S, EDGE + 1, PERIOD_S)]
    assert not set(stamps) & set(left_out)
    marked = [stamp for stamp in stamps if profile.status(stamp) == 0x80]
    assert marked == [begin + 3 * PERIOD_S]


@settings(max_examples=40, deadline=None)
@given(
    ahead_s=st.integers(-1200, 1200),
    drift_ppm=st.sampled_from([0, 5000, -5000]),
    sets=st.lists(st.tuples(st.integers(1, 20_000), st.integers(-1200, 1200)), max_size=3),
)
@example(ahead_s=997, drift_ppm=-5000, sets=[])
def test_rows_are_written_whenever_the_clock_strikes(
    ahead_s: int, drift_ppm: int, sets: list[tuple[int, int]]
) -> None:
    begin = NOW_UTC_S - 20_000
    clock = MeterClock(ahead_s, drift_ppm, begin)
    meter = DlmsMeter(Climbing(), clock=clock, keep_days=1)
    times = {begin + at: ahead for at, ahead in sets}
    for at in sorted(times):
        meter.set_clock(at + times[at], at)
    # Second by second, as a clock does it, apart from a second at which it is rounded; in whole
    # microseconds, for twenty thousand rounded sums would miss an edge.
    written, before_us = [], (begin + ahead_s) * 1_000_000
    for at in range(begin + 1, NOW_UTC_S + 1):
        is_set = at in times
        shown_us = (at + times[at]) * 1_000_000 if is_set else before_us + 1_000_000 + drift_ppm
        edge_us = shown_us - shown_us % (PERIOD_S * 1_000_000)
        if edge_us == shown_us if is_set else before_us < edge_us:
            written.append(edge_us // 1_000_000)
        before_us = shown_us
    stamps = [row.end_utc_s for row in LoadProfile(meter, NOW_UTC_S).rows()]
    # Before what was looked at the clock has struck as well.
    assert stamps[len(stamps) - len(written) :] == written
    assert len(written) > 17


def test_energies_of_a_clock_that_is_off_are_those_of_the_true_instant() -> None:
    meter = DlmsMeter(Climbing(), clock=MeterClock(ahead_s=300.0))
    (row,) = LoadProfile(meter, NOW_UTC_S).rows(EDGE, EDGE)
    assert row.import_wh == Climbing().registers(EDGE - 300).import_wh


def test_rows_of_every_layout_say_the_same() -> None:
    plain = _answer(_profile(), _by_range(EDGE - 5 * PERIOD_S, EDGE))
    assert isinstance(plain, list)
    compact = _answer(_profile("compact array"), _by_range(EDGE - 5 * PERIOD_S, EDGE))
    assert compact == plain
    last = _answer(_profile("clock last"), _by_range(EDGE - 5 * PERIOD_S, EDGE))
    assert last == [(*row[1:], row[0]) for row in plain]
    nulls = _answer(_profile("null clocks", "null values"), _by_range(EDGE - PERIOD_S, EDGE))
    assert isinstance(nulls, list)
    assert nulls == [plain[-2], (None, 0, *plain[-1][2:5], None, None)]
    deltas = _answer(_profile("deltas"), _by_range(EDGE, EDGE))
    assert isinstance(deltas, list)
    assert deltas[0][2:5] == (750, 9, 90)


def test_summer_time_is_in_stamps_and_status() -> None:
    meter = DlmsMeter(Climbing(), daylight_saving=True)
    july_utc_s = 1_751_328_000
    assert meter.zone.date_time(july_utc_s)[4:] == bytes.fromhex("0202000000ff8880")
    assert meter.zone.date_time(NOW_UTC_S)[9:] == bytes.fromhex("ffc400")
    assert LoadProfile(meter, july_utc_s).status(july_utc_s) == 0x08
    for edge_utc_s in (1_743_296_400, 1_761_440_400):  # 2025-03-30 and 2025-10-26, 01:00 UTC
        assert meter.zone.summer(edge_utc_s) != meter.zone.summer(edge_utc_s - 1)
    assert replace(meter.zone, daylight_saving=False).offset_min(july_utc_s) == 60
