"""Rows that hold energies become counters, whatever happens to clock and power."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hil.meters.climbing import Climbing
from hil.meters.dlms.clock import MeterClock
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.shown import Registers
from tests.agent.dlms.test_dlms_bench_profile import (
    EDGE,
    PERIOD_S,
    PassingClock,
    a_driver,
    recorded,
    values,
)


@dataclass(frozen=True)
class Pausing(Climbing):
    """Counts nothing for a while, then goes on from there. For meters whose clock is off."""

    from_utc_s: float = 0.0
    length_s: float = 0.0

    def registers(self, at_utc_s: float) -> Registers:
        return super().registers(
            at_utc_s - min(max(at_utc_s - self.from_utc_s, 0.0), self.length_s)
        )


STEPS = st.lists(
    st.tuples(
        st.integers(30, 2000),
        st.sampled_from(["read", "read", "read", "outage", "set", "set a little"]),
        st.integers(-1000, 1000),
    ),
    min_size=3,
    max_size=25,
)


MOST_OFF = 3_000 * 2_000 // 3_600
"""What 3 kW count in the longest step, Wh: a counter is taken that may be off by that."""


def offsets(rows, kept, register: int) -> set[int]:
    """What each row's register may be more than what the meter recorded, alike for all rows."""
    each = [
        {values(row)[register] - values(one)[register] for one in kept[row.end_utc_s]}
        for row in rows
    ]
    return set.intersection(*each) if each else {0}


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    still=st.tuples(st.integers(0, 8000), st.integers(900, 9000)),
    ahead_s=st.sampled_from([0.5, 5.0, 300.0]),
    drift_ppm=st.sampled_from([0.0, 100.0]),
    span=st.sampled_from([1, 4, 40]),
    quirks=st.sets(st.sampled_from(["newest first", "range refused", "null values"])),
)
def test_counters_are_right_but_for_one_small_offset_or_not_said(
    steps, still, ahead_s, drift_ppm, span, quirks
):
    clock = PassingClock()
    # The counters stand still for a while: from then on they are known.
    meter = DlmsMeter(
        Pausing(from_utc_s=EDGE + still[0], length_s=still[1]),
        clock=MeterClock(ahead_s, drift_ppm, EDGE),
        quirks=frozenset({"deltas", *quirks}),
        keep_days=2,
    )
    driver = a_driver(meter, clock)
    for passes_s, what, by_s in steps:
        clock.utc_s += passes_s
        if what == "outage":
            meter.lose_power(clock.utc_s, clock.utc_s + abs(by_s))
            clock.utc_s += abs(by_s)
        elif what == "read":
            edge = int(clock.utc_s) - int(clock.utc_s) % PERIOD_S
            rows = driver.profile(edge - (span - 1) * PERIOD_S, edge)
            kept = recorded(meter, clock.utc_s)
            for register in range(3):
                assert any(0 <= off <= MOST_OFF for off in offsets(rows, kept, register))
        else:
            shift_s = by_s / 120 if what == "set a little" else by_s
            meter.set_clock(meter.clock.shown_s(clock.utc_s) + shift_s, clock.utc_s)


def test_what_was_counted_while_the_clock_went_back_over_an_edge_is_not_lost_unseen():
    meter = DlmsMeter(
        Pausing(from_utc_s=EDGE - 2 * PERIOD_S, length_s=2 * PERIOD_S),
        clock=MeterClock(ahead_s=0.5),
        quirks=frozenset({"deltas"}),
        keep_days=2,
    )
    clock = PassingClock(utc_s=EDGE - PERIOD_S + 5)
    driver = a_driver(meter, clock)
    driver.profile(EDGE - PERIOD_S, EDGE - PERIOD_S)
    clock.utc_s = EDGE + 5
    (row,) = driver.profile(EDGE, EDGE)
    assert values(row) == values(recorded(meter, clock.utc_s)[EDGE][0])
    # The end is struck once more; what was counted before that is in no later row.
    meter.set_clock(EDGE - 20, EDGE + 10)
    clock.utc_s = EDGE + PERIOD_S + 60
    assert driver.profile(EDGE + PERIOD_S, EDGE + PERIOD_S) == []
