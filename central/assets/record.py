"""The asset record of a transformer: what it is, how it is loaded, how fast it ages.

Figures of loading count measured intervals only. For ageing a gap is never
zero: it is filled with the mean of the same step of day, and the coverage says
how much was measured. Ageing is relative to paper at its reference
temperature; ambient temperature is the monthly normal of the site.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from central.assets.loading import LoadHistory, without_gaps
from central.assets.thermal import METHOD, ageing_rate, paper, temperatures, thermal_parameters
from central.grid.model import Asset, Grid, Transformer
from central.map.aggregates import SOURCE_CHECK_METER, SOURCE_SUM_OF_METERS

AMBIENT_SOURCE = "monthly normal of the site (master data, not measured)"
SOURCES = {SOURCE_CHECK_METER: "check meter", SOURCE_SUM_OF_METERS: "sum of meters"}
DEFAULT_KIND = "distribution_onan"
DEFAULT_PAPER = "normal"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the unit stands."""

    id: str
    name: str
    lon: float
    lat: float
    station_node: str
    check_meter: str | None
    concentrator: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Which unit stands there."""

    asset_id: str
    asset_class: str
    manufacturer: str
    model: str
    batch: str | None
    serial: str | None
    manufactured_year: int | None
    installed_on: str | None
    age_years: float | None
    """Since installation; since the middle of the year of manufacture where that is unknown."""
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Rating:
    """What the unit is built for."""

    rated_kva: float
    primary_v: float
    secondary_v: float
    no_load_loss_w: float
    load_loss_w: float
    impedance_pct: float
    cooling: str | None
    indoor: bool | None


@dataclass(frozen=True, slots=True)
class Loading:
    """Measured utilisation; None where nothing was measured."""

    peak_percent: float | None
    peak_utc_s: int | None
    """End of the interval of the peak."""
    mean_percent: float | None
    hours_above_80: float
    hours_above_100: float
    coverage: float
    source: str | None
    """Where most of the measured intervals come from."""
    first_end_utc_s: int | None
    last_end_utc_s: int | None


@dataclass(frozen=True, slots=True)
class Ageing:
    """Thermal ageing of the paper; None where nothing was measured."""

    equivalent_days: float | None
    """Days at the reference temperature that age the paper as much."""
    calendar_days: float
    relative_rate: float | None
    hot_spot_max_c: float | None
    hours_above_98_c: float | None
    hours_above_110_c: float | None
    hours_above_120_c: float | None
    ambient_source: str
    paper: str
    method: str
    parameters: str
    coverage: float


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """Everything that is known about one transformer position and the unit on it."""

    position: Position
    identity: Identity | None
    rating: Rating
    loading: Loading
    ageing: Ageing
    customers: int
    """Households and trade below the transformer."""
    meters: dict[str, int | None]
    """Meters by kind of service point, check meters, total, and how many report."""


def asset_record(
    grid: Grid, transformer: Transformer, history: LoadHistory, today: date
) -> AssetRecord:
    """The record of one transformer; `today` is the day of its age."""
    asset = grid.asset_at(transformer.id)
    points = Counter(
        point.kind for point in grid.service_points if point.transformer == transformer.id
    )
    return AssetRecord(
        position=Position(
            transformer.id,
            transformer.name,
            transformer.lon,
            transformer.lat,
            transformer.station_node,
            transformer.check_meter,
            transformer.concentrator,
        ),
        identity=None if asset is None else _identity(asset, today),
        rating=_rating(transformer, asset),
        loading=_loading(history, transformer.rated_kva),
        ageing=_ageing(grid, transformer, asset, history),
        customers=points["household"] + points["trade"],
        meters=_meters(grid, transformer, history),
    )


def hot_spot_c(
    grid: Grid, transformer: Transformer, asset: Asset | None, history: LoadHistory
) -> NDArray[np.float64] | None:
    """Hot spot at the end of every interval of the history, gaps filled; None without any load."""
    apparent_va = without_gaps(history)
    if apparent_va is None:
        return None
    day = round(86_400 / history.interval_s)
    return temperatures(
        apparent_va / (1000 * transformer.rated_kva),
        _ambient_c(grid, history),
        history.interval_s / 60,
        _loss_ratio(transformer),
        thermal_parameters(DEFAULT_KIND),
        indoor=asset is not None and asset.indoor,
        warm_up=day,
    ).hot_spot_c


def percent(history: LoadHistory, rated_kva: float) -> NDArray[np.float64]:
    """Utilisation of every interval, NaN where not known."""
    return 100 * history.apparent_va / (1000 * rated_kva)


def _identity(asset: Asset, today: date) -> Identity:
    begun = asset.installed_on
    if begun is None and asset.manufactured_year is not None:
        begun = date(asset.manufactured_year, 7, 1)
    age_years = None if begun is None else round((today - begun).days / 365.25, 1)
    return Identity(
        asset.asset_id,
        asset.asset_class,
        asset.manufacturer,
        asset.model,
        asset.batch,
        asset.serial,
        asset.manufactured_year,
        None if asset.installed_on is None else asset.installed_on.isoformat(),
        age_years,
        asset.synthetic,
    )


def _rating(transformer: Transformer, asset: Asset | None) -> Rating:
    return Rating(
        transformer.rated_kva,
        transformer.primary_v,
        transformer.secondary_v,
        transformer.no_load_loss_w,
        transformer.load_loss_w,
        transformer.impedance_pct,
        None if asset is None else asset.cooling,
        None if asset is None else asset.indoor,
    )


def _loading(history: LoadHistory, rated_kva: float) -> Loading:
    known = history.known
    share = percent(history, rated_kva)[known]
    hours = history.interval_s / 3600
    ends = history.end_utc_s[known]
    peak = int(share.argmax()) if len(share) else None
    sources = Counter(history.source[known].tolist()).most_common(1)
    return Loading(
        peak_percent=None if peak is None else _rounded(share[peak]),
        peak_utc_s=None if peak is None else int(ends[peak]),
        mean_percent=_rounded(share.mean()) if len(share) else None,
        hours_above_80=float(hours * (share > 80).sum()),
        hours_above_100=float(hours * (share > 100).sum()),
        coverage=_rounded(history.coverage, 4),
        source=SOURCES[sources[0][0]] if sources else None,
        first_end_utc_s=int(history.end_utc_s[0]) if len(history.end_utc_s) else None,
        last_end_utc_s=int(history.end_utc_s[-1]) if len(history.end_utc_s) else None,
    )


def _ageing(
    grid: Grid, transformer: Transformer, asset: Asset | None, history: LoadHistory
) -> Ageing:
    law = paper(DEFAULT_PAPER)
    found = hot_spot_c(grid, transformer, asset, history)
    hours = history.interval_s / 3600
    calendar_days = len(history.end_utc_s) * hours / 24
    equivalent_days = None if found is None else float(ageing_rate(found, law).sum()) * hours / 24

    def hours_above(limit_c: float) -> float | None:
        return None if found is None else float(hours * (found > limit_c).sum())

    return Ageing(
        equivalent_days=None if equivalent_days is None else _significant(equivalent_days),
        calendar_days=_rounded(calendar_days, 3),
        relative_rate=None
        if equivalent_days is None
        else _significant(equivalent_days / calendar_days),
        hot_spot_max_c=None if found is None else _rounded(found.max(), 1),
        hours_above_98_c=hours_above(98),
        hours_above_110_c=hours_above(110),
        hours_above_120_c=hours_above(120),
        ambient_source=AMBIENT_SOURCE,
        paper=law.title,
        method=METHOD,
        parameters=f"defaults for {thermal_parameters(DEFAULT_KIND).title}, no test sheet",
        coverage=_rounded(history.coverage, 4),
    )


def _meters(grid: Grid, transformer: Transformer, history: LoadHistory) -> dict[str, int | None]:
    kind_of = {point.id: point.kind for point in grid.service_points}
    counts: Counter[str] = Counter()
    for meter in grid.meters:
        if meter.transformer == transformer.id:
            place = meter.service_point
            counts["check" if place is None else kind_of[place]] += 1
    below = counts.total() - counts["check"]
    reporting = int(history.reporting[-1]) if len(history.reporting) else None
    return {**counts, "total": below, "reporting": reporting}


def _ambient_c(grid: Grid, history: LoadHistory) -> NDArray[np.float64]:
    begins = (history.end_utc_s - history.interval_s).astype("datetime64[s]")
    month = begins.astype("datetime64[M]").astype(np.int64) % 12
    return np.asarray(grid.ambient_c)[month]


def _loss_ratio(transformer: Transformer) -> float:
    """Load loss over no-load loss; without a no-load loss all loss follows the load."""
    return transformer.load_loss_w / max(transformer.no_load_loss_w, 1.0)


def _rounded(value: float, digits: int = 2) -> float:
    return round(float(value), digits)


def _significant(value: float) -> float:
    return float(f"{value:.4g}")


def today_of(now_utc_s: float) -> date:
    """The UTC day of an instant."""
    return datetime.fromtimestamp(now_utc_s, UTC).date()
