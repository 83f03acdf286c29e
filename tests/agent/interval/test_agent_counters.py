"""What successive counters say: rolled over, reset, jumped, standing still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.driver import CounterLimits
from agent.interval.counters import CounterWatch, Evidence
from wire.quality import Quality

S = 900
T0_MS = 1_767_225_600_000
MODULUS = 100_000_000
"""A display of 99,999.9 kWh and more in Wh."""
LIMITS = CounterLimits({"import_wh": MODULUS}, most_per_hour=15_000)


def watching(import_wh: int, limits: CounterLimits = LIMITS) -> CounterWatch:
    watch = CounterWatch(limits, S)
    watch.take(T0_MS, (import_wh, 0, 0), None)
    return watch


@pytest.mark.parametrize(
    ("before", "after", "elapsed_s", "limits", "evidence"),
    [
        (1000, 1000, 10, LIMITS, Evidence.NONE),
        (1000, 1050, 10, LIMITS, Evidence.NONE),
        (MODULUS - 20, 30, 10, LIMITS, Evidence.NONE),
        # A reset far from the highest value, or to more than could have been counted since.
        (70_000_000, 0, 10, LIMITS, Evidence.FELL),
        (MODULUS - 20, 50_000, 10, LIMITS, Evidence.FELL),
        # Nothing is taken for a rollover where modulus or highest power are not known.
        (MODULUS - 20, 30, 10, CounterLimits({}, 15_000), Evidence.FELL),
        (MODULUS - 20, 30, 10, CounterLimits({"import_wh": MODULUS}), Evidence.FELL),
        # A counter that already shows more than its modulus has another one.
        (MODULUS + 5, 30, 10, LIMITS, Evidence.FELL),
        # After eight months it could have gone round by itself: nobody knows.
        (MODULUS - 20, 30, 250 * 86_400, LIMITS, Evidence.FELL),
        (1000, 61_000, 10, LIMITS, Evidence.JUMPED),
        (1000, 61_000, 4 * 3600, LIMITS, Evidence.NONE),
        (1000, 9_113_000_000, 10, CounterLimits(), Evidence.NONE),
    ],
)
def test_a_step_is_judged_by_what_is_known_of_the_meter(
    before: int, after: int, elapsed_s: int, limits: CounterLimits, evidence: Evidence
) -> None:
    watch = watching(before, limits)
    assert watch.judge(T0_MS + elapsed_s * 1000, (after, 0, 0)) is evidence


def test_a_fall_of_one_counter_outweighs_the_rollover_of_another() -> None:
    watch = CounterWatch(LIMITS, S)
    watch.take(T0_MS, (MODULUS - 1, 500, 0), None)
    assert watch.judge(T0_MS + 10_000, (3, 499, 0)) is Evidence.FELL


def test_a_sample_that_is_not_later_says_nothing() -> None:
    watch = watching(1000)
    assert watch.judge(T0_MS, (0, 0, 0)) is Evidence.NONE
    assert not watch.is_later(T0_MS)
    assert watch.is_later(T0_MS + 1)


@given(
    start=st.integers(MODULUS - 3000, MODULUS - 1),
    gains=st.lists(st.integers(0, 1400), min_size=1, max_size=30),
)
def test_a_counter_goes_on_past_its_rollover_and_comes_out_as_shown(
    start: int, gains: list[int]
) -> None:
    watch = watching(start)
    true = start
    rollovers = 0
    for number, gained in enumerate(gains, 1):
        true += gained
        shown = (true % MODULUS, 7, 7)
        assert watch.judge(T0_MS + number * 10_000, shown) is Evidence.NONE
        ahead = watch.take(T0_MS + number * 10_000, shown, None)
        assert ahead == (true, 7, 7)
        assert watch.as_shown(ahead) == shown
        rollovers += bool(watch.close(ahead) & Quality.ROLLOVER)
    assert rollovers == true // MODULUS


def test_a_value_that_the_counter_never_shows_ends_the_belief_in_its_modulus() -> None:
    watch = watching(MODULUS - 10)
    assert watch.take(T0_MS + 10_000, (MODULUS + 10, 0, 0), None) == (MODULUS + 10, 0, 0)
    assert watch.as_shown((MODULUS + 10, 0, 0)) == (MODULUS + 10, 0, 0)
    assert watch.judge(T0_MS + 20_000, (5, 0, 0)) is Evidence.FELL


# --- standing still


def still(
    power_w: int | None,
    hours: float,
    *,
    export_wh: int = 0,
    step_wh: int | None = 100,
    every_s: int = 60,
) -> CounterWatch:
    """A watch whose counters stood still at a power for some time; a step was seen before."""
    watch = CounterWatch(CounterLimits(), S)
    at_ms = T0_MS
    watch.take(at_ms, (1000, export_wh, 0), power_w)
    if step_wh is not None:
        at_ms += 1000
        watch.take(at_ms, (1000 + step_wh, export_wh, 0), power_w)
    held = watch.shown
    for _ in range(round(hours * 3600 / every_s)):
        at_ms += every_s * 1000
        watch.take(at_ms, held, power_w)
    return watch


def test_counters_that_miss_three_steps_over_an_interval_stand_still() -> None:
    assert not still(400, 0.74).frozen
    assert still(400, 0.76).frozen
    assert not still(5000, 0.24).frozen
    assert still(5000, 0.26).frozen


def test_a_step_makes_a_standing_counter_go_again() -> None:
    watch = still(400, 2)
    assert watch.frozen
    watch.take(T0_MS + 9_000_000, (1200, 0, 0), 400)
    assert not watch.frozen


@pytest.mark.parametrize("power_w", [None, 0, -400])
def test_a_counter_without_power_in_its_direction_may_rest(power_w: int | None) -> None:
    assert not still(power_w, 24).frozen


def test_power_that_flows_back_moves_a_counter_of_exports() -> None:
    assert still(-400, 2, export_wh=50_000).frozen


def test_a_counter_never_seen_to_move_is_given_the_coarsest_step() -> None:
    assert not still(1000, 29, step_wh=None).frozen
    assert still(1000, 31, step_wh=None).frozen


def test_power_over_a_silence_is_not_taken_for_granted() -> None:
    assert not still(400, 12, every_s=3600).frozen


def test_another_meter_begins_without_a_past() -> None:
    watch = still(400, 2)
    watch.restart()
    assert not watch.frozen
    assert watch.judge(T0_MS + 90_000_000, (3, 0, 0)) is Evidence.NONE
