"""The asset record, from stored days to figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from central.assets.loading import LoadHistory, load_history, without_gaps
from central.assets.record import asset_record, hot_spot_c
from central.grid.load import load_folder
from central.grid.model import Grid, load_grid
from central.map.aggregate import refresh
from central.map.aggregates import Aggregates, AggregatesReader

WriteTown = Callable[..., Path]
FIRST = date(2024, 7, 1)
FIRST_UTC_S = 1719792000
TODAY = date(2024, 7, 8)


@pytest.fixture
def grid(tmp_path: Path, town_files: WriteTown) -> Grid:
    load_folder(tmp_path / "registry.db", town_files(transformers=2, households=6))
    return load_grid(tmp_path / "registry.db")


def history_of(share: np.ndarray, rated_kva: float = 400) -> LoadHistory:
    """A history with the given utilisation (1 = rated), NaN where not known."""
    apparent_va = share * rated_kva * 1000
    known = ~np.isnan(share)
    return LoadHistory(
        900,
        FIRST_UTC_S + 900 * np.arange(1, len(share) + 1),
        apparent_va,
        0.9 * apparent_va,
        known.astype(np.uint8),
        np.where(known, 8, 0).astype(np.uint16),
    )


def record_of(grid: Grid, share: np.ndarray):
    return asset_record(grid, grid.transformers[0], history_of(share), TODAY)


def test_identity_age_and_counts_come_from_the_master_data(grid: Grid) -> None:
    record = record_of(grid, np.full(96, 0.5))
    assert record.identity is not None
    assert record.identity.age_years == pytest.approx(33.3, abs=0.05)
    assert record.identity.synthetic
    assert record.customers == 6
    assert record.meters == {
        "check": 1, "household": 6, "charger": 1, "plant": 1, "total": 8, "reporting": 8,
    }  # fmt: skip


def test_loading_counts_peak_mean_and_hours_over_the_limits(grid: Grid) -> None:
    share = np.full(7 * 96, 0.4)
    share[100:108] = 0.9
    share[300:304] = 1.1

    loading = record_of(grid, share).loading

    assert loading.peak_percent == 110
    assert loading.peak_utc_s == FIRST_UTC_S + 301 * 900
    assert loading.mean_percent == pytest.approx(100 * share.mean(), abs=0.01)
    assert (loading.hours_above_80, loading.hours_above_100) == (3.0, 1.0)
    assert (loading.coverage, loading.source) == (1.0, "check meter")


def test_ageing_at_the_reference_hot_spot_equals_calendar_time(grid: Grid) -> None:
    ambient_c = 20.0
    share = np.full(7 * 96, _load_with_hot_spot(98.0, ambient_c, grid))

    ageing = record_of(grid, share).ageing

    assert ageing.hot_spot_max_c == pytest.approx(98, abs=0.1)
    assert ageing.relative_rate == pytest.approx(1.0, abs=0.01)
    assert ageing.equivalent_days == pytest.approx(7.0, abs=0.05)
    assert ageing.calendar_days == 7.0
    assert ageing.coverage == 1.0


def test_a_gap_ages_like_the_same_time_of_other_days_and_shows_as_coverage(grid: Grid) -> None:
    day = 0.6 + 0.5 * np.sin(np.arange(96) / 96 * 2 * np.pi)
    whole = np.tile(day, 7)
    gappy = whole.copy()
    gappy[2 * 96 + 10 : 4 * 96 + 50] = np.nan

    full, holed = record_of(grid, whole), record_of(grid, gappy)

    assert holed.ageing.equivalent_days == pytest.approx(full.ageing.equivalent_days, rel=1e-3)
    assert holed.ageing.calendar_days == full.ageing.calendar_days
    assert holed.ageing.coverage == holed.loading.coverage == pytest.approx(1 - 232 / 672, abs=1e-4)


def test_a_step_of_day_that_was_never_measured_takes_the_mean_of_the_others() -> None:
    share = np.tile(np.concatenate([np.full(48, 0.2), np.full(47, 0.6), [np.nan]]), 3)
    filled = without_gaps(history_of(share))
    assert filled is not None
    assert filled[95] == pytest.approx(np.nanmean(share) * 400e3)


def test_without_any_measurement_nothing_is_claimed(grid: Grid) -> None:
    record = record_of(grid, np.full(96, np.nan))
    assert record.ageing.equivalent_days is None
    assert record.ageing.relative_rate is None
    assert record.ageing.coverage == 0
    assert record.loading.peak_percent is None
    assert record.loading.source is None
    assert hot_spot_c(grid, grid.transformers[0], None, history_of(np.full(4, np.nan))) is None
    empty = record_of(grid, np.zeros(0))
    assert empty.ageing.calendar_days == 0
    assert empty.meters["reporting"] is None


def test_summer_ages_faster_than_winter_by_the_sites_climate(grid: Grid) -> None:
    share = np.full(7 * 96, 1.0)
    july = record_of(grid, share).ageing
    history = history_of(share)
    winter = LoadHistory(
        900,
        history.end_utc_s - 180 * 86400,
        history.apparent_va,
        history.active_w,
        history.source,
        history.reporting,
    )
    january = asset_record(grid, grid.transformers[0], winter, TODAY).ageing
    assert july.hot_spot_max_c - january.hot_spot_max_c == pytest.approx(20 - 1, abs=0.1)
    assert july.relative_rate == pytest.approx(january.relative_rate * 2 ** (19 / 6), rel=0.01)


def test_a_history_spans_missing_days_and_starts_when_any_transformer_was_known(
    grid: Grid, tmp_path: Path, stand_in_readings
) -> None:
    ids = [meter.id for meter in grid.meters]
    import_wh = np.full((len(ids), 96), 1000.0)
    late = import_wh.copy()
    check = ids.index(grid.transformers[1].check_meter)
    late[:, :20] = np.nan
    of_second = [m for m, meter in enumerate(grid.meters) if meter.transformer == "t02"]
    late[of_second, :40] = np.nan
    stand_in_readings.put(FIRST, ids, late)
    stand_in_readings.put(FIRST + timedelta(days=2), ids, import_wh)
    aggregates = Aggregates(tmp_path / "aggregates.db")
    refresh(set(stand_in_readings.days()), stand_in_readings, grid, aggregates)
    aggregates.close()
    reader = AggregatesReader(tmp_path / "aggregates.db")

    history = load_history(reader, reader.state(), 1, 2)

    assert check in of_second
    assert history.end_utc_s[0] == FIRST_UTC_S + 21 * 900
    assert history.end_utc_s[-1] == FIRST_UTC_S + 3 * 86400
    assert len(history.end_utc_s) == 3 * 96 - 20
    assert int(history.known.sum()) == 96 - 40 + 96
    assert history.apparent_va[-1] == 4000


def _load_with_hot_spot(hot_spot: float, ambient_c: float, grid: Grid) -> float:
    """Steady load (1 = rated) of the indoor 400 kVA unit at which the hot spot is reached."""
    unit = grid.transformers[0]
    ratio = unit.load_loss_w / unit.no_load_loss_w
    low, high = 0.0, 2.0
    for _ in range(60):
        load = (low + high) / 2
        oil = 60 * ((1 + ratio * load**2) / (1 + ratio)) ** 0.8
        if ambient_c + 10 + oil + 1.2 * 23 * load**1.6 < hot_spot:
            low = load
        else:
            high = load
    return low
