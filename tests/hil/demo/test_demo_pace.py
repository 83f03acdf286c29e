"""The demo's clock runs as fast as every interval still closes, and says so."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hil.demo.pace import FIRST_SPEED, HIGHEST_SPEED, QUARTER_S, Pace
from hil.demo.progress import Fleet, fleet_of


@dataclass
class PacedSite:
    """The part of an installation that a pace uses: a clock that the test moves."""

    shown_utc_s: float = 0.0
    speed: float = 1.0

    @property
    def clock(self) -> PacedSite:
        return self

    def now_utc_s(self) -> float:
        return self.shown_utc_s

    def real_s_until(self, utc_s: float) -> float:
        return (utc_s - self.shown_utc_s) / self.speed

    def set_speed(self, speed: float) -> None:
        self.speed = speed


def fleet(slowest_round_s: float) -> Fleet:
    return Fleet(1, 1, 1, True, 0, slowest_round_s)


def settled_speed(round_s: float) -> float:
    site = PacedSite()
    pace = Pace(site, fixed=None)  # type: ignore[arg-type]
    pace.begin()
    for _ in range(20):
        site.shown_utc_s += 4 * QUARTER_S
        list(pace.follow(fleet(round_s)))
    return site.speed


def test_the_slowest_round_takes_half_of_an_interval() -> None:
    assert settled_speed(5.0) == pytest.approx(0.5 * QUARTER_S / 5.0)


def test_the_clock_never_runs_slower_than_time_nor_faster_than_the_limit() -> None:
    assert settled_speed(10_000.0) == 1.0
    assert settled_speed(0.001) == HIGHEST_SPEED


def test_a_fixed_speed_stays() -> None:
    site = PacedSite()
    pace = Pace(site, fixed=120.0)  # type: ignore[arg-type]
    pace.begin()
    site.shown_utc_s += 100 * QUARTER_S
    assert list(pace.follow(fleet(50.0))) == []
    assert site.speed == 120.0


def test_the_speed_is_kept_for_some_intervals_before_it_changes() -> None:
    site = PacedSite()
    pace = Pace(site, fixed=None)  # type: ignore[arg-type]
    pace.begin()
    site.shown_utc_s += QUARTER_S
    assert list(pace.follow(fleet(1.0))) == []
    assert site.speed == FIRST_SPEED
    site.shown_utc_s += 3 * QUARTER_S
    (said,) = pace.follow(fleet(1.0))
    assert "every interval closes at 450x" in said


def test_reaching_now_is_said_once() -> None:
    site = PacedSite()
    pace = Pace(site, fixed=None)  # type: ignore[arg-type]
    pace.begin()
    site.speed = 1.0
    assert list(pace.follow(fleet(1.0))) == ["the clock has reached now and goes on at 1x"]
    assert list(pace.follow(fleet(1.0))) == []


def test_the_fleet_is_summed_over_the_devices_that_are_online() -> None:
    state = {
        "recovery": {"known": 50, "expected": 100},
        "outbox": 0,
        "last_end_utc_s": 900,
        "lines": [{"round_ms": 250}],
    }
    late = {**state, "last_end_utc_s": 1800, "outbox": 2, "lines": [{"round_ms": 700}]}
    seen = fleet_of(
        [
            {"online": True, "state": state},
            {"online": True, "state": late},
            {"online": False, "state": state},
            {"online": True, "state": None},
        ]
    )
    assert (seen.online, seen.known, seen.expected) == (2, 100, 200)
    assert seen.recovered_share == 0.5
    assert not seen.idle
    assert seen.last_end_utc_s == 900
    assert seen.slowest_round_s == 0.7
