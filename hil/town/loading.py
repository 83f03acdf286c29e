"""How full a transformer and its cables are on one day, straight from the simulated loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hil.town.sweep import Complex, RadialGrid

if TYPE_CHECKING:
    from hil.town.town import Town


@dataclass(frozen=True, slots=True)
class Loading:
    """Extremes of one UTC day; shares are of the rating."""

    peak: float
    back_feed: float
    """Highest apparent power while power flows back into the 20 kV grid."""
    fullest_line: tuple[str, float]
    lowest_v: float


def day_loading(town: Town, transformer_id: str, day: int) -> Loading:
    """Extremes of the UTC day `day` (days since 1970-01-01) by the simulated loads."""
    grid = town.grid(transformer_id)
    solution = grid.solve(node_loads(town, transformer_id, grid, day))
    rated_va = town.transformer(transformer_id).rated_kva * 1000.0
    apparent = np.abs(solution.busbar_va) / rated_va
    shares = [
        (line.id, float(solution.line_a[row].max()) / line.i_max_a)
        for row, line in enumerate(grid.lines)
        if line is not None
    ]
    return Loading(
        float(apparent.max()),
        float(np.where(solution.busbar_va.real < 0, apparent, 0.0).max()),
        max(shares, key=lambda pair: pair[1]),
        float(np.abs(solution.voltage_v).min()),
    )


def node_loads(town: Town, transformer_id: str, grid: RadialGrid, day: int) -> Complex:
    """Complex load of each node [node][96] on a UTC day, VA."""
    customers, loads = town.loads(transformer_id)
    node_of_meter = {point.meter: point.node for point in town.service_points}
    rows = [grid.nodes[node_of_meter[meter.id]] for meter in customers]
    power = loads.power(day)
    total = np.zeros((len(grid.nodes), power.active_w.shape[1]), dtype=np.complex128)
    np.add.at(total, rows, power.active_w + 1j * power.reactive_var)
    return total
