"""A made-up town for the page's tests: fixed geometry and fixed loads, the same on every run.

It stands in for the readings that central would hold; what the page must show is computed
here and given out by `stub_server` in the API's own form.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import h3
import numpy as np

INTERVAL_S = 900
DAYS = 7
STEPS = 96
FIRST_DAY = 1_767_830_400  # 2026-01-08T00:00Z, a Thursday
CENTRE = (7.8805, 48.4625)
LON_M = 1 / (111_320 * math.cos(math.radians(CENTRE[1])))
LAT_M = 1 / 110_540
NAMES = (
    "Kirchplatz", "Bahnhofstraße", "Im Sand", "Schulzentrum", "Höfen", "Langhurst",
    "Gewerbe Nord", "Gewerbe Süd", "Rathaus", "Am Bach", "Waldweg", "Neue Heimat",
    "Sportplatz", "Mühlweg",
)  # fmt: skip
RATED_KVA = (400, 630, 250, 400, 250, 250, 630, 630, 400, 250, 160, 400, 160, 250)


@dataclass(frozen=True, slots=True)
class Line:
    transformer: int
    kind: str
    points: list[tuple[float, float]]


@dataclass(slots=True)
class StubTown:
    """Everything that the stub serves; loads are kW per [step of all days][cell]."""

    transformers: list[tuple[float, float]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    points: list[tuple[float, float, int]] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    cell_points: list[int] = field(default_factory=list)
    cell_transformer: list[int] = field(default_factory=list)
    load_kw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ev_kw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    pv_kw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    percent: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def area_km2(self, cell: int) -> float:
        return float(h3.cell_area(self.cells[cell], unit="km^2"))


def make_town(cells_wanted: int | None = None) -> StubTown:
    """The town; `cells_wanted` makes a plain disc of cells of that number for load tests."""
    rng = random.Random(20260108)
    town = StubTown()
    _lay_streets(town, rng)
    _cut_cells(town)
    if cells_wanted is not None:
        _fill_disc(town, cells_wanted)
    _make_loads(town, np.random.default_rng(7))
    return town


def _place(x_m: float, y_m: float) -> tuple[float, float]:
    return (CENTRE[0] + x_m * LON_M, CENTRE[1] + y_m * LAT_M)


def _lay_streets(town: StubTown, rng: random.Random) -> None:
    for t in range(len(NAMES)):
        ring, turn = (0, t) if t < 4 else (1, t - 4)
        angle = 2 * math.pi * turn / (4 if ring == 0 else 10) + 0.4 * ring
        radius = 330 if ring == 0 else 880 + 120 * rng.random()
        x0, y0 = radius * math.cos(angle) * 1.25, radius * math.sin(angle)
        town.transformers.append(_place(x0, y0))
        heading = 0.25 + rng.uniform(-0.12, 0.12)
        for branch in range(4):
            _lay_street(town, rng, t, x0, y0, heading + branch * math.pi / 2, 2)


def _lay_street(
    town: StubTown, rng: random.Random, t: int, x: float, y: float, heading: float, depth: int
) -> None:
    points = [(x, y)]
    for section in range(rng.randint(6, 9) if depth == 2 else rng.randint(3, 5)):
        heading += rng.uniform(-0.1, 0.1)
        x, y = x + 34 * math.cos(heading), y + 34 * math.sin(heading)
        points.append((x, y))
        for side in (-1, 1):
            if rng.random() < 0.82:
                reach = side * rng.uniform(11, 19)
                hx = x + rng.uniform(-9, 9) - reach * math.sin(heading)
                hy = y + rng.uniform(-9, 9) + reach * math.cos(heading)
                town.lines.append(Line(t, "service", [_place(x, y), _place(hx, hy)]))
                town.points.append((*_place(hx, hy), t))
        if depth > 0 and section % 3 == 2:
            side = rng.choice((-1, 1)) * math.pi / 2
            _lay_street(town, rng, t, x, y, heading + side, depth - 1)
    town.lines.append(Line(t, "main", [_place(*p) for p in points]))


def _cut_cells(town: StubTown) -> None:
    members: dict[str, list[int]] = {}
    for lon, lat, t in town.points:
        members.setdefault(h3.latlng_to_cell(lat, lon, 10), []).append(t)
    for cell in sorted(members):
        town.cells.append(cell)
        town.cell_points.append(len(members[cell]))
        town.cell_transformer.append(max(set(members[cell]), key=members[cell].count))


def _fill_disc(town: StubTown, wanted: int) -> None:
    middle = h3.latlng_to_cell(CENTRE[1], CENTRE[0], 10)
    rings = math.ceil(math.sqrt(wanted / 3))
    town.cells = sorted(h3.grid_disk(middle, rings))[:wanted]
    town.cell_points = [8] * wanted
    town.cell_transformer = [i % len(NAMES) for i in range(wanted)]


def _make_loads(town: StubTown, rng: np.random.Generator) -> None:
    steps = DAYS * STEPS
    hour = ((np.arange(steps) + 1) / 4 + 1) % 24
    weekend = (np.arange(steps) // STEPS) % 7 >= 2
    weekend &= (np.arange(steps) // STEPS) % 7 <= 3
    home = 0.34 + 0.5 * np.exp(-(((hour - 7.5) / 1.6) ** 2)) + np.exp(-(((hour - 19) / 2.6) ** 2))
    home += np.where(weekend, 0.35 * np.exp(-(((hour - 12.5) / 3.0) ** 2)), 0)
    works = 0.25 + np.where(weekend, 0.08, 1.5) * np.exp(-(((hour - 12) / 4.0) ** 4))
    plug = np.exp(-((((hour - 20.5 + 12) % 24 - 12) / 2.4) ** 2))
    sun = np.clip(np.cos((hour - 13) / 4.6 * math.pi / 2), 0, None) ** 1.4
    cloud = 0.25 + 0.75 * rng.random(DAYS).repeat(STEPS)
    n = len(town.cells)
    trade = np.isin(np.array(town.cell_transformer), (6, 7, 8))
    points = np.array(town.cell_points)
    shape = np.where(trade[None, :], works[:, None] * 3.0, home[:, None])
    noise = 1 + 0.22 * rng.standard_normal((steps, n)).cumsum(axis=0) / np.sqrt(steps)
    town.load_kw = np.clip(shape * points * 0.95 * noise * rng.uniform(0.6, 1.5, n), 0.02, None)
    chargers = points * (rng.random(n) < 0.42) * rng.uniform(0.2, 0.9, n)
    chargers[np.array(town.cell_transformer) == 2] += 6
    jitter = rng.uniform(0.6, 1.3, (steps, n))
    town.ev_kw = plug[:, None] * chargers * jitter
    plants = points * (rng.random(n) < 0.5) * rng.uniform(0.3, 1.6, n)
    town.pv_kw = sun[:, None] * cloud[:, None] * plants
    total = town.load_kw + town.ev_kw
    town.percent = np.zeros((steps, len(NAMES)))
    for t, rated in enumerate(RATED_KVA):
        kva = total[:, np.array(town.cell_transformer) == t].sum(axis=1) / 0.95
        town.percent[:, t] = 100 * kva / rated
    # One transformer is too small for its street, others stay in the usual band.
    peaks = (74, 66, 118, 58, 47, 91, 71, 52, 63, 83, 39, 55, 34, 44)
    town.percent *= np.array(peaks) / np.maximum(town.percent.max(axis=0), 1e-9)
