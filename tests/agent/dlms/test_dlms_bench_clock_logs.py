"""Clocks that drift and are set, and event logs, of simulated meters, by the agent's driver."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.chores import CLOCK, Chores
from agent.dlms.clock import ClockNotSet
from agent.dlms.driver import DlmsDriver
from agent.dlms.meter_class import ClockSetting, load_meter_class
from agent.driver import MeterEvent
from hil.meters.climbing import Climbing
from hil.meters.dlms import event_log
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.clock import MeterClock
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.conftest import NOW_UTC_S, StoppedClock, Wire, quick
from wire.quality import Quality

PERIOD_S = 900
EDGE = NOW_UTC_S - NOW_UTC_S % PERIOD_S
DAY_S = 86400


def a_driver(meter: DlmsMeter, clock: StoppedClock, how: str = "never") -> DlmsDriver:
    meter_class = quick(load_meter_class(meter.model))
    return DlmsDriver.on_port(
        Wire(DlmsBus({"1/17": meter}, clock)),
        dataclasses.replace(
            meter_class,
            clock_setting=ClockSetting(how),
            inverted_deviation="inverted deviation" in meter.quirks,
        ),
        clock,
        server_address="1/17",
        password=b"loadscape",
    )


ZONES = pytest.mark.parametrize("quirk", ["", "inverted deviation", "no deviation"])


@ZONES
@pytest.mark.parametrize("daylight_saving", [False, True])
@pytest.mark.parametrize("utc_s", [1_751_328_077, 1_763_820_003, 1_761_440_000, 1_761_436_500])
def test_a_clock_in_any_zone_and_season_is_read_and_set_true(quirk, daylight_saving, utc_s):
    utc_s += 450 - utc_s % PERIOD_S
    meter = DlmsMeter(
        Climbing(),
        clock=MeterClock(ahead_s=40.0),
        quirks=frozenset({quirk} - {""}),
        daylight_saving=daylight_saving,
        settable=True,
    )
    clock = StoppedClock(utc_s)
    for how in ("set", "shift"):
        meter.clock.set(utc_s + 40.0, utc_s)
        driver = a_driver(meter, clock, how)
        assert driver.read_clock().ahead_ms == 40_000
        driver.set_clock()
        assert meter.clock.shown_s(utc_s) == utc_s
        assert driver.read_clock().ahead_ms == 0


@pytest.mark.parametrize("drift_ppm", [-150.0, -20.0, 0.0, 50.0, 150.0])
def test_drift_is_told_by_the_reads_of_two_days(drift_ppm):
    clock = StoppedClock()
    meter = DlmsMeter(Climbing(), clock=MeterClock(7.0, drift_ppm, NOW_UTC_S))
    driver = a_driver(meter, clock)
    chores = Chores(
        "m1", driver, interval_s=PERIOD_S, now_utc_s=clock.utc_s, marks={}, since_utc_s=NOW_UTC_S
    )
    for _ in range(2):
        chores.do(CLOCK, clock.utc_s)
        clock.utc_s += DAY_S
    assert chores.clock is not None
    assert chores.clock.drift_s_per_day == pytest.approx(drift_ppm * 0.0864, abs=1.0)
    driver.profile(EDGE, int(clock.utc_s))
    ahead_ms = (meter.clock.shown_s(clock.utc_s) - clock.utc_s) * 1000
    bounds = driver.clock_bounds
    assert bounds is not None
    assert bounds.least_ms <= ahead_ms <= bounds.most_ms


@settings(max_examples=120, deadline=None)
@given(
    ahead_s=st.floats(-400, 400, allow_nan=False),
    drift_ppm=st.sampled_from([0.0, 100.0, -100.0]),
    into_s=st.floats(0, 899.9),
    how=st.sampled_from(["set", "shift"]),
    quirk=st.sampled_from(["", "inverted deviation", "no deviation"]),
)
def test_a_set_clock_leaves_out_no_row_and_writes_none_twice(
    ahead_s, drift_ppm, into_s, how, quirk
):
    clock = StoppedClock(EDGE + into_s)
    meter = DlmsMeter(
        Climbing(),
        clock=MeterClock(ahead_s, drift_ppm, EDGE + into_s),
        quirks=frozenset({quirk} - {""}),
        settable=True,
        keep_days=1,
    )
    driver = a_driver(meter, clock, how)
    try:
        driver.set_clock()
    except ClockNotSet:
        assert meter.clock.set_at == []
    else:
        # The meter shows whole seconds, and a shift is one of whole seconds.
        assert abs(meter.clock.shown_s(clock.utc_s) - clock.utc_s) <= 1.5
        assert 2 <= abs(ahead_s) <= 301
    clock.utc_s += 4 * PERIOD_S
    stamps = [row.end_utc_s for row in LoadProfile(meter, clock.utc_s).rows()]
    assert stamps == list(range(stamps[0], stamps[-1] + 1, PERIOD_S)), "across an edge"
    first, last = EDGE - 5 * PERIOD_S, EDGE + 4 * PERIOD_S
    written = {row.end_utc_s: row for row in LoadProfile(meter, clock.utc_s).rows(first, last)}
    rows = driver.profile(first, last)
    assert {row.end_utc_s: row.import_wh for row in rows} == {
        end: row.import_wh for end, row in written.items()
    }
    marked = {row.end_utc_s for row in rows if row.flags & Quality.CLOCK_UNTRUSTED}
    assert marked == {
        math.floor(meter.clock.shown_s(at) / PERIOD_S + 1) * PERIOD_S
        for at, by_s in meter.clock.set_at
        if abs(by_s) > 9
    }


def test_a_set_clock_and_an_outage_are_in_the_standard_log_by_the_meters_time():
    clock = StoppedClock(EDGE + 450.0)
    meter = DlmsMeter(Climbing(), clock=MeterClock(ahead_s=60.0), settable=True)
    meter.lose_power(EDGE - 5000, EDGE - 4000)
    a_driver(meter, clock, "set").set_clock()
    clock.utc_s += 9
    meter.log_event(*event_log.TERMINAL_COVER_REMOVED, clock.utc_s)
    driver = a_driver(meter, clock)
    assert [(event.code, event.at_utc_s - EDGE) for event in driver.events("standard", 0)] == [
        (1, -4940),
        (2, -3940),
        (5, 450),
        (4, 510),
    ]
    assert driver.events("fraud", 0) == [MeterEvent("fraud", EDGE + 459, 40)]
    assert driver.events("power_quality", 0) == []


LOG_QUIRKS = (
    "newest first",
    "range refused",
    "range empty",
    "range ignored",
    "whole hours",
    "start excluded",
    "inverted deviation",
)


@settings(max_examples=50, deadline=None)
@given(
    quirks=st.sets(st.sampled_from(LOG_QUIRKS)),
    kept=st.integers(3, 60),
    hours=st.lists(
        st.lists(st.tuples(st.integers(0, 3599), st.integers(1, 3)), max_size=12), max_size=12
    ),
    ahead_s=st.sampled_from([0.0, 300.0, -300.0]),
    clock_sets=st.sets(st.integers(0, 11), max_size=2),
)
def test_each_entry_is_told_once_also_when_the_log_has_wrapped_around(
    quirks, kept, hours, ahead_s, clock_sets
):
    clock = StoppedClock(EDGE)
    meter = DlmsMeter(Climbing(), clock=MeterClock(ahead_s), quirks=frozenset(quirks))
    log = meter.logs["standard"]
    log.kept = kept
    driver = a_driver(meter, clock)
    chores = Chores("m1", driver, interval_s=PERIOD_S, now_utc_s=EDGE, marks={}, since_utc_s=0)
    told: list[tuple[int, int]] = []
    unread: list[tuple[int, int]] = []

    def read() -> None:
        for _ in range(8):
            for group in chores.do("standard", clock.utc_s):
                told.extend((event.at_utc_s, event.code) for event in group.events)

    read()
    for hour, entries in enumerate(hours):
        if hour in clock_sets:
            meter.set_clock(clock.utc_s, clock.utc_s)
            unread += list(log.entries)[-2:]
        for into_s, code in sorted(entries):
            meter.log_event("standard", code, clock.utc_s + into_s)
            unread.append(log.entries[-1])
        clock.utc_s += 3600
        # What was overwritten before anyone looked is lost, and nothing else.
        lost = len(unread) - min(len(unread), kept)
        wanted = sorted(unread[lost:])
        before = len(told)
        read()
        assert sorted(told[before:]) == wanted
        unread = []
