"""Hot spot and ageing of an oil-immersed transformer from its load (IEC 60076-7).

The standard's difference equations need steps far below the winding's time
constant, which is about four minutes for a distribution transformer; at a
15-minute step they overshoot and ring. Here every first-order lag takes its
exact exponential step, which is right for any step as long as the load is
constant within it: a mean over a quarter hour is taken as such.

Temperatures are °C, rises K, loads per unit of the rated current.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

METHOD = "IEC 60076-7, exact exponential step"

_STEPS_AT_ONCE = 96


@dataclass(frozen=True, slots=True)
class ThermalParameters:
    """One row of `thermal.toml`."""

    title: str
    oil_exponent_x: float
    winding_exponent_y: float
    k11: float
    k21: float
    k22: float
    oil_time_constant_min: float
    winding_time_constant_min: float
    top_oil_rise_k: float
    winding_gradient_k: float
    hot_spot_factor: float
    indoor_rise_k: float


@dataclass(frozen=True, slots=True)
class Paper:
    """How fast paper ages with temperature, relative to its reference temperature."""

    title: str
    form: Literal["doubling", "arrhenius"]
    reference_c: float
    doubling_k: float = math.nan
    b_k: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Temperatures:
    """Temperatures at the end of each step, °C."""

    top_oil_c: NDArray[np.float64]
    hot_spot_c: NDArray[np.float64]


@cache
def thermal_parameters(kind: str) -> ThermalParameters:
    """The parameters of a kind of transformer; raises KeyError if `thermal.toml` has none."""
    return ThermalParameters(**_document()["transformer"][kind])


@cache
def paper(kind: str) -> Paper:
    """The ageing law of a kind of paper; raises KeyError if `thermal.toml` has none."""
    return Paper(**_document()["paper"][kind])


def temperatures(
    load_pu: NDArray[np.float64],
    ambient_c: NDArray[np.float64],
    step_min: float,
    loss_ratio: float,
    parameters: ThermalParameters,
    *,
    indoor: bool = False,
    warm_up: int = 1,
) -> Temperatures:
    """Top oil and hot spot at the end of each step of constant load.

    `loss_ratio` is load loss over no-load loss at rated current. The
    transformer starts in the steady state of the mean of the first `warm_up`
    steps. Raises ValueError if a load or an ambient temperature is not known.
    """
    if np.isnan(load_pu).any() or np.isnan(ambient_c).any():
        raise ValueError(
            "expected a load and an ambient temperature for every step, some are not known; "
            "fill the gaps first and report the coverage"
        )
    p = parameters
    oil_target = np.asarray(
        ambient_c
        + (p.indoor_rise_k if indoor else 0.0)
        + p.top_oil_rise_k * ((1 + loss_ratio * load_pu**2) / (1 + loss_ratio)) ** p.oil_exponent_x
    )
    gradient = p.hot_spot_factor * p.winding_gradient_k * load_pu**p.winding_exponent_y
    top_oil_c = relax(
        oil_target, step_min, p.k11 * p.oil_time_constant_min, oil_target[:warm_up].mean()
    )
    fast = p.k21 * gradient
    slow = (p.k21 - 1) * gradient
    first = relax(fast, step_min, p.k22 * p.winding_time_constant_min, fast[:warm_up].mean())
    second = relax(slow, step_min, p.oil_time_constant_min / p.k22, slow[:warm_up].mean())
    return Temperatures(top_oil_c, top_oil_c + first - second)


def relax(
    target: NDArray[np.float64], step_min: float, time_constant_min: float, start: float
) -> NDArray[np.float64]:
    """State of a first-order lag at the end of each step of constant target; exact.

    z(n) = a z(n-1) + (1 - a) target(n) with a = exp(-step / time constant),
    solved for many steps at once as one product with a triangular matrix.
    """
    remaining = math.exp(-step_min / time_constant_min)
    size = min(_STEPS_AT_ONCE, len(target))
    ages = np.subtract.outer(np.arange(size), np.arange(size))
    weights = np.where(ages >= 0, (1 - remaining) * remaining ** np.maximum(ages, 0), 0.0)
    of_start = remaining ** np.arange(1, size + 1)
    state = np.empty(len(target))
    for begin in range(0, len(target), size or 1):
        piece = target[begin : begin + size]
        n = len(piece)
        state[begin : begin + n] = weights[:n, :n] @ piece + of_start[:n] * start
        start = float(state[begin + n - 1])
    return state


def ageing_rate(hot_spot_c: NDArray[np.float64], law: Paper) -> NDArray[np.float64]:
    """Ageing relative to the reference temperature: 1 at 98 °C (normal) or 110 °C (upgraded)."""
    if law.form == "doubling":
        return np.asarray(2.0 ** ((hot_spot_c - law.reference_c) / law.doubling_k))
    reference_k = law.reference_c + 273
    return np.asarray(np.exp(law.b_k / reference_k - law.b_k / (hot_spot_c + 273)))


def _document() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads((Path(__file__).parent / "thermal.toml").read_text(encoding="utf-8"))
