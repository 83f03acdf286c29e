"""The seam to the map: days whose rows changed go to `central.map.aggregate.refresh`."""

from __future__ import annotations

import logging
from datetime import date

from central.config import Config
from central.grid.model import Grid, grid_version, load_grid
from central.map.aggregate import refresh
from central.map.aggregates import Aggregates
from central.readings.query import Readings

log = logging.getLogger("central.load")


class MapRefresh:
    """Refreshes the map of one tenant; follows the grid when a new one is loaded."""

    def __init__(self, config: Config, readings: Readings) -> None:
        """Opens aggregates.db; this process is its only writer."""
        self._registry_file = config.registry_file
        self._interval_s = config.interval_s
        self._readings = readings
        self._aggregates = Aggregates(config.aggregates_file)
        self._grid: Grid | None = None
        self._said_no_grid = False

    def __call__(self, days: set[date]) -> bool:
        """Take up `days`; false while no grid is loaded, the days must then be offered again."""
        version = grid_version(self._registry_file)
        if version is None:
            if not self._said_no_grid:
                self._said_no_grid = True
                log.warning("no grid is loaded, the map waits: loadscape-central grid load DIR")
            return False
        if self._grid is None or self._grid.version != version:
            self._grid = load_grid(self._registry_file)
            self._said_no_grid = False
        refresh(days, self._readings, self._grid, self._aggregates, interval_s=self._interval_s)
        return True

    def close(self) -> None:
        """Give aggregates.db back."""
        self._aggregates.close()
