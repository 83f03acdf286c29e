"""The rows of a town's files: one frozen dataclass per table, columns in field order.

The grid tables are open files that the centre loads too; the load tables are
for the simulated meters alone.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

Row = TypeVar("Row")


class TownFileError(ValueError):
    """A town's file does not hold what its table asks for."""


@dataclass(frozen=True, slots=True)
class Transformer:
    """One MV/LV transformer with its check meter at the low-voltage busbar."""

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
    check_meter: str
    concentrator: str


@dataclass(frozen=True, slots=True)
class Asset:
    """The unit that stands at a position; drawn from a seed where `synthetic`."""

    asset_id: str
    position: str
    asset_class: str
    manufacturer: str
    model: str
    batch: str
    serial: str
    manufactured_year: int
    installed_on: str
    price_eur_cent: int
    cooling: str
    indoor: bool
    synthetic: bool


@dataclass(frozen=True, slots=True)
class ServicePoint:
    """Where a customer, charger or plant meets the grid."""

    id: str
    transformer: str
    node: str
    kind: str
    lon: float
    lat: float
    meter: str


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A meter as the grid files know it; `service_point` is empty for check meters."""

    id: str
    serial: str
    service_point: str
    transformer: str
    protocol: str
    model: str
    line: str
    address: str


@dataclass(frozen=True, slots=True)
class RatedUnit:
    """A charger or a plant."""

    id: str
    service_point: str
    meter: str
    rated_w: int


@dataclass(frozen=True, slots=True)
class ClimateMonth:
    """Mean ambient temperature of one month."""

    month: int
    ambient_c: float


@dataclass(frozen=True, slots=True)
class Element:
    """One load or generator behind a meter; a household's heat pump is an element of its own."""

    meter: str
    kind: str
    profile: str
    nominal_w: float


@dataclass(frozen=True, slots=True)
class Line:
    """One cable section; `points` are lon, lat from `from_node` to `to_node`."""

    id: str
    transformer: str
    kind: str
    type: str
    length_m: float
    i_max_a: float
    r_ohm: float
    x_ohm: float
    from_node: str
    to_node: str
    points: tuple[tuple[float, float], ...]


_COLUMN_OF_FIELD = {"asset_class": "class"}


def columns(row_type: type[Any]) -> list[str]:
    """Column names of a table in file order."""
    return [_COLUMN_OF_FIELD.get(field.name, field.name) for field in fields(row_type)]


def read_table(path: Path, row_type: type[Row]) -> tuple[Row, ...]:
    """All rows of a CSV file; raises `TownFileError` naming file, line and column."""
    wanted = columns(row_type)
    kinds = [str(field.type) for field in fields(row_type)]  # type: ignore[arg-type]
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != wanted:
            raise TownFileError(
                f"{path}:1: expected the columns {','.join(wanted)}, came {','.join(header)}; "
                "make the extract again with hil/make_town.py"
            )
        rows = []
        for cells in reader:
            if len(cells) != len(wanted):
                raise TownFileError(
                    f"{path}:{reader.line_num}: expected {len(wanted)} cells, came {len(cells)}"
                )
            where = f"{path}:{reader.line_num}"
            values = [
                _value(cell, kind, f"{where}: column {column}")
                for cell, kind, column in zip(cells, kinds, wanted, strict=True)
            ]
            rows.append(row_type(*values))
    return tuple(rows)


def write_table(path: Path, row_type: type[Row], rows: Iterable[Row]) -> None:
    """Write a CSV file with the columns of `row_type`."""
    names = [field.name for field in fields(row_type)]  # type: ignore[arg-type]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(row_type))
        writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)


def read_lines(path: Path) -> tuple[Line, ...]:
    """All cable sections of a GeoJSON file of LineStrings."""
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    names = [field.name for field in fields(Line)][:-1]
    lines = []
    for position, feature in enumerate(features):
        properties = feature["properties"]
        missing = [name for name in names if name not in properties]
        if missing or feature["geometry"]["type"] != "LineString":
            raise TownFileError(
                f"{path}: feature {position}: expected a LineString with the properties "
                f"{', '.join(names)}, missing {missing}; make the extract again"
            )
        points = tuple((float(lon), float(lat)) for lon, lat in feature["geometry"]["coordinates"])
        lines.append(Line(**{name: properties[name] for name in names}, points=points))
    return tuple(lines)


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write cable sections as GeoJSON, one feature a line."""
    names = [field.name for field in fields(Line)][:-1]
    features = [
        json.dumps(
            {
                "type": "Feature",
                "properties": {name: getattr(line, name) for name in names},
                "geometry": {"type": "LineString", "coordinates": line.points},
            },
            separators=(",", ":"),
        )
        for line in lines
    ]
    body = ",\n".join(features)
    path.write_text(f'{{"type":"FeatureCollection","features":[\n{body}\n]}}\n', encoding="utf-8")


def _value(cell: str, kind: str, where: str) -> object:
    if kind == "str":
        return cell
    if kind == "bool":
        if cell in ("true", "false"):
            return cell == "true"
        raise TownFileError(f"{where}: expected true or false, came {cell!r}")
    try:
        return int(cell) if kind == "int" else float(cell)
    except ValueError as error:
        raise TownFileError(f"{where}: expected a number, came {cell!r}") from error


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    return str(value)
