"""Hot spot and ageing against published points and against a finely integrated model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.assets.thermal import (
    ThermalParameters,
    ageing_rate,
    paper,
    relax,
    temperatures,
    thermal_parameters,
)

ONAN = thermal_parameters("distribution_onan")
LOSS_RATIO = 4600 / 600


@pytest.mark.parametrize(
    ("kind", "hot_spot_c", "rate"),
    [
        ("normal", 98, 1.0),
        ("normal", 104, 2.0),
        ("normal", 140, 128.0),
        ("thermally_upgraded", 110, 1.0),
        ("thermally_upgraded", 120, 2.709),
        ("thermally_upgraded", 130, 6.984),
        ("thermally_upgraded", 140, 17.20),
    ],
)
def test_the_ageing_rate_meets_the_published_points(
    kind: str, hot_spot_c: float, rate: float
) -> None:
    assert ageing_rate(np.array([hot_spot_c]), paper(kind))[0] == pytest.approx(rate, rel=5e-4)


def test_constant_rated_load_settles_at_the_rated_rises() -> None:
    steps = 7 * 96
    found = temperatures(np.ones(steps), np.full(steps, 20.0), 15, LOSS_RATIO, ONAN)
    assert found.top_oil_c[-1] == pytest.approx(20 + 60)
    assert found.hot_spot_c[-1] == pytest.approx(20 + 60 + 1.2 * 23)
    inside = temperatures(np.ones(steps), np.full(steps, 20.0), 15, LOSS_RATIO, ONAN, indoor=True)
    assert inside.hot_spot_c[-1] == pytest.approx(found.hot_spot_c[-1] + 10)


@pytest.mark.parametrize("kind", ["distribution_onan", "large_onaf"])
def test_a_15_minute_step_equals_a_finely_integrated_model(kind: str) -> None:
    parameters = thermal_parameters(kind)
    day = np.repeat([0.4, 1.2, 0.7, 1.5, 0.2, 0.9], 16)
    ambient_c = 15 + 8 * np.sin(np.arange(96) / 96 * 2 * np.pi)

    found = temperatures(day, ambient_c, 15, LOSS_RATIO, parameters)

    assert found.hot_spot_c == pytest.approx(_integrated(day, ambient_c, parameters), abs=0.02)


def test_halving_the_step_changes_nothing() -> None:
    load = np.random.default_rng(1).uniform(0.1, 1.4, 400)
    ambient_c = np.full(400, 12.0)
    coarse = temperatures(load, ambient_c, 15, LOSS_RATIO, ONAN)
    fine = temperatures(
        np.repeat(load, 2), np.repeat(ambient_c, 2), 7.5, LOSS_RATIO, ONAN, warm_up=2
    )
    assert fine.hot_spot_c[1::2] == pytest.approx(coarse.hot_spot_c, abs=1e-9)


def test_the_standards_difference_step_overshoots_at_15_minutes_and_the_exact_one_does_not() -> (
    None
):
    target = 36.95
    step_over_constant = 15 / (ONAN.k22 * ONAN.winding_time_constant_min)
    assert step_over_constant * target > target, "one difference step passes its own target"

    exact = relax(np.full(20, target), 15, ONAN.k22 * ONAN.winding_time_constant_min, 0.0)

    assert np.all(exact < target + 1e-9)
    assert np.all(np.diff(exact) >= 0)
    assert exact[0] == pytest.approx(target * (1 - math.exp(-step_over_constant)))


@given(
    targets=st.lists(st.floats(-50, 200), min_size=1, max_size=300),
    time_constant_min=st.floats(0.5, 5000),
    start=st.floats(-50, 200),
)
def test_the_lag_equals_its_own_recurrence_and_stays_between_its_targets(
    targets: list[float], time_constant_min: float, start: float
) -> None:
    found = relax(np.array(targets), 15, time_constant_min, start)

    state, expected = start, []
    for target in targets:
        state += (1 - math.exp(-15 / time_constant_min)) * (target - state)
        expected.append(state)
    assert found == pytest.approx(expected, abs=1e-8)
    assert min([start, *targets]) - 1e-8 <= found.min()
    assert found.max() <= max([start, *targets]) + 1e-8


def test_an_unknown_load_is_refused_and_never_taken_for_zero() -> None:
    with pytest.raises(ValueError, match="fill the gaps first"):
        temperatures(np.array([0.5, np.nan]), np.array([20.0, 20.0]), 15, LOSS_RATIO, ONAN)


def _integrated(
    load: np.ndarray, ambient_c: np.ndarray, p: ThermalParameters, pieces: int = 3000
) -> list[float]:
    """The standard's three differential equations in steps of 0.3 s, written out plainly."""

    def oil_target(k: float, ambient: float) -> float:
        ratio = (1 + LOSS_RATIO * k * k) / (1 + LOSS_RATIO)
        return ambient + p.top_oil_rise_k * ratio**p.oil_exponent_x

    def gradient(k: float) -> float:
        return p.hot_spot_factor * p.winding_gradient_k * k**p.winding_exponent_y

    dt = 15 / pieces
    oil = oil_target(load[0], ambient_c[0])
    first, second = p.k21 * gradient(load[0]), (p.k21 - 1) * gradient(load[0])
    ends = []
    for k, ambient in zip(load, ambient_c, strict=True):
        oil_goal, rise = oil_target(k, ambient), gradient(k)
        for _ in range(pieces):
            oil += dt / (p.k11 * p.oil_time_constant_min) * (oil_goal - oil)
            first += dt / (p.k22 * p.winding_time_constant_min) * (p.k21 * rise - first)
            second += dt / (p.oil_time_constant_min / p.k22) * ((p.k21 - 1) * rise - second)
        ends.append(oil + first - second)
    return ends
