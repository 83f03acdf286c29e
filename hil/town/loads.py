"""What each customer of one transformer draws, quarter by quarter, made individual from a seed.

Customers of a class share one shape in the source. Here each takes, per day, a
source day of the same weekday some weeks around, shifted by some quarters and
scaled, and homes add a slow noise. Heat pumps and plants keep their source
day, because the weather must agree across the town; plants follow UTC like the
sun, everyone else the wall clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from hil.town.draws import Floats, Words, keys, mix, normal, spread, uniform
from hil.town.seasons import (
    QUARTERS_A_DAY,
    date_of,
    local_quarters,
    source_day,
    within_source,
)
from hil.town.shapes import SCALE, Shapes
from hil.town.tables import Element, TownFileError

_NOISE_MEMORY = 0.8
_NOISE_SIGMA = 0.22
_TAN_PHI_NOMINAL = 0.4


@dataclass(frozen=True, slots=True)
class Habit:
    """How freely a kind of element departs from its shape."""

    weeks: int
    shift_quarters: int
    day_sigma: float
    noise: bool = False


HABITS: Mapping[str, Habit] = {
    "home": Habit(weeks=3, shift_quarters=3, day_sigma=0.40, noise=True),
    "trade": Habit(weeks=3, shift_quarters=3, day_sigma=0.25),
    "charger": Habit(weeks=8, shift_quarters=3, day_sigma=0.0),
    "heat_pump": Habit(weeks=0, shift_quarters=2, day_sigma=0.0),
}


@dataclass(frozen=True, slots=True)
class Power:
    """Powers of one UTC day [meter][96]; import is positive."""

    active_w: Floats
    reactive_var: Floats


class CustomerLoads:
    """All elements behind the customers' meters of one transformer."""

    def __init__(
        self,
        elements: Sequence[Element],
        meters: Mapping[str, int],
        limit_w: Mapping[str, float],
        shapes: Shapes,
        zone: ZoneInfo,
        seed: int,
    ) -> None:
        """`meters` gives each meter's row; `limit_w` caps meters that can draw no more."""
        self._shapes = shapes
        self._zone = zone
        self._rows = len(meters)
        self._limits = np.full((len(meters), 1), np.inf)
        for meter, watts in limit_w.items():
            self._limits[meters[meter]] = watts
        seeds = element_seeds(elements, seed)
        local = [i for i, element in enumerate(elements) if element.kind != "plant"]
        self._local = _Group([elements[i] for i in local], seeds[local], meters, shapes)
        sunny = [i for i, element in enumerate(elements) if element.kind == "plant"]
        self._sunny = _Group([elements[i] for i in sunny], seeds[sunny], meters, shapes)
        self._recent: dict[int, tuple[Floats, Floats]] = {}

    def power(self, day: int) -> Power:
        """Powers of the UTC day `day` (days since 1970-01-01)."""
        quarters = local_quarters(day, self._zone)
        days = sorted({local_day for local_day, _ in quarters})
        tables = {local_day: self._local_day(local_day) for local_day in days}
        self._recent = tables
        active = np.empty((self._rows, QUARTERS_A_DAY))
        reactive = np.empty((self._rows, QUARTERS_A_DAY))
        for local_day in days:
            into = [i for i, (here, _) in enumerate(quarters) if here == local_day]
            out_of = [quarter for here, quarter in quarters if here == local_day]
            active[:, into] = tables[local_day][0][:, out_of]
            reactive[:, into] = tables[local_day][1][:, out_of]
        active = np.minimum(active, self._limits)
        if self._sunny.nominal_w.size:
            active += self._sunlight(day)
        return Power(active, reactive)

    def _sunlight(self, day: int) -> Floats:
        first = source_day(date_of(day)) * QUARTERS_A_DAY
        window = self._shapes.utc[:, first : first + QUARTERS_A_DAY]
        group = self._sunny
        watts = window[group.active_row] * (SCALE * group.nominal_w[:, None])
        return -_per_meter(watts, group.meter_row, self._rows)

    def _local_day(self, day: int) -> tuple[Floats, Floats]:
        if day in self._recent:
            return self._recent[day]
        group = self._local
        at = group.source_quarters(day)
        gain = group.gain(day)
        active = self._shapes.local[group.active_row[:, None], at] * SCALE * gain
        reactive = self._shapes.local[group.reactive_row[:, None], at] * SCALE * gain
        active *= group.nominal_w[:, None]
        reactive *= (group.nominal_w * group.tan_phi)[:, None]
        return (
            _per_meter(active, group.meter_row, self._rows),
            _per_meter(reactive, group.meter_row, self._rows),
        )


class _Group:
    """Elements as columns, with their draws."""

    def __init__(
        self,
        elements: Sequence[Element],
        seeds: Words,
        meters: Mapping[str, int],
        shapes: Shapes,
    ) -> None:
        self.seeds = seeds
        self.meter_row = np.array([meters[e.meter] for e in elements], dtype=np.int64)
        self.nominal_w = np.array([e.nominal_w for e in elements], dtype=np.float64)
        self.active_row = np.array([_active_row(shapes, e) for e in elements], dtype=np.int64)
        self.reactive_row = np.array([_reactive_row(shapes, e) for e in elements], dtype=np.int64)
        with_q = ("home", "trade", "heat_pump")
        self.tan_phi = np.array([_TAN_PHI_NOMINAL * (e.kind in with_q) for e in elements])
        habits = [HABITS[e.kind] for e in elements if e.kind != "plant"]
        self._weeks = np.array([habit.weeks for habit in habits], dtype=np.int64)
        self._shift = np.array([habit.shift_quarters for habit in habits], dtype=np.int64)
        self._sigma = np.array([habit.day_sigma for habit in habits])
        self._noisy = np.array([habit.noise for habit in habits], dtype=bool)

    def source_quarters(self, day: int) -> NDArray[np.int64]:
        """Where in the shapes each quarter of a local day comes from [element][96]."""
        drawn = spread(keys(self.seeds, 1, day), 2)
        weeks = _within(drawn[:, 0], self._weeks)
        shift = _within(drawn[:, 1], self._shift)
        base = source_day(date_of(day))
        most = int(self._weeks.max(initial=0))
        days = np.array([within_source(base + 7 * week) for week in range(-most, most + 1)])
        first = days[weeks + most] * QUARTERS_A_DAY - shift
        at = first[:, None] + np.arange(QUARTERS_A_DAY)[None, :]
        return at % self._shapes_length

    _shapes_length = 366 * QUARTERS_A_DAY

    def gain(self, day: int) -> Floats:
        """Log-normal scale of the day with mean 1, times the homes' slow noise [element][96]."""
        drawn = normal(keys(self.seeds, 2, day))
        gain = np.exp(self._sigma * drawn - self._sigma**2 / 2.0)[:, None]
        gain = np.repeat(gain, QUARTERS_A_DAY, axis=1)
        shocks = normal(spread(keys(self.seeds[self._noisy], 3, day), QUARTERS_A_DAY))
        noise = shocks @ _NOISE_FILTER
        gain[self._noisy] *= np.exp(_NOISE_SIGMA * noise - _NOISE_SIGMA**2 / 2.0)
        return gain


def element_seeds(elements: Sequence[Element], seed: int) -> Words:
    """One seed per element from its meter's number and its place behind the meter."""
    places: dict[str, int] = {}
    numbers = []
    for element in elements:
        place = places.get(element.meter, 0)
        places[element.meter] = place + 1
        numbers.append(meter_number(element.meter) * 64 + place)
    town = mix(np.array([seed], dtype=np.uint64))
    return mix(np.array(numbers, dtype=np.uint64) ^ town)


def meter_number(meter: str) -> int:
    """The number in a meter's id: 123 of `m000123`."""
    if not (meter.startswith("m") and meter[1:].isdigit()):
        raise TownFileError(f"expected a meter id like m000123, came {meter!r}")
    return int(meter[1:])


def _active_row(shapes: Shapes, element: Element) -> int:
    return shapes.index(element.profile if element.kind == "plant" else f"{element.profile}_p")


def _reactive_row(shapes: Shapes, element: Element) -> int:
    if element.kind in ("home", "trade"):
        return shapes.index(f"{element.profile}_q")
    return _active_row(shapes, element)


def _within(words: Words, most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers in [-most, most], evenly."""
    return np.floor(uniform(words) * (2 * most + 1)).astype(np.int64) - most


def _per_meter(values: Floats, rows: NDArray[np.int64], count: int) -> Floats:
    """Sum the elements of each meter; elements stand in any order."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, rows, values)
    return total


def _noise_filter() -> Floats:
    """Matrix that turns white noise into a stationary first-order memory of variance 1."""
    step = np.arange(QUARTERS_A_DAY)
    age = step[None, :] - step[:, None]
    fresh = np.sqrt(1.0 - _NOISE_MEMORY**2)
    weight = np.where(step[:, None] == 0, 1.0, fresh)
    return np.asarray(np.where(age >= 0, weight * _NOISE_MEMORY ** np.maximum(age, 0), 0.0))


_NOISE_FILTER = _noise_filter()
