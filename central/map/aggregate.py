"""Computes the map of a day from its readings; the loader calls it after each commit.

Sums are coincident: per interval, over the meters that reported. A cell where
no meter reported has no data. A transformer's apparent power comes from its
check meter; where that has none, from the sum of the meters below it divided
by an assumed power factor, provided that most of them reported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from central.grid.model import Grid
from central.map.aggregates import (
    SOURCE_CHECK_METER,
    SOURCE_NONE,
    SOURCE_SUM_OF_METERS,
    AggregatedDay,
    Aggregates,
    CellDay,
    TransformerDay,
)
from central.map.blocks import encode_map_block
from central.map.cells import NOWHERE, Layout, lay_out
from central.map.layers import layers

ASSUMED_POWER_FACTOR = 0.95
"""Where reactive energy is not known."""

REPORTING_SHARE_NEEDED = 0.8
"""Least share of a transformer's meters whose sum may stand in for its check meter."""

HIGHEST_OVERLOAD = 3.0
"""No meter passes more than this many times the rating of the transformer above it.

An energy beyond is a meter's mistake; taken at its word, one such value would
coarsen the steps of the whole day's layer.
"""

DAY_S = 86_400


class DayReadings(Protocol):
    """What the map needs of `central.readings.query.Readings`."""

    def day_energy(self, day: date) -> pa.Table: ...

    def days(self) -> list[date]: ...

    def last_end_utc_s(self) -> int | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """One day's readings of known meters; energies are NaN where not known or impossible."""

    meter: NDArray[np.intp]
    step: NDArray[np.intp]
    import_wh: NDArray[np.float64]
    export_wh: NDArray[np.float64]
    import_varh: NDArray[np.float64]


def refresh(
    days: Collection[date],
    readings: DayReadings,
    grid: Grid,
    aggregates: Aggregates,
    *,
    interval_s: int = 900,
) -> list[date]:
    """Compute and store the given UTC days; returns the days that were computed.

    When the stored days were made with another grid, all days are computed anew.
    """
    last_end_utc_s = readings.last_end_utc_s()
    # The last register of a day is the first edge of the next one.
    wanted = {*days, *({day + timedelta(days=1) for day in days} & aggregates.days())}
    if aggregates.grid_version != grid.version:
        wanted |= set(readings.days())
    layout = lay_out(grid)
    computed = [
        aggregate_day(day, readings.day_energy(day), layout, last_end_utc_s, interval_s)
        for day in sorted(wanted)
    ]
    aggregates.write(grid.version, interval_s, last_end_utc_s, computed)
    return [aggregated.day for aggregated in computed]


def aggregate_day(
    day: date, table: pa.Table, layout: Layout, last_end_utc_s: int | None, interval_s: int
) -> AggregatedDay:
    """All layers and series of one UTC day from its readings."""
    steps = DAY_S // interval_s
    rows = _rows(table, layout, steps, interval_s / 3600)
    cells = _cells(rows, layout, steps)
    units = _transformers(rows, layout, steps, interval_s / 3600)
    over = _steps_over(day, last_end_utc_s, interval_s, steps)
    reported = int(np.count_nonzero(~np.isnan(rows.import_wh)))
    expected = over * len(layout.meter_ids)
    values = _layer_values(cells, units, layout, interval_s / 3600)
    return AggregatedDay(
        day=day,
        steps=over,
        coverage=min(1.0, reported / expected) if expected else 0.0,
        blocks={
            layer.id: encode_map_block(values[layer.id], layer.unit, layer.resolution)
            for layer in layers()
        },
        cells=cells,
        transformers=units,
    )


def _rows(table: pa.Table, layout: Layout, steps: int, hours: float) -> _Rows:
    known = pa.array(layout.meter_ids, pa.string())
    meters = table.column("meter").combine_chunks()
    if pa.types.is_dictionary(meters.type):
        places = pc.take(pc.index_in(meters.dictionary, known), meters.indices)
    else:
        places = pc.index_in(meters, known)
    meter = places.fill_null(NOWHERE).to_numpy(zero_copy_only=False).astype(np.intp)
    step = _numbers(table, "step").astype(np.intp)
    kept = (meter != NOWHERE) & (step >= 0) & (step < steps)
    meter = meter[kept]
    highest = HIGHEST_OVERLOAD * hours * layout.meter_rated_va[meter]

    def energy(column: str) -> NDArray[np.float64]:
        values = _numbers(table, column)[kept]
        return np.where((values >= 0) & (values <= highest), values, np.nan)

    return _Rows(meter, step[kept], energy("import_wh"), energy("export_wh"), energy("import_varh"))


def _numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = table.column(column).cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _sums(
    rows: _Rows,
    place_of_meter: NDArray[np.intp],
    places: int,
    steps: int,
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[step][place] sum of `values` and how many meters gave one."""
    place = place_of_meter[rows.meter]
    counted = (place != NOWHERE) & ~np.isnan(values)
    key = rows.step[counted] * places + place[counted]
    size = steps * places
    total = np.bincount(key, weights=values[counted], minlength=size)
    count = np.bincount(key, minlength=size)
    return (
        total.astype(np.float64).reshape(steps, places),
        count.astype(np.int64).reshape(steps, places),
    )


def _cells(rows: _Rows, layout: Layout, steps: int) -> CellDay:
    count = len(layout.cells)
    import_wh, reporting = _sums(rows, layout.meter_cell, count, steps, rows.import_wh)
    export_wh, _ = _sums(rows, layout.meter_cell, count, steps, rows.export_wh)
    charger_cell = np.where(layout.meter_is_charger, layout.meter_cell, NOWHERE)
    ev_wh, ev_reporting = _sums(rows, charger_cell, count, steps, rows.import_wh)
    silent = (ev_reporting == 0) & ((layout.cell_chargers > 0) | (reporting == 0))
    return CellDay(
        import_wh=import_wh.astype(np.int32),
        export_wh=export_wh.astype(np.int32),
        ev_wh=np.where(silent, -1, ev_wh).astype(np.int32),
        reporting=reporting.astype(np.uint16),
    )


def _transformers(rows: _Rows, layout: Layout, steps: int, hours: float) -> TransformerDay:
    count = len(layout.transformer_rated_va)
    shape = (steps, count)
    active_wh, varh = np.full(shape, np.nan), np.full(shape, np.nan)
    checks = layout.meter_checks[rows.meter]
    measured = checks != NOWHERE
    at = (rows.step[measured], checks[measured])
    active_wh[at] = rows.import_wh[measured] - np.nan_to_num(rows.export_wh[measured])
    varh[at] = rows.import_varh[measured]
    apparent_va = np.hypot(active_wh, varh) / hours
    active_w = active_wh / hours
    # A check meter without a reactive register is treated like none: its cosine is assumed.
    no_varh = ~np.isnan(active_w) & np.isnan(varh)
    apparent_va[no_varh] = np.abs(active_w[no_varh]) / ASSUMED_POWER_FACTOR

    net_wh = rows.import_wh - np.nan_to_num(rows.export_wh)
    sum_wh, reporting = _sums(rows, layout.meter_transformer, count, steps, net_wh)
    enough = reporting >= np.maximum(1, REPORTING_SHARE_NEEDED * layout.transformer_meters)
    summed = np.isnan(apparent_va) & enough
    active_w[summed] = sum_wh[summed] / hours
    apparent_va[summed] = np.abs(active_w[summed]) / ASSUMED_POWER_FACTOR
    source = np.full(shape, SOURCE_CHECK_METER, dtype=np.uint8)
    source[summed] = SOURCE_SUM_OF_METERS
    source[np.isnan(apparent_va)] = SOURCE_NONE
    return TransformerDay(
        apparent_va.astype(np.float32),
        active_w.astype(np.float32),
        source,
        reporting.astype(np.uint16),
    )


def _layer_values(
    cells: CellDay, units: TransformerDay, layout: Layout, hours: float
) -> dict[str, NDArray[np.float64]]:
    silent = cells.reporting == 0
    percent = 100 * units.apparent_va / layout.transformer_rated_va
    values = {
        "load_density": cells.import_wh / hours / 1e6 / layout.cell_area_km2,
        "ev_charging": np.where(cells.ev_wh < 0, np.nan, cells.ev_wh / hours / 1e3),
        "pv_export": cells.export_wh / hours / 1e3,
    }
    for of_cells in (values["load_density"], values["pv_export"]):
        of_cells[silent] = np.nan
    values["utilisation"] = percent[:, layout.cell_transformer]
    return values


def _steps_over(day: date, last_end_utc_s: int | None, interval_s: int, steps: int) -> int:
    if last_end_utc_s is None:
        return 0
    begin_utc_s = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    return max(0, min(steps, (last_end_utc_s - begin_utc_s) // interval_s))
