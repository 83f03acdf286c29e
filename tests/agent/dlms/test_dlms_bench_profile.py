"""The agent's driver, with the classes that ship, reads what simulated meters have recorded."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.driver import DlmsDriver
from agent.dlms.meter_class import load_meter_class
from agent.driver import ProfileRow
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.clock import MeterClock
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.faces import Frozen
from hil.meters.shown import Recorded
from tests.agent.dlms.conftest import NOW_UTC_S, StoppedClock, Wire, quick
from wire.quality import Quality

PERIOD_S = 900
EDGE = NOW_UTC_S - NOW_UTC_S % PERIOD_S
QUIRKS = (
    "range refused",
    "range empty",
    "range ignored",
    "whole hours",
    "start excluded",
    "entry refused",
    "newest first",
    "null clocks",
    "null values",
    "compact array",
    "clock last",
    "status of two bytes",
    "status of four bytes",
    "status as bits",
    "inverted deviation",
    "no deviation",
    "tail after value",
    "empty last block",
)
OF_CLASS = {
    "newest first": ("order", "newest first"),
    "deltas": ("energies", "deltas"),
    "whole hours": ("whole_hours", True),
}
"""What the class of a meter with this quirk says of its load profile."""


class PassingClock(StoppedClock):
    """Time passes with every request; meters go on recording meanwhile."""

    def __init__(self, step_s: float = 0.0, utc_s: float = NOW_UTC_S) -> None:
        super().__init__(utc_s)
        self.step_s = step_s


class SlowWire(Wire):
    """A wire on which each request takes its time."""

    def __init__(self, bus: DlmsBus, clock: PassingClock) -> None:
        super().__init__(bus)
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._clock.utc_s += self._clock.step_s
        super().write(data)


def a_driver(
    meter: DlmsMeter, clock: PassingClock, longest_answer: int = 1 << 20, **of_profile: object
) -> DlmsDriver:
    meter_class = quick(load_meter_class(meter.model))
    of_profile |= dict(OF_CLASS[quirk] for quirk in meter.quirks & OF_CLASS.keys())
    return DlmsDriver.on_port(
        SlowWire(DlmsBus({"1/17": meter}, clock), clock),
        dataclasses.replace(
            meter_class,
            profile=dataclasses.replace(meter_class.profile, **of_profile),
            inverted_deviation="inverted deviation" in meter.quirks,
            link=dataclasses.replace(meter_class.link, longest_answer=longest_answer),
        ),
        clock,
        server_address="1/17",
        password=b"loadscape",
    )


def recorded(meter: DlmsMeter, at_utc_s: float) -> dict[int, list[Recorded]]:
    """All rows that the meter keeps, by stamp, in the order in which it wrote them."""
    rows: dict[int, list[Recorded]] = {}
    for row in LoadProfile(meter, at_utc_s).rows():
        rows.setdefault(row.end_utc_s, []).append(row)
    return rows


def values(row: ProfileRow | Recorded) -> tuple[int | None, ...]:
    return (row.import_wh, row.export_wh, row.import_varh, row.voltage_dv, row.current_ca)


def test_a_meter_keeps_sixty_days_and_all_of_them_are_read():
    meter, clock = DlmsMeter(Climbing()), PassingClock()
    rows = a_driver(meter, clock).profile(EDGE - 61 * 86400, EDGE)
    assert len(rows) == 60 * 96
    kept = recorded(meter, clock.utc_s)
    assert {row.end_utc_s: values(row) for row in rows} == {
        end: values(written) for end, (written,) in kept.items()
    }


@pytest.mark.parametrize("quirk", ["", *QUIRKS])
@pytest.mark.parametrize("ago", [(0, 0), (5, 9), (0, 150)])
def test_whatever_the_quirk_the_rows_are_those_that_were_recorded(quirk, ago):
    failed = EDGE - 6 * PERIOD_S
    meter = DlmsMeter(
        Climbing(),
        quirks=frozenset({quirk} - {""}),
        keep_days=3,
        status_of=lambda end: 0x80 if end == failed else 0,
    )
    clock = PassingClock()
    driver = a_driver(meter, clock)
    first, last = EDGE - ago[1] * PERIOD_S, EDGE - ago[0] * PERIOD_S
    kept = recorded(meter, clock.utc_s)
    for _ in range(2):
        rows = driver.profile(first, last)
        assert {row.end_utc_s: values(row) for row in rows} == {
            end: values(row) for end, (row,) in kept.items() if first <= end <= last
        }
        marked = [row.end_utc_s for row in rows if row.flags != Quality.PROFILE]
        assert marked == ([failed] if first <= failed <= last else [])


@pytest.mark.parametrize("max_pdu", [200, 0xFFFF])
@pytest.mark.parametrize("quirk", ["", "range ignored", "range refused", "newest first"])
def test_an_answer_that_is_too_large_is_asked_for_in_parts_whatever_the_link(quirk, max_pdu):
    meter = DlmsMeter(
        Climbing(), quirks=frozenset({quirk} - {""}), max_pdu=max_pdu, longest_info=128, keep_days=2
    )
    clock = PassingClock()
    driver = a_driver(meter, clock, longest_answer=2000)
    rows = driver.profile(EDGE - 100 * PERIOD_S, EDGE)
    kept = recorded(meter, clock.utc_s)
    assert [values(row) for row in rows] == [values(kept[row.end_utc_s][0]) for row in rows]
    assert len(rows) == 101
    with driver.session():
        assert driver.profile(EDGE - 100 * PERIOD_S, EDGE) == rows


@pytest.mark.parametrize("quirk", ["", "newest first", "null values", "range refused"])
def test_energies_of_intervals_become_the_counters_that_were_recorded(quirk):
    # Nothing is counted in one interval: from there on the counter is known at every end.
    face = Frozen(Climbing(), EDGE, EDGE + PERIOD_S + 1)
    meter = DlmsMeter(face, quirks=frozenset({"deltas", quirk} - {""}), keep_days=3)
    clock = PassingClock()
    driver = a_driver(meter, clock)
    assert driver.profile(EDGE - 9 * PERIOD_S, EDGE) == []
    for _ in range(2):
        clock.utc_s += PERIOD_S
        edge = int(clock.utc_s) - int(clock.utc_s) % PERIOD_S
        rows = driver.profile(EDGE - 9 * PERIOD_S, edge)
        kept = recorded(meter, clock.utc_s)
        assert [values(row) for row in rows] == [values(kept[row.end_utc_s][0]) for row in rows]
        assert len(rows) == (edge - EDGE) // PERIOD_S + 10


@pytest.mark.parametrize("access", ["range", "entry"])
@pytest.mark.parametrize("quirk", ["", "newest first", "null clocks"])
def test_of_two_rows_with_one_stamp_the_one_written_first_counts(quirk, access):
    clock = PassingClock()
    meter = DlmsMeter(Climbing(), quirks=frozenset({quirk} - {""}), keep_days=1)
    meter.set_clock(EDGE - 11_000, EDGE - 9_800)
    rows = a_driver(meter, clock, access=access).profile(EDGE - 20_000, EDGE)
    kept = recorded(meter, clock.utc_s)
    twice = [end for end, written in kept.items() if len(written) > 1]
    assert twice == [EDGE - 10_800, EDGE - 9_900]
    assert {row.end_utc_s: values(row) for row in rows} == {
        end: values(written[0]) for end, written in kept.items() if end >= EDGE - 20_000
    }
    marked = {row.end_utc_s for row in rows if row.flags & Quality.CLOCK_UNTRUSTED}
    assert marked == set(twice)


@dataclasses.dataclass
class Life:
    """What happened to a meter: instants before now in seconds, oldest first."""

    ahead_s: float
    drift_ppm: float
    outages: list[tuple[int, int]]
    """(how long ago, for how long)."""
    sets: list[tuple[int, float]]
    """(how long ago, how far ahead it was set)."""
    daylight_saving: bool

    def meter(self, quirks: set[str], now_utc_s: float) -> DlmsMeter:
        clock = MeterClock(self.ahead_s, self.drift_ppm, now_utc_s - 3 * 86400)
        meter = DlmsMeter(
            Climbing(),
            clock=clock,
            keep_days=3,
            quirks=frozenset(quirks),
            daylight_saving=self.daylight_saving,
        )
        for ago_s, ahead_s in sorted(self.sets, reverse=True):
            at = now_utc_s - ago_s
            meter.set_clock(at + ahead_s, at)
        for ago_s, length_s in self.outages:
            begin = now_utc_s - ago_s
            meter.lose_power(begin, min(begin + length_s, now_utc_s))
        return meter


AHEAD_S = st.floats(-1700, 1700, allow_nan=False)
LIVES = st.builds(
    Life,
    ahead_s=AHEAD_S | st.just(0.0),
    drift_ppm=st.sampled_from([0.0, 0.0, 40.0, -40.0, 900.0]),
    outages=st.lists(st.tuples(st.integers(1, 3 * 86400), st.integers(1, 40_000)), max_size=3),
    sets=st.lists(st.tuples(st.integers(1, 2 * 86400), AHEAD_S), max_size=3),
    daylight_saving=st.booleans(),
)
INSTANTS = st.sampled_from(
    [
        NOW_UTC_S,
        1_751_328_000 + 77,  # summer time
        1_761_438_600 + 5000,  # 2025-10-26, just back in standard time
        1_743_296_400 + 4000,  # 2025-03-30, just in summer time
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    life=LIVES,
    now_utc_s=INSTANTS,
    quirks=st.sets(st.sampled_from(QUIRKS), max_size=5),
    asks=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=3),
    slice_rows=st.sampled_from([7, 40, 1000]),
)
def test_whatever_happened_to_the_meter_the_rows_are_true(
    life, now_utc_s, quirks, asks, slice_rows
):
    # A meter that gives nothing by range and refuses entries cannot be read at all.
    if "entry refused" in quirks:
        quirks -= {"range refused", "range empty"}
    meter, clock = life.meter(quirks, now_utc_s), PassingClock(utc_s=now_utc_s)
    driver = a_driver(meter, clock, slice_rows=slice_rows)
    kept = recorded(meter, now_utc_s)
    edge = now_utc_s - now_utc_s % PERIOD_S
    for ago, length in asks:
        first = edge - ago * PERIOD_S
        last = min(edge, first + length * PERIOD_S)
        rows = {row.end_utc_s: row for row in driver.profile(first, last)}
        for end, row in rows.items():
            assert values(row) == values(kept[end][0]), "not the first row of that stamp"
            assert bool(row.flags & Quality.CLOCK_UNTRUSTED) >= (len(kept[end]) > 1)
        settled = min(last, now_utc_s - PERIOD_S)
        assert {end for end in kept if first <= end <= settled} <= set(rows), "incomplete"


@settings(max_examples=60, deadline=None)
@given(
    quirks=st.sets(st.sampled_from(["newest first", "null clocks", "compact array"])),
    access=st.sampled_from(["entry", "range", "range, else entry"]),
    step_s=st.sampled_from([1.0, 60.0, 400.0]),
    ahead_s=st.sampled_from([0.0, 30.0]),
    ago=st.integers(0, 100),
    length=st.integers(0, 60),
    slice_rows=st.sampled_from([3, 20, 1000]),
)
def test_rows_that_are_written_and_dropped_meanwhile_confuse_nothing(
    quirks, access, step_s, ahead_s, ago, length, slice_rows
):
    clock = PassingClock(step_s)
    meter = DlmsMeter(Climbing(), clock=MeterClock(ahead_s), keep_days=1, quirks=frozenset(quirks))
    driver = a_driver(meter, clock, slice_rows=slice_rows, access=access)
    first = EDGE - ago * PERIOD_S
    last = min(EDGE, first + length * PERIOD_S)
    kept = recorded(meter, clock.utc_s)
    rows = {row.end_utc_s: row for row in driver.profile(first, last)}
    for end, row in rows.items():
        assert values(row) == values(kept[end][0])
    still = recorded(meter, clock.utc_s)
    settled = min(last, NOW_UTC_S - PERIOD_S)
    assert {end for end in still if first <= end <= settled} <= set(rows), "incomplete"
