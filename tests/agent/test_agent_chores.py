"""Clocks and event logs of meters: read in their turn, told once, set with care."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.chores import (
    AGENT_LOG,
    CLOCK,
    CLOCK_EVERY_S,
    CLOCK_SET_UNSURE,
    LOG_EVERY_S,
    MOST_ENTRIES,
    SET_CLOCK,
    Chores,
)
from agent.driver import ClockBounds, ClockReading, MeterEvent, MeterRefused, MeterSilent
from agent.store.event_table import EventRows, LogMark
from wire.events import Event
from wire.quality import Quality

T0 = 1_767_225_600
S = 900
MIDDLE = T0 + 450.0


@dataclass
class Meter:
    """A driver with a clock that is ahead and one event log."""

    serial: str | None = "A1"
    event_logs: tuple[str, ...] = ("standard",)
    ahead_ms: int = 0
    entries: list[MeterEvent] = field(default_factory=list)
    settable: bool = True
    silent: bool = False
    sets: list[float] = field(default_factory=list)
    now_utc_s: float = MIDDLE
    clock_bounds: ClockBounds | None = None
    reads: int = 0
    stretch_s: int = 7 * 86_400
    """`events` tells no later entries in one answer, once there are any."""

    def read_clock(self) -> ClockReading:
        self._answer()
        return ClockReading(int(self.now_utc_s * 1000), self.ahead_ms)

    def set_clock(self) -> ClockReading:
        self._answer()
        if not self.settable:
            raise MeterRefused("its class says never")
        before = self.read_clock()
        self.sets.append(self.now_utc_s)
        self.ahead_ms = 0
        return before

    def events(self, log: str, after_utc_s: int) -> list[MeterEvent]:
        self._answer()
        self.reads += 1
        until_utc_s = int(self.now_utc_s) + 86_400
        since_utc_s, found = after_utc_s, []
        while since_utc_s <= until_utc_s and not any(e.at_utc_s > after_utc_s for e in found):
            last_utc_s = min(since_utc_s + self.stretch_s, until_utc_s)
            found += [e for e in self.entries if since_utc_s <= e.at_utc_s <= last_utc_s]
            since_utc_s = last_utc_s + 1
        return found

    def _answer(self) -> None:
        if self.silent:
            raise MeterSilent("no answer")


def chores_of(
    meter: Meter, marks: dict[tuple[str, str], LogMark] | None = None, since_utc_s: int = 0
) -> Chores:
    return Chores(
        "m1",
        meter,  # type: ignore[arg-type]
        interval_s=S,
        now_utc_s=T0,
        marks=marks or {},
        since_utc_s=since_utc_s,
    )


def do_all(chores: Chores, meter: Meter, now_utc_s: float) -> list[EventRows]:
    """Does what is due at one instant, each chore once at most as often as it brings something."""
    meter.now_utc_s = now_utc_s
    told: list[EventRows] = []
    for _ in range(100):
        what = chores.due(now_utc_s)
        if what is None:
            return told
        told += chores.do(what, now_utc_s)
    raise AssertionError("a chore is due for ever")


def told_events(groups: list[EventRows]) -> list[Event]:
    return [event for group in groups for event in group.events]


def test_the_clock_is_read_once_a_day_within_an_hour_of_the_start() -> None:
    meter = Meter(event_logs=(), ahead_ms=-1500)
    chores = chores_of(meter)
    reads = []
    for now in range(T0, T0 + 3 * CLOCK_EVERY_S, 60):
        meter.now_utc_s = now
        if (what := chores.due(now)) is not None:
            assert what == CLOCK
            chores.do(what, now)
            reads.append(now)
    assert len(reads) == 3
    assert reads[0] - T0 < 3600
    assert chores.clock is not None
    assert chores.clock.ahead_s == -1.5


def test_a_clock_is_set_at_most_once_a_day_never_near_an_edge_and_that_is_told() -> None:
    meter = Meter(event_logs=(), ahead_ms=9000)
    chores = chores_of(meter)
    told: list[EventRows] = []
    for now in range(T0, T0 + 3 * CLOCK_EVERY_S, 10):
        told += do_all(chores, meter, now)
        # A clock that runs away again at once.
        meter.ahead_ms = 9000
    assert 2 <= len(meter.sets) <= 3
    assert min(b - a for a, b in zip(meter.sets, meter.sets[1:], strict=False)) >= CLOCK_EVERY_S
    assert all(60 <= at % S <= S - 60 for at in meter.sets)
    events = told_events(told)
    assert [event.log for event in events] == [AGENT_LOG] * len(meter.sets)
    assert events[0].detail == "was_ahead_ms=9000"


def test_a_restart_does_not_set_the_clock_twice_a_day() -> None:
    meter = Meter(event_logs=(), ahead_ms=9000)
    mark = LogMark(T0 - 3600)
    chores = chores_of(meter, {("A1", AGENT_LOG): mark})
    for now in range(T0, T0 + CLOCK_EVERY_S - 3600, 60):
        do_all(chores, meter, now)
    assert meter.sets == []


def test_a_meter_whose_class_forbids_it_is_not_asked_to_set_its_clock_again_that_day() -> None:
    meter = Meter(event_logs=(), ahead_ms=9000, settable=False)
    chores = chores_of(meter)
    now = MIDDLE + 4 * S
    meter.now_utc_s = now
    chores.do(CLOCK, now)
    assert chores.due(now) == SET_CLOCK
    assert chores.do(SET_CLOCK, now) == []
    assert chores.due(now) is None
    assert chores.due(now + CLOCK_EVERY_S - 1) is None


def test_a_chore_that_fails_is_put_off() -> None:
    meter = Meter(silent=True)
    chores = chores_of(meter)
    now = T0 + 3600.0
    for _ in range(2):
        what = chores.due(now)
        assert what is not None
        with pytest.raises(MeterSilent):
            chores.do(what, now)
    assert chores.due(now + 60) is None
    meter.silent = False
    do_all(chores, meter, now + 3600)
    assert chores.clock is not None


def test_entries_are_told_once_and_those_of_the_last_second_are_told_apart() -> None:
    meter = Meter(entries=[MeterEvent("standard", T0 - 50, 3), MeterEvent("standard", T0 - 50, 3)])
    chores = chores_of(meter)
    now = T0 + 3600.0
    first = told_events(do_all(chores, meter, now))
    assert [(event.code, event.n) for event in first] == [(3, 0), (3, 1)]
    meter.entries.append(MeterEvent("standard", T0 - 50, 3))
    meter.entries.append(MeterEvent("standard", T0 - 50, 4))
    second = told_events(do_all(chores, meter, now + LOG_EVERY_S))
    assert [(event.code, event.n) for event in second] == [(3, 2), (4, 0)]
    assert do_all(chores, meter, now + 2 * LOG_EVERY_S) == []


def test_an_entry_stamped_ahead_does_not_hide_those_that_follow() -> None:
    now = T0 + 3600.0
    meter = Meter(entries=[MeterEvent("standard", int(now) + 7200, 1)])
    chores = chores_of(meter)
    assert len(told_events(do_all(chores, meter, now))) == 1
    meter.entries.append(MeterEvent("standard", int(now) + 3000, 2))
    later = now + LOG_EVERY_S
    assert [event.code for event in told_events(do_all(chores, meter, later))] == [2]
    assert do_all(chores, meter, later + LOG_EVERY_S) == []


def test_a_long_log_comes_in_bounded_pieces_oldest_first() -> None:
    entries = [MeterEvent("standard", T0 - 5000 + k, k % 250) for k in range(3 * MOST_ENTRIES)]
    meter = Meter(entries=list(reversed(entries)), event_logs=("standard",))
    told = do_all(chores_of(meter), meter, T0 + 3600.0)
    assert meter.reads <= 3, "the same entries are not read again for each piece"
    assert [len(group.events) for group in told] == [MOST_ENTRIES] * 3
    stamps = [event.at_utc_s for event in told_events(told)]
    assert stamps == sorted(stamps)


@given(
    rounds=st.lists(
        st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 3)), max_size=12), max_size=8
    ),
    restarts=st.sets(st.integers(0, 8)),
)
def test_whatever_the_stamps_and_restarts_no_entry_is_told_twice_and_none_in_time_is_left(
    rounds: list[list[tuple[int, int]]], restarts: set[int]
) -> None:
    """Stamps lie around the read, in any order."""
    meter = Meter()
    marks: dict[tuple[str, str], LogMark] = {}
    chores = chores_of(meter, marks)
    now = T0 + 3600.0
    told: list[Event] = []
    for number, stamps in enumerate(rounds):
        # Entries come when they happen, or stamped a little ahead.
        meter.entries += [
            MeterEvent("standard", int(now) + max(0, offset), code) for offset, code in stamps
        ]
        if number in restarts:
            chores = chores_of(meter, marks)
        now += 2 * LOG_EVERY_S
        for group in do_all(chores, meter, now):
            told += group.events
            marks[group.serial, group.log] = group.mark
    assert len(told) == len(set(told)) == len(meter.entries)


def test_a_log_that_the_meter_does_not_have_is_asked_for_once_a_day() -> None:
    asked = []

    class WithoutLog(Meter):
        def events(self, log: str, after_utc_s: int) -> list[MeterEvent]:
            asked.append(self.now_utc_s)
            raise MeterRefused("object-undefined")

    meter = WithoutLog()
    chores = chores_of(meter)
    for now in range(T0, T0 + 2 * CLOCK_EVERY_S, 600):
        do_all(chores, meter, now)
    assert len(asked) == 2


def test_an_untrusted_clock_is_said_to_be() -> None:
    class Doubting(Meter):
        def read_clock(self) -> ClockReading:
            return ClockReading(T0 * 1000, 100, int(Quality.CLOCK_UNTRUSTED))

    meter = Doubting(event_logs=())
    chores = chores_of(meter)
    do_all(chores, meter, T0 + 3600.0)
    assert chores.clock is not None
    assert chores.clock.untrusted


def read_for_days(chores: Chores, meter: Meter, first_utc_s: float, days: int) -> list[Event]:
    """What is told when the chores are done every hour."""
    told: list[Event] = []
    for hour in range(24 * days):
        told += told_events(do_all(chores, meter, first_utc_s + 3600 * hour))
    return told


def test_an_entry_stamped_ahead_does_not_hide_those_of_weeks_later() -> None:
    now = T0 + 3600.0
    meter = Meter(entries=[MeterEvent("standard", int(now) + 60, 1)])
    chores = chores_of(meter)
    assert len(told_events(do_all(chores, meter, now))) == 1
    meter.entries.append(MeterEvent("standard", int(now) + 20 * 86_400, 2))
    assert [event.code for event in read_for_days(chores, meter, now + 3600, 22)] == [2]


def test_entries_that_follow_a_clock_set_back_are_told_though_their_stamps_are_earlier() -> None:
    now = T0 + 7200.0
    meter = Meter(entries=[MeterEvent("standard", int(now) - 10, 1)])
    chores = chores_of(meter)
    do_all(chores, meter, now)
    meter.entries.append(MeterEvent("standard", int(now) - 3000, 4))
    meter.entries.append(MeterEvent("standard", int(now) - 10, 1))
    told = told_events(do_all(chores, meter, now + LOG_EVERY_S))
    assert [(event.code, event.n) for event in told] == [(4, 0), (1, 1)]
    assert do_all(chores, meter, now + 2 * LOG_EVERY_S) == []


def test_an_agent_whose_clock_was_years_ahead_reads_on_once_it_is_set() -> None:
    ahead = T0 + 4 * 365 * 86_400
    meter = Meter(entries=[MeterEvent("standard", T0 - 50, 3)], ahead_ms=500)
    chores = Chores(
        "m1",
        meter,  # type: ignore[arg-type]
        interval_s=S,
        now_utc_s=ahead,
        marks={},
        since_utc_s=ahead - 7 * 86_400,
    )
    assert told_events(do_all(chores, meter, ahead + 3600.0)) == []
    assert [event.code for event in told_events(do_all(chores, meter, MIDDLE))] == [3]
    assert chores.clock is not None
    assert chores.clock.at_utc_s == MIDDLE


def test_an_entry_that_no_batch_can_hold_is_left_out_and_the_others_are_told() -> None:
    meter = Meter(entries=[MeterEvent("standard", T0, 1 << 32), MeterEvent("standard", T0, 3)])
    told = told_events(do_all(chores_of(meter), meter, T0 + 3600.0))
    assert [event.code for event in told] == [3]
    long_name = "l" * 65
    meter = Meter(entries=[MeterEvent(long_name, T0, 3)], event_logs=(long_name,))
    assert do_all(chores_of(meter), meter, T0 + 3600.0) == []


def test_drift_is_told_from_one_days_read_to_the_next_and_not_across_a_set() -> None:
    meter = Meter(event_logs=(), ahead_ms=500)
    chores = chores_of(meter)
    now = T0 + 3600.0
    do_all(chores, meter, now)
    assert chores.clock is not None
    assert chores.clock.drift_s_per_day is None
    meter.ahead_ms = -1000
    do_all(chores, meter, now + CLOCK_EVERY_S)
    assert chores.clock.drift_s_per_day == pytest.approx(-1.5, abs=0.01)
    meter.ahead_ms = -60_000
    do_all(chores, meter, MIDDLE + 3 * CLOCK_EVERY_S)
    assert len(meter.sets) == 1
    assert chores.clock.ahead_s == 0
    assert chores.clock.drift_s_per_day is None


def test_row_stamps_that_contradict_the_clock_have_it_read_at_once_but_not_all_the_time() -> None:
    meter = Meter(event_logs=(), ahead_ms=500)
    chores = chores_of(meter)
    now = T0 + 3600.0
    do_all(chores, meter, now)
    meter.clock_bounds = ClockBounds(-20_000, 880_000)
    chores.saw_rows([0], now + 7200)
    assert chores.due(now + 7200) is None
    meter.clock_bounds = ClockBounds(120_000, 1_020_000)
    chores.saw_rows([0], now + 60)
    assert chores.due(now + 60) is None
    chores.saw_rows([0], now + 7200)
    assert chores.due(now + 7200) == CLOCK


def test_a_row_whose_clock_the_meter_doubts_has_it_read() -> None:
    meter = Meter(event_logs=(), ahead_ms=500)
    chores = chores_of(meter)
    do_all(chores, meter, T0 + 3600.0)
    chores.saw_rows([0, int(Quality.CLOCK_UNTRUSTED)], T0 + 3 * 3600.0)
    assert chores.due(T0 + 3 * 3600.0) == CLOCK


def test_a_set_of_which_nothing_is_known_is_told_as_such() -> None:
    class Breaking(Meter):
        def set_clock(self) -> ClockReading:
            raise MeterSilent("no answer to SET")

    meter = Breaking(event_logs=(), ahead_ms=9000)
    chores = chores_of(meter)
    now = MIDDLE + 4 * S
    chores.do(CLOCK, now)
    with pytest.raises(MeterSilent):
        chores.do(SET_CLOCK, now)
    (event,) = told_events(do_all(chores, meter, now + 10))
    assert (event.log, event.code, event.at_utc_s) == (AGENT_LOG, CLOCK_SET_UNSURE, int(now))
    assert chores.due(now + CLOCK_EVERY_S - 1) is None


def test_a_log_read_before_the_meter_has_said_who_it_is_is_read_again_at_once() -> None:
    class Unnamed(Meter):
        def events(self, log: str, after_utc_s: int) -> list[MeterEvent]:
            self.serial = "A1"
            return super().events(log, after_utc_s)

    meter = Unnamed(serial=None, entries=[MeterEvent("standard", T0, 3), MeterEvent("x", T0, 4)])
    mark = LogMark(T0 - 50)
    (group,) = do_all(chores_of(meter, {("A1", "standard"): mark}), meter, T0 + 3600.0)
    assert (group.serial, len(group.events)) == ("A1", 2)
