"""Meters' clocks as `status` and the retained state tell them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agent.chores import ClockSeen
from agent.commands.status import status_lines
from agent.health import Counters
from agent.poll.lines import clock_state, clock_states, show_clocks

AT = 1_767_225_600.5


def lines_of(**clocks: ClockSeen) -> list[Any]:
    return [SimpleNamespace(thread=SimpleNamespace(clocks=lambda: clocks))]


LINES = lines_of(
    m1=ClockSeen(AT, 0.4, untrusted=False),
    m2=ClockSeen(AT, -42.04, untrusted=False, drift_s_per_day=-1.26),
    m3=ClockSeen(AT, 31.0, untrusted=True, drift_s_per_day=0.0),
)


def test_the_retained_state_tells_how_many_are_off_and_the_worst_with_its_drift() -> None:
    assert clock_state(LINES) == {
        "read": 3,
        "untrusted": 1,
        "off": 2,
        "worst": {"meter": "m2", "ahead_s": -42.0, "drift_s_per_day": -1.3},
    }
    assert clock_state([]) == {"read": 0, "untrusted": 0, "off": 0, "worst": None}


def test_status_shows_the_clocks_that_are_off_the_most() -> None:
    status = {
        "device": "demo-t07",
        "pid": 1,
        "shown_utc_s": AT,
        "clock": "trusted",
        "last_end_utc_s": None,
        "connected": True,
        "outbox": 0,
        "receipt_age_s": None,
        "keyset": 1,
        "recovery": {"known": 0, "expected": 0},
        "clocks": clock_states(LINES),
        "lines": [],
        "meters": {},
        "faults": {},
    }
    assert clock_states(LINES)["m1"] == {
        "read_utc_s": int(AT),
        "untrusted": False,
        "ahead_s": 0.4,
        "drift_s_per_day": None,
    }
    assert (
        "clocks      3 meters' read; off the most: m2 -42.0 s (-1.3 s a day); "
        "m3 +31.0 s (+0.0 s a day), in doubt itself; m1 +0.4 s"
    ) in list(status_lines(None, status, running=True))  # type: ignore[arg-type]


def test_metrics_have_every_clock_and_every_drift_that_is_known() -> None:
    counters = Counters()
    show_clocks(counters, LINES)
    text = counters.prometheus()
    assert 'meter_clock_ahead_seconds{meter="m1"} 0.4' in text
    assert 'meter_clock_drift_seconds_per_day{meter="m2"} -1.26' in text
    assert 'meter_clock_drift_seconds_per_day{meter="m1"}' not in text
