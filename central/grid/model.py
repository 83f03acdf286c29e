"""The grid as frozen values, read from the registry: what map, assets and API work with.

Units are in the names. A `Grid` never changes; when another one is loaded,
its `version` differs and whoever needs it reads it again.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

from central.grid.registry import open_for_reading

ServicePointKind = Literal["household", "trade", "charger", "plant"]


class GridNotLoaded(LookupError):
    """The registry holds no grid yet."""


@dataclass(frozen=True, slots=True)
class Town:
    """The supply area."""

    id: str
    title: str
    timezone: str
    bbox: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    notices: tuple[str, ...]
    synthetic_note: str | None


@dataclass(frozen=True, slots=True)
class Transformer:
    """A functional position; the unit that stands there is an `Asset`."""

    id: str
    name: str
    lon: float
    lat: float
    rated_kva: float
    primary_v: float
    secondary_v: float
    no_load_loss_w: float
    load_loss_w: float
    impedance_pct: float
    station_node: str
    check_meter: str | None
    concentrator: str | None


@dataclass(frozen=True, slots=True)
class Asset:
    """A physical unit at a transformer position."""

    asset_id: str
    position: str
    asset_class: str
    manufacturer: str
    model: str
    batch: str | None
    serial: str | None
    manufactured_year: int | None
    installed_on: date | None
    price_eur_cent: int | None
    cooling: str | None
    indoor: bool
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line section; coordinates are (lon, lat)."""

    id: str
    transformer: str
    kind: Literal["main", "service"]
    type: str
    length_m: float
    i_max_a: float
    r_ohm: float
    x_ohm: float
    from_node: str
    to_node: str
    coordinates: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ServicePoint:
    """Where the grid hands energy over."""

    id: str
    transformer: str
    node: str
    kind: ServicePointKind
    lon: float
    lat: float
    meter: str | None


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter that is read; the check meter of a transformer has no service point."""

    id: str
    serial: str
    service_point: str | None
    transformer: str
    protocol: Literal["dlms", "modbus"]
    model: str
    line: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class Charger:
    """A charging point for electric vehicles with a meter of its own."""

    id: str
    service_point: str
    meter: str
    rated_w: float


@dataclass(frozen=True, slots=True)
class Plant:
    """A plant that feeds into the grid."""

    id: str
    service_point: str
    meter: str
    rated_w: float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Everything that the grid files say, in the order of their ids; equal only to itself."""

    version: str
    town: Town
    transformers: tuple[Transformer, ...]
    assets: tuple[Asset, ...]
    lines: tuple[Line, ...]
    service_points: tuple[ServicePoint, ...]
    meters: tuple[Meter, ...]
    chargers: tuple[Charger, ...]
    plants: tuple[Plant, ...]
    ambient_c: tuple[float, ...]
    """Monthly normal of the air temperature, January first."""

    def asset_at(self, position: str) -> Asset | None:
        """The unit that stands at a transformer position."""
        return next((asset for asset in self.assets if asset.position == position), None)


def grid_version(registry_path: Path) -> str | None:
    """Version of the grid in the registry; None when none is loaded. Cheap: one row."""
    if not registry_path.exists():
        return None
    connection = open_for_reading(registry_path)
    try:
        row = connection.execute("SELECT version FROM grid_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    finally:
        connection.close()
    return None if row is None else str(row[0])


def load_grid(registry_path: Path) -> Grid:
    """Read the grid from the registry.

    Raises RegistryMissing or GridNotLoaded.
    """
    connection = open_for_reading(registry_path)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")
        row = connection.execute("SELECT version FROM grid_version").fetchone()
        if row is None:
            raise GridNotLoaded(
                f"{registry_path}: expected a grid, none is loaded; "
                "load one: loadscape-central grid load DIR"
            )
        return _grid(connection, str(row["version"]))
    finally:
        connection.close()


def _grid(connection: sqlite3.Connection, version: str) -> Grid:
    months = connection.execute("SELECT ambient_c FROM climate ORDER BY month")
    return Grid(
        version=version,
        town=_town(connection.execute("SELECT * FROM town").fetchone()),
        transformers=_all(connection, "transformers", Transformer),
        assets=tuple(
            _asset(row) for row in connection.execute("SELECT * FROM assets ORDER BY asset_id")
        ),
        lines=tuple(_line(row) for row in connection.execute("SELECT * FROM lines ORDER BY id")),
        service_points=_all(connection, "service_points", ServicePoint),
        meters=_all(connection, "meters", Meter),
        chargers=_all(connection, "chargers", Charger),
        plants=_all(connection, "plants", Plant),
        ambient_c=tuple(float(row["ambient_c"]) for row in months),
    )


def _all(connection: sqlite3.Connection, table: str, kind: type[Any]) -> tuple[Any, ...]:
    columns = ", ".join(f'"{field.name}"' for field in fields(kind))
    connection_rows = connection.execute(f'SELECT {columns} FROM "{table}" ORDER BY id')
    return tuple(kind(*row) for row in connection_rows)


def _town(row: sqlite3.Row) -> Town:
    west, south, east, north = json.loads(row["bbox"])
    return Town(
        id=row["id"],
        title=row["title"],
        timezone=row["timezone"],
        bbox=(west, south, east, north),
        notices=tuple(json.loads(row["notices"])),
        synthetic_note=row["synthetic_note"],
    )


def _asset(row: sqlite3.Row) -> Asset:
    installed_on = row["installed_on"]
    return Asset(
        asset_id=row["asset_id"],
        position=row["position"],
        asset_class=row["class"],
        manufacturer=row["manufacturer"],
        model=row["model"],
        batch=row["batch"],
        serial=row["serial"],
        manufactured_year=row["manufactured_year"],
        installed_on=None if installed_on is None else date.fromisoformat(installed_on),
        price_eur_cent=row["price_eur_cent"],
        cooling=row["cooling"],
        indoor=bool(row["indoor"]),
        synthetic=bool(row["synthetic"]),
    )


def _line(row: sqlite3.Row) -> Line:
    values = {field.name: row[field.name] for field in fields(Line) if field.name in row.keys()}  # noqa: SIM118
    values["coordinates"] = tuple((lon, lat) for lon, lat in json.loads(row["geometry"]))
    return Line(**values)
