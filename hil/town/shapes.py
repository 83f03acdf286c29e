"""The load shapes of 2016: what share of its nominal power an element draws, per quarter hour.

Kept as differences of int16 (one part in 10,000) on a UTC axis from
2015-12-31 23:00; laid out here by local wall clock for customers and by UTC
for the sun.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from hil.town.seasons import QUARTER_S, QUARTERS_A_DAY, SOURCE_DAYS, local_quarters
from hil.town.tables import TownFileError

SCALE = 1e-4
AXIS_FIRST_UTC_S = int(dt.datetime(2015, 12, 31, 23, tzinfo=dt.UTC).timestamp())
AXIS_STEPS = SOURCE_DAYS * QUARTERS_A_DAY
_FIRST_DAY = int(dt.datetime(2016, 1, 1, tzinfo=dt.UTC).timestamp()) // 86_400

Table = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes by name; rows are columns of SimBench, values are parts of 10,000."""

    row: dict[str, int]
    local: Table
    """[shape][day of 2016 x 96 quarters by the wall clock]."""
    utc: Table
    """[shape][UTC day of 2016 x 96 quarters]."""

    def index(self, name: str) -> int:
        """Row of a shape; raises `TownFileError` when the extract has none of that name."""
        if name not in self.row:
            raise TownFileError(f"load/shapes.npz has no shape {name!r}; make the extract again")
        return self.row[name]


def write_shapes(path: Path, names: list[str], on_axis: Table) -> None:
    """Store shapes [name][step of the UTC axis] compactly."""
    steps = np.diff(on_axis.astype(np.int32), axis=1, prepend=0).astype(np.int16)
    low = (steps & 0xFF).astype(np.uint8)
    high = (steps >> 8).astype(np.int8)
    np.savez_compressed(path, names=np.array(names), low=low, high=high)


def read_shapes(path: Path, zone: ZoneInfo) -> Shapes:
    """Load the shapes and lay them out for the clock of `zone`."""
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["names"]]
        steps = (file["high"].astype(np.int16) << 8) | file["low"].astype(np.int16)
    if steps.shape != (len(names), AXIS_STEPS):
        raise TownFileError(
            f"{path}: expected {len(names)} shapes of {AXIS_STEPS} steps, came {steps.shape}"
        )
    on_axis = np.cumsum(steps, axis=1, dtype=np.int16)
    from_axis = _axis_step_of_local_quarter(zone)
    ahead = (_FIRST_DAY * 86_400 - AXIS_FIRST_UTC_S) // QUARTER_S
    return Shapes(
        {name: row for row, name in enumerate(names)},
        on_axis[:, from_axis],
        np.roll(on_axis, -ahead, axis=1),
    )


def _axis_step_of_local_quarter(zone: ZoneInfo) -> NDArray[np.int64]:
    """Which axis step each local quarter of 2016 takes.

    The hour that the spring change skips repeats the hour before; of the hour
    that comes twice in autumn the second counts.
    """
    taken = np.full(AXIS_STEPS, -1, dtype=np.int64)
    for day in range(_FIRST_DAY - 1, _FIRST_DAY + SOURCE_DAYS):
        for quarter, (local_day, local_quarter) in enumerate(local_quarters(day, zone)):
            position = (local_day - _FIRST_DAY) * QUARTERS_A_DAY + local_quarter
            step = (day * 86_400 - AXIS_FIRST_UTC_S) // QUARTER_S + quarter
            if 0 <= position < AXIS_STEPS and 0 <= step < AXIS_STEPS:
                taken[position] = step
    for position in np.flatnonzero(taken < 0).tolist():
        taken[position] = taken[position - 4] if position >= 4 else taken[taken >= 0][0]
    return taken
