"""The cells of the map: H3 hexagons of resolution 10 that hold at least one service point.

A cell's index is its place in the sorted list of cells; it stays as long as
the grid version stays. A cell belongs to the transformer that feeds most of
its service points (the first by id among equals).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache

import h3
import numpy as np
from numpy.typing import NDArray

from central.grid.model import Grid

RESOLUTION = 10
NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where every meter counts; arrays are indexed by cell, transformer or meter in grid order."""

    cells: tuple[str, ...]
    """H3 index of each cell."""
    cell_area_km2: NDArray[np.float64]
    cell_service_points: tuple[int, ...]
    cell_transformer: NDArray[np.intp]
    cell_meters: NDArray[np.int64]
    cell_chargers: NDArray[np.int64]
    """Chargers with a meter of their own."""
    transformer_rated_va: NDArray[np.float64]
    transformer_meters: NDArray[np.int64]
    """Meters below each transformer, its check meter not counted."""
    meter_ids: tuple[str, ...]
    meter_cell: NDArray[np.intp]
    """NOWHERE for check meters."""
    meter_transformer: NDArray[np.intp]
    """Transformer that a meter's energy adds up to; NOWHERE for check meters."""
    meter_checks: NDArray[np.intp]
    """Transformer that a check meter measures; NOWHERE for all others."""
    meter_is_charger: NDArray[np.bool_]
    meter_rated_va: NDArray[np.float64]
    """Rating of the transformer above each meter."""


@lru_cache(maxsize=2)
def lay_out(grid: Grid) -> Layout:
    """Place the grid's service points and meters into cells."""
    cell_of_point = {
        point.id: h3.latlng_to_cell(point.lat, point.lon, RESOLUTION)
        for point in grid.service_points
    }
    cells = tuple(sorted(set(cell_of_point.values())))
    cell_index = {cell: index for index, cell in enumerate(cells)}
    transformer_index = {unit.id: index for index, unit in enumerate(grid.transformers)}
    fed_by: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for point in grid.service_points:
        fed_by[cell_of_point[point.id]][point.transformer] += 1
    majority = [
        min(fed_by[cell].items(), key=lambda item: (-item[1], item[0]))[0] for cell in cells
    ]
    checks = {unit.check_meter: unit.id for unit in grid.transformers if unit.check_meter}
    chargers = {charger.meter for charger in grid.chargers}

    meter_cell = np.full(len(grid.meters), NOWHERE, dtype=np.intp)
    meter_transformer = np.full(len(grid.meters), NOWHERE, dtype=np.intp)
    meter_checks = np.full(len(grid.meters), NOWHERE, dtype=np.intp)
    for index, meter in enumerate(grid.meters):
        if meter.id in checks:
            meter_checks[index] = transformer_index[checks[meter.id]]
        elif meter.service_point is not None:
            meter_transformer[index] = transformer_index[meter.transformer]
            meter_cell[index] = cell_index[cell_of_point[meter.service_point]]
    rated_va = np.array([1000 * unit.rated_kva for unit in grid.transformers], dtype=np.float64)
    is_charger = np.array([meter.id in chargers for meter in grid.meters], dtype=np.bool_)
    return Layout(
        cells=cells,
        cell_area_km2=np.array([h3.cell_area(cell, unit="km^2") for cell in cells]),
        cell_service_points=tuple(fed_by[cell].total() for cell in cells),
        cell_transformer=np.array([transformer_index[unit] for unit in majority], dtype=np.intp),
        cell_meters=_count(meter_cell, len(cells)),
        cell_chargers=_count(meter_cell[is_charger], len(cells)),
        transformer_rated_va=rated_va,
        transformer_meters=_count(meter_transformer, len(grid.transformers)),
        meter_ids=tuple(meter.id for meter in grid.meters),
        meter_cell=meter_cell,
        meter_transformer=meter_transformer,
        meter_checks=meter_checks,
        meter_is_charger=is_charger,
        meter_rated_va=rated_va[[transformer_index[meter.transformer] for meter in grid.meters]],
    )


def ring(cell: str) -> list[list[float]]:
    """The closed outline of a cell as [lon, lat], counter-clockwise as GeoJSON wants it."""
    corners = [[lon, lat] for lat, lon in h3.cell_to_boundary(cell)]
    return [*corners, corners[0]]


def _count(places: NDArray[np.intp], size: int) -> NDArray[np.int64]:
    return np.bincount(places[places != NOWHERE], minlength=size).astype(np.int64)
