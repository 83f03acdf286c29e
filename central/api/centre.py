"""What every answer is made from: the grid, the aggregates and the clock, as of now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from fastapi import HTTPException

from central.assets.loading import LoadHistory, load_history
from central.config import Config
from central.grid.model import Grid, Transformer, grid_version, load_grid
from central.grid.registry import RegistryMissing
from central.map.aggregates import EMPTY, AggregatesReader, State
from wire.clock import SharedClock

NO_GRID = "no grid is loaded yet; load one: loadscape-central grid load DIR"


@dataclass(frozen=True, slots=True, eq=False)
class GridBlobs:
    """Answers that stay the same as long as the grid does, by name."""

    grid: Grid
    bodies: dict[str, tuple[bytes, bytes, str]]
    """(plain, gzipped, ETag) per answer."""


class Centre:
    """The API's view of one tenant; any thread may ask."""

    def __init__(
        self, config: Config, make_bodies: Callable[[Grid], dict[str, tuple[bytes, bytes, str]]]
    ) -> None:
        self.config = config
        self.clock = config.clock()
        self.aggregates = AggregatesReader(config.aggregates_file)
        self.closing = False
        """Set when the server stops, so that endless answers end."""
        self._make_bodies = make_bodies
        self._lock = threading.Lock()
        self._blobs: GridBlobs | None = None

    @property
    def speed(self) -> float | None:
        """Seconds shown per real second; None on the system's clock."""
        return self.clock.speed if isinstance(self.clock, SharedClock) else None

    def grid(self) -> Grid:
        """The grid that is loaded now; raises 503 when there is none."""
        return self.blobs().grid

    def blobs(self) -> GridBlobs:
        """The answers made of the grid that is loaded now; raises 503 when there is none."""
        version = grid_version(self.config.registry_file)
        if version is None:
            raise HTTPException(503, NO_GRID)
        with self._lock:
            if self._blobs is None or self._blobs.grid.version != version:
                try:
                    grid = load_grid(self.config.registry_file)
                except (RegistryMissing, LookupError) as error:
                    raise HTTPException(503, NO_GRID) from error
                self._blobs = GridBlobs(grid, self._make_bodies(grid))
            return self._blobs

    def state(self) -> State:
        """Stored days and versions; empty while the loader has not caught up with the grid."""
        state = self.aggregates.state()
        version = grid_version(self.config.registry_file)
        return state if state.grid_version == version else EMPTY

    def transformer(self, grid: Grid, transformer_id: str) -> tuple[int, Transformer]:
        """A transformer and its place in the grid; raises 404."""
        for index, transformer in enumerate(grid.transformers):
            if transformer.id == transformer_id:
                return index, transformer
        raise HTTPException(404, f"there is no transformer {transformer_id!r} in the grid")

    def history(self, grid: Grid, index: int) -> LoadHistory:
        """All that is stored of the load of one transformer."""
        return load_history(self.aggregates, self.state(), index, len(grid.transformers))


def stored_day(state: State, day: date) -> int:
    """Steps of a stored day that are over; raises 404."""
    for stored in state.days:
        if stored.day == day:
            return stored.steps
    raise HTTPException(404, f"nothing is stored for the day {day.isoformat()}")
