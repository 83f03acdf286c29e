"""From a day of readings to the cells and transformers of the map."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path

import h3
import numpy as np
import pyarrow as pa
import pytest

from central.grid.load import load_folder
from central.grid.model import Grid, load_grid
from central.map.aggregate import refresh
from central.map.aggregates import BLOCKS_KEPT, Aggregates, AggregatesReader
from central.map.blocks import decode_map_block
from central.map.cells import lay_out, ring

WriteTown = Callable[..., Path]
DAY = date(2024, 1, 15)
STEPS = 96


@pytest.fixture
def grid(tmp_path: Path, town_files: WriteTown) -> Grid:
    load_folder(tmp_path / "registry.db", town_files(transformers=2, households=6))
    return load_grid(tmp_path / "registry.db")


@pytest.fixture
def aggregates(tmp_path: Path):
    writer = Aggregates(tmp_path / "aggregates.db")
    yield writer
    writer.close()


@pytest.fixture
def reader(tmp_path: Path) -> AggregatesReader:
    return AggregatesReader(tmp_path / "aggregates.db")


def energies(grid: Grid, seed: int = 1) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (len(grid.meters), STEPS)
    ids = [meter.id for meter in grid.meters]
    return (
        ids,
        random.integers(0, 2000, shape).astype(float),
        random.integers(0, 500, shape).astype(float),
        random.integers(0, 300, shape).astype(float),
    )


def layer_values(reader: AggregatesReader, layer: str, day: date = DAY) -> np.ndarray:
    import gzip

    version = reader.state().versions[layer][day.isoformat()]
    gzipped = reader.block_gzipped(layer, day, version)
    assert gzipped is not None
    return decode_map_block(gzip.decompress(gzipped)).values()


def test_every_cell_sums_its_own_meters(grid, aggregates, reader, stand_in_readings) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    layout = lay_out(grid)
    load, export = layer_values(reader, "load_density"), layer_values(reader, "pv_export")
    stored = reader.cell_day(DAY, len(layout.cells))
    assert stored is not None
    place = {point.id: (point.lat, point.lon) for point in grid.service_points}
    for index, cell in enumerate(layout.cells):
        members = [
            m
            for m, meter in enumerate(grid.meters)
            if meter.service_point and h3.latlng_to_cell(*place[meter.service_point], 10) == cell
        ]
        assert members
        energy_wh = import_wh[members].sum(axis=0)
        density = energy_wh * 4 / 1e6 / h3.cell_area(cell, unit="km^2")
        assert load[:, index] == pytest.approx(density, abs=0.0003)
        exported_kw = export_wh[members].sum(axis=0) * 4 / 1e3
        assert export[:, index] == pytest.approx(exported_kw, abs=0.006)
        assert np.array_equal(stored.import_wh[:, index], energy_wh)
        assert np.all(stored.reporting[:, index] == len(members))


def test_a_silent_cell_has_no_data_and_a_half_silent_one_sums_the_rest(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    layout = lay_out(grid)
    in_first_cell = np.flatnonzero(layout.meter_cell == 0)
    import_wh[in_first_cell, 10] = np.nan
    export_wh[in_first_cell, 10] = np.nan
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    for layer in ("load_density", "pv_export", "ev_charging"):
        values = layer_values(reader, layer)
        assert np.isnan(values[10, 0])
        assert not np.isnan(values[11, 0])


def test_ev_charging_counts_chargers_only_and_a_cell_without_any_shows_zero(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    layout = lay_out(grid)
    values = layer_values(reader, "ev_charging")
    charger = ids.index(grid.chargers[0].meter)
    cell = layout.meter_cell[charger]
    assert values[:, cell] == pytest.approx(import_wh[charger] * 4 / 1e3, abs=0.006)
    without = np.flatnonzero(layout.cell_chargers == 0)
    assert np.all(values[:, without] == 0)


def test_a_silent_charger_is_no_data_even_when_its_neighbours_report(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    charger = ids.index(grid.chargers[0].meter)
    import_wh[charger, 5] = np.nan
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    cell = lay_out(grid).meter_cell[charger]
    values = layer_values(reader, "ev_charging")
    assert np.isnan(values[5, cell])
    assert not np.isnan(values[6, cell])


def test_utilisation_is_the_check_meters_apparent_power_over_the_rating(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    check = ids.index(grid.transformers[1].check_meter)
    apparent_va = 4 * np.hypot(import_wh[check] - export_wh[check], varh[check])
    ((_, units),) = reader.transformer_days(DAY, DAY, 2)
    assert units.apparent_va[:, 1] == pytest.approx(apparent_va, rel=1e-6)
    assert np.all(units.source == 1)
    cell = int(np.flatnonzero(lay_out(grid).cell_transformer == 1)[0])
    percent = layer_values(reader, "utilisation")[:, cell]
    assert percent == pytest.approx(100 * apparent_va / 400e3, abs=0.011)


def test_without_its_check_meter_a_transformer_is_the_sum_of_its_meters_and_says_so(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    check = ids.index(grid.transformers[0].check_meter)
    below = [m for m, meter in enumerate(grid.meters) if meter.transformer == "t01" and m != check]
    import_wh[check, 20:] = np.nan
    import_wh[below[0], 30] = np.nan
    import_wh[below[:3], 40] = np.nan
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)

    ((_, units),) = reader.transformer_days(DAY, DAY, 2)
    net_w = 4 * (import_wh[below] - export_wh[below]).sum(axis=0)
    assert units.source[19:21, 0].tolist() == [1, 2]
    assert units.apparent_va[20, 0] == pytest.approx(abs(net_w[20]) / 0.95, rel=1e-6)
    assert units.source[30, 0] == 2
    assert units.reporting[30, 0] == len(below) - 1
    assert units.source[40, 0] == 0
    assert math.isnan(units.apparent_va[40, 0])


def test_coverage_counts_the_meters_that_reported_among_the_intervals_that_are_over(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, *_ = energies(grid)
    import_wh[:, 48:] = np.nan
    import_wh[: len(ids) // 2, 24:48] = np.nan
    stand_in_readings.put(DAY, ids, import_wh)
    stand_in_readings.last_end_utc_s = lambda: 1705276800 + 48 * 900
    refresh({DAY}, stand_in_readings, grid, aggregates)

    (day,) = reader.state().days
    assert day.steps == 48
    assert day.coverage == pytest.approx(0.75)


def test_unknown_meters_and_dictionary_columns_are_taken_in_stride(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)
    before = reader.state().versions
    table = stand_in_readings.day_energy(DAY)
    stranger = table.slice(0, 3).set_column(0, "meter", pa.array(["m999999"] * 3))
    both = pa.concat_tables([table, stranger])
    encoded = both.set_column(0, "meter", both.column("meter").combine_chunks().dictionary_encode())
    stand_in_readings.day_energy = lambda day: encoded

    refresh({DAY}, stand_in_readings, grid, aggregates)

    assert reader.state().versions == before


def test_the_same_readings_again_leave_every_version_as_it_was_and_new_ones_change_it(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)
    first = reader.state().versions["load_density"]["2024-01-15"]
    refresh({DAY}, stand_in_readings, grid, aggregates)
    assert reader.state().versions["load_density"]["2024-01-15"] == first

    for change in range(BLOCKS_KEPT):
        assert reader.block_gzipped("load_density", DAY, first) is not None
        stand_in_readings.put(DAY, ids, import_wh + 50 * (change + 1), export_wh, varh)
        refresh({DAY}, stand_in_readings, grid, aggregates)
    assert reader.block_gzipped("load_density", DAY, first) is None


def test_another_grid_recomputes_every_day_and_drops_what_the_old_one_made(
    grid, aggregates, reader, stand_in_readings, tmp_path, town_files
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    other_day = date(2024, 1, 16)
    for day in (DAY, other_day):
        stand_in_readings.put(day, ids, import_wh, export_wh, varh)
    refresh({DAY, other_day}, stand_in_readings, grid, aggregates)
    load_folder(tmp_path / "registry.db", town_files("other", households=5))
    smaller = load_grid(tmp_path / "registry.db")

    assert refresh(set(), stand_in_readings, smaller, aggregates) == [DAY, other_day]

    assert reader.state().grid_version == smaller.version
    assert layer_values(reader, "load_density").shape == (STEPS, len(lay_out(smaller).cells))


def test_readers_of_a_file_that_is_not_there_find_nothing(reader: AggregatesReader) -> None:
    assert reader.state().days == ()
    assert reader.cell_day(DAY, 5) is None
    assert reader.transformer_days(DAY, DAY, 5) == []


def test_cells_are_closed_hexagons_around_their_points_and_belong_to_the_majority(grid) -> None:
    layout = lay_out(grid)
    assert sum(layout.cell_service_points) == len(grid.service_points)
    for cell, area_km2 in zip(layout.cells, layout.cell_area_km2, strict=True):
        outline = ring(cell)
        assert outline[0] == outline[-1]
        assert len(outline) in (6, 7)
        assert 0.005 < area_km2 < 0.03
    assert set(layout.cell_transformer.tolist()) == {0, 1}
    assert lay_out(grid) is layout


def test_the_day_after_a_touched_day_is_computed_too_for_it_begins_at_that_days_last_register(
    grid, aggregates, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    next_day = date(2024, 1, 16)
    for day in (DAY, next_day):
        stand_in_readings.put(day, ids, import_wh, export_wh, varh)
    refresh({DAY, next_day}, stand_in_readings, grid, aggregates)

    assert refresh({DAY}, stand_in_readings, grid, aggregates) == [DAY, next_day]
    assert refresh({next_day}, stand_in_readings, grid, aggregates) == [next_day]


def test_days_before_the_first_known_energy_are_not_shown_but_a_silent_day_later_is(
    grid, aggregates, reader, stand_in_readings
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    nothing = np.full_like(import_wh, np.nan)
    before, silent = date(2024, 1, 14), date(2024, 1, 16)
    stand_in_readings.put(before, ids, nothing)
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    stand_in_readings.put(silent, ids, nothing)

    refresh({before, DAY, silent}, stand_in_readings, grid, aggregates)

    state = reader.state()
    assert [(day.day, day.coverage) for day in state.days] == [(DAY, 1.0), (silent, 0.0)]
    assert set(state.versions["load_density"]) == {"2024-01-15", "2024-01-16"}


def test_the_order_of_rows_changes_nothing(grid, aggregates, reader, stand_in_readings) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    import_wh[3, 5:9] = np.nan
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)
    before = reader.state().versions
    table = stand_in_readings.day_energy(DAY)
    shuffled = table.take(np.random.default_rng(2).permutation(table.num_rows))
    stand_in_readings.day_energy = lambda day: shuffled

    refresh({DAY}, stand_in_readings, grid, aggregates)

    assert reader.state().versions == before


@pytest.mark.parametrize("impossible_wh", [3e5 + 1, 5e9, 9e18, -40.0])
def test_an_impossible_energy_counts_as_unknown_and_costs_the_neighbours_nothing(
    grid, aggregates, reader, stand_in_readings, impossible_wh: float
) -> None:
    ids, import_wh, export_wh, varh = energies(grid)
    layout = lay_out(grid)
    bad = int(np.flatnonzero(layout.meter_cell == 0)[0])
    import_wh[bad, 7] = np.nan
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)
    refresh({DAY}, stand_in_readings, grid, aggregates)
    unknown = reader.state()
    import_wh[bad, 7] = impossible_wh
    stand_in_readings.put(DAY, ids, import_wh, export_wh, varh)

    refresh({DAY}, stand_in_readings, grid, aggregates)

    assert reader.state().versions == unknown.versions
    assert reader.state().days == unknown.days
