"""Counters from a profile that holds each interval's energy: exact, or nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.errors import MeterDiffers
from agent.dlms.load_profile.scaling import Transformers
from tests.agent.dlms.plain_meter import IMPORT, PERIOD_S, STATUS, PlainMeter, Row
from tests.agent.dlms.test_dlms_profile import CLASS, EDGE, StoppedClock, a_driver

CLOCK_COLUMN = (8, bytes([0, 0, 1, 0, 0, 255]))
ENERGY = {"import_wh": CLASS.profile.columns["import_wh"]}
BEGUN = EDGE - 400 * PERIOD_S


class DeltaMeter(PlainMeter):
    """Its register shows `shown(counter)`; rows appear as its clock passes the ends."""

    def begin(self, counter_at: Callable[[float], int], step: int = 1) -> DeltaMeter:
        self.counter_at, self.step, self.lost = counter_at, step, set()
        self.columns = (CLOCK_COLUMN, STATUS, IMPORT)
        return self

    def request(self, apdu, what, *, tries=None):
        now = self.clock.now_utc_s()
        self.rows = [
            Row(end, [self.counter_at(end) - self.counter_at(end - PERIOD_S)])
            for end in range(BEGUN, int(now) + 1, PERIOD_S)
            if end not in self.lost
        ]
        self.registers = {IMPORT[1]: self.counter_at(now) // self.step}
        return super().request(apdu, what, tries=tries)


def a_delta_meter(counter_at: Callable[[float], int], step: int = 1) -> DeltaMeter:
    return DeltaMeter(StoppedClock()).begin(counter_at, step)


def a_delta_driver(meter: PlainMeter, **changes):
    return a_driver(meter, quantities=ENERGY, columns=ENERGY, energies="deltas", **changes)


def by_night(utc_s: float) -> int:
    """Climbs a Wh in four seconds; stands still each second hour."""
    hours, rest = divmod(utc_s - BEGUN + 10**7, 3600)
    return int(hours // 2 * 900 + (rest // 4 if hours % 2 else 0))


def test_counters_come_exactly_once_a_register_read_leaves_one_value():
    meter = a_delta_meter(by_night)
    driver = a_delta_driver(meter)
    meter.clock.utc_s = EDGE + 300.0
    assert driver.profile(EDGE - 3600, EDGE) == [], "one read says only a range"
    while by_night(meter.clock.utc_s - 900) != by_night(meter.clock.utc_s + 900):
        meter.clock.utc_s += 900
    driver.profile(EDGE, EDGE)  # read while nothing flows
    meter.clock.utc_s += 900
    last = int(meter.clock.utc_s) // 900 * 900
    rows = driver.profile(EDGE - 100 * PERIOD_S, last)
    assert [row.end_utc_s for row in rows] == list(range(EDGE - 100 * PERIOD_S, last + 1, 900))
    assert all(row.import_wh == by_night(row.end_utc_s) for row in rows)


def test_reads_on_both_sides_of_an_edge_leave_one_value():
    meter = a_delta_meter(lambda utc_s: int(utc_s - BEGUN + 2) // 4)  # 900 W, no pause
    driver = a_delta_driver(meter)
    for into_s in (898, 901, 1802, 2703):
        meter.clock.utc_s = float(EDGE + into_s)
        rows = driver.profile(EDGE - 9000, EDGE + into_s // 900 * 900)
    assert len(rows) == 14
    assert all(row.import_wh == (row.end_utc_s - BEGUN + 2) // 4 for row in rows)


def test_nothing_is_said_beyond_a_missing_row():
    meter = a_delta_meter(by_night)
    meter.lost = {EDGE - 20 * PERIOD_S}
    driver = a_delta_driver(meter)
    meter.clock.utc_s = float(EDGE)
    for _ in range(12):
        meter.clock.utc_s += 900
        rows = driver.profile(EDGE - 40 * PERIOD_S, EDGE)
    assert [row.end_utc_s for row in rows] == [EDGE - 900 * ago for ago in range(20, -1, -1)][1:]
    assert all(row.import_wh == by_night(row.end_utc_s) for row in rows)


def at_16_kw(utc_s: float) -> int:
    return int((utc_s - BEGUN) * 16_000 / 3600) + 7


def read_each_quarter(driver, meter, count: int, into_s: int = 25):
    """Rows of the last two hours, as they come some seconds after each edge."""
    for _ in range(count):
        meter.clock.utc_s = float(meter.clock.utc_s // 900 * 900 + 900 + into_s)
        edge = int(meter.clock.utc_s) // 900 * 900
        rows = driver.profile(edge - 7200, edge)
    return rows


def test_a_load_that_never_pauses_has_exact_energies_after_a_day():
    meter = a_delta_meter(at_16_kw)
    driver = a_delta_driver(meter)
    assert read_each_quarter(driver, meter, 95) == []
    rows = read_each_quarter(driver, meter, 3)
    assert len(rows) == 9
    off = {row.import_wh - at_16_kw(row.end_utc_s) for row in rows}
    assert len(off) == 1
    assert 0 <= off.pop() <= 16_000 * 25 // 3600 + 1, "what flowed between the end and the read"


@pytest.mark.parametrize("counter_at", [at_16_kw, by_night])
@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(1, 3), Fraction(120)])
def test_a_restart_goes_on_from_what_was_told(counter_at, ratio):
    changes = {"side": "secondary", "transformers": Transformers(current=ratio)}
    meter = a_delta_meter(counter_at)
    before = read_each_quarter(a_delta_driver(meter, **changes), meter, 110)
    driver = a_delta_driver(meter, **changes)
    driver.resume(meter.serial, before[-1].end_utc_s, {"import_wh": before[-1].import_wh})
    after = read_each_quarter(driver, meter, 12)
    told = {row.end_utc_s: row.import_wh for row in (*before, *after)}
    assert len(after) == 9
    assert before[-1].end_utc_s + 4 * PERIOD_S == after[0].end_utc_s
    for earlier, later in itertools.pairwise(sorted(told)):
        energy = (counter_at(later) - counter_at(earlier)) * ratio
        assert abs(told[later] - told[earlier] - energy) <= (ratio.denominator != 1)


def test_a_meter_exchanged_while_the_agent_was_off_does_not_go_on_from_the_others_counter():
    meter = a_delta_meter(at_16_kw)
    driver = a_delta_driver(meter)
    driver.resume("the one before", int(meter.clock.utc_s) // 900 * 900, {"import_wh": 5})
    assert read_each_quarter(driver, meter, 3) == []


def test_a_counter_that_cannot_be_is_not_gone_on_from():
    meter = a_delta_meter(at_16_kw)
    driver = a_delta_driver(meter)
    edge = int(meter.clock.utc_s) // 900 * 900
    driver.resume(meter.serial, edge, {"import_wh": at_16_kw(edge) + 50_000})
    read_each_quarter(driver, meter, 2)
    assert read_each_quarter(driver, meter, 1) == []


def test_after_a_row_that_was_lost_counters_come_again_within_hours():
    meter = a_delta_meter(at_16_kw)
    driver = a_delta_driver(meter)
    before = read_each_quarter(driver, meter, 100)
    meter.lost = {int(meter.clock.utc_s) // 900 * 900 + 900}
    rows = read_each_quarter(driver, meter, 8)
    assert len(before) == 9
    assert rows[-1].end_utc_s == int(meter.clock.utc_s) // 900 * 900


def test_ratios_are_applied_to_the_sum():
    meter = a_delta_meter(by_night)
    ratio = Fraction(1, 3)
    driver = a_delta_driver(meter, side="secondary", transformers=Transformers(current=ratio))
    for _ in range(12):
        meter.clock.utc_s += 900
        rows = driver.profile(EDGE - 9000, EDGE)
    assert rows
    assert all(abs(row.import_wh - by_night(row.end_utc_s) * ratio) < 1 for row in rows)


def test_a_class_without_the_register_says_what_is_missing():
    driver = a_driver(a_delta_meter(by_night), quantities={}, columns=ENERGY, energies="deltas")
    with pytest.raises(MeterDiffers, match="no register for import_wh"):
        driver.profile(EDGE, EDGE)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 60)), min_size=2, max_size=20),
    watts=st.integers(0, 20_000),
    pause=st.booleans(),
    decades=st.integers(0, 3),
    lost=st.sets(st.integers(0, 60), max_size=3),
    slice_rows=st.sampled_from([7, 1000]),
)
def test_a_counter_that_comes_is_true(steps, watts, pause, decades, lost, slice_rows):
    def counter_at(utc_s: float) -> int:
        return int(by_night(utc_s) if pause else (utc_s - BEGUN) * watts / 3600) + 12345

    meter = a_delta_meter(counter_at, 10**decades)
    meter.scalers[IMPORT[1]] = (0, 30)
    register = dataclasses.replace(
        ENERGY["import_wh"],
        attributes=(
            dataclasses.replace(
                ENERGY["import_wh"].attributes[0], name=b"\x01\x00\x01\x08\x01\xff"
            ),
        ),
    )
    meter.scalers[register.attributes[0].name] = (decades, 30)
    original = meter._value
    type(meter)._value = lambda self, class_id, name, index, selection: (
        original(class_id, IMPORT[1], index, selection)
        if name == register.attributes[0].name and index == 2
        else PlainMeter._value(self, class_id, name, index, selection)
    )
    try:
        driver = a_driver(
            meter,
            quantities={"import_wh": register},
            columns=ENERGY,
            energies="deltas",
            slice_rows=slice_rows,
        )
        meter.lost = {EDGE - PERIOD_S * ago for ago in lost}
        for forward_s, ago in steps:
            meter.clock.utc_s += forward_s
            last = int(meter.clock.utc_s) // PERIOD_S * PERIOD_S
            for row in driver.profile(last - ago * PERIOD_S, last):
                assert row.import_wh == counter_at(row.end_utc_s)
    finally:
        del type(meter)._value
