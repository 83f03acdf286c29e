"""Loads a folder of open grid files into the registry: all of it or nothing.

The files are described by the schemas in `schemas/`. Everything is checked
before the first row is written, and every refusal names file, row, column and
reason. The same folder again changes nothing; a changed one replaces the grid
and gets a new version, which is a hash of the files' content.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from central.grid.registry import TABLES, open_for_writing
from central.grid.table_schema import (
    Problem,
    Row,
    TableSchema,
    check_keys,
    check_references,
    check_row,
    schema,
)

PROBLEMS_SHOWN = 20


class GridRefused(ValueError):
    """The folder was not loaded; `problems` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in problems[:PROBLEMS_SHOWN]]
        if len(problems) > PROBLEMS_SHOWN:
            lines.append(f"... and {len(problems) - PROBLEMS_SHOWN} more")
        lines.append("nothing was loaded; the files are described in central/grid/schemas/")
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a folder came to."""

    version: str
    changed: bool
    """False when the registry held exactly this grid already."""
    counts: Mapping[str, int]
    """Rows per table."""


@dataclass(frozen=True, slots=True)
class _Table:
    rows: list[Row]
    numbers: list[int]
    """Row of the file, for messages."""
    geometries: list[str]


def load_folder(registry_path: Path, folder: Path) -> Loaded:
    """Check the grid files in `folder` and make them the grid of the registry.

    Raises GridRefused; the registry is then as it was.
    """
    contents = _read_files(folder)
    tables = _checked(contents)
    version = _version(contents)
    counts = {name: len(table.rows) for name, table in tables.items()}
    connection = open_for_writing(registry_path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            present = connection.execute("SELECT version FROM grid_version").fetchone()
            if present == (version,):
                return Loaded(version, False, counts)
            for name, table in tables.items():
                connection.execute(f'DELETE FROM "{name}"')
                rows = [_stored(row) for row in table.rows]
                if name == "lines":
                    pairs = zip(rows, table.geometries, strict=True)
                    rows = [(*row, geometry) for row, geometry in pairs]
                if rows:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows)
            connection.execute("DELETE FROM grid_version")
            connection.execute(
                "INSERT INTO grid_version VALUES (1, ?, ?)", (version, int(time.time()))
            )
    finally:
        connection.close()
    return Loaded(version, True, counts)


def _read_files(folder: Path) -> dict[str, bytes]:
    contents = {}
    problems = []
    for name in TABLES:
        path = schema(name).path
        try:
            contents[name] = (folder / path).read_bytes()
        except OSError as error:
            reason = f"expected a file in {folder}, cannot read it ({error.strerror})"
            problems.append(Problem(path, None, None, reason))
    if problems:
        raise GridRefused(problems)
    return contents


def _version(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in TABLES:
        digest.update(hashlib.sha256(contents[name]).digest())
    return digest.hexdigest()[:16]


def _checked(contents: Mapping[str, bytes]) -> dict[str, _Table]:
    problems: list[Problem] = []
    tables = {}
    for name in TABLES:
        table_schema = schema(name)
        tables[name], found = _parse(table_schema, contents[name])
        problems += found
        problems += check_keys(table_schema, tables[name].rows, tables[name].numbers)
    if not problems:
        rows = {name: table.rows for name, table in tables.items()}
        for name, table in tables.items():
            problems += check_references(schema(name), table.rows, table.numbers, rows)
        problems += _check_town(tables["town"])
        problems += _check_climate(tables["climate"])
        problems += _check_service_points(tables["service_points"], tables["meters"])
    if problems:
        raise GridRefused(problems)
    return tables


def _parse(table: TableSchema, content: bytes) -> tuple[_Table, list[Problem]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"expected UTF-8, byte {error.start} is not"
        return _Table([], [], []), [Problem(table.path, None, None, reason)]
    if table.path.endswith(".csv"):
        return _parse_csv(table, text)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"expected JSON, {error.msg} at column {error.colno}"
        return _Table([], [], []), [Problem(table.path, error.lineno, None, reason)]
    if not isinstance(document, dict):
        return _Table([], [], []), [Problem(table.path, None, None, "expected a JSON object")]
    if table.path.endswith(".geojson"):
        return _parse_geojson(table, document)
    row, problems = check_row(table, document, None)
    return _Table([row], [1], []), problems


def _parse_csv(table: TableSchema, text: str) -> tuple[_Table, list[Problem]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    result = _Table([], [], [])
    names = [field.name for field in table.fields]
    try:
        heading = list(reader.fieldnames or ())
        missing = [name for name in names if name not in heading]
        unknown = [name for name in heading if name not in names]
        if missing or unknown:
            reason = f"expected the columns {','.join(names)}; came {','.join(heading)}"
            return result, [Problem(table.path, 1, ",".join(missing or unknown), reason)]
        problems = []
        for number, values in enumerate(reader, start=2):
            if None in values or None in values.values():
                reason = f"expected {len(names)} fields, the row has more or fewer"
                problems.append(Problem(table.path, number, None, reason))
                continue
            row, found = check_row(table, values, number)
            result.rows.append(row)
            result.numbers.append(number)
            problems += found
    except csv.Error as error:
        return result, [Problem(table.path, reader.line_num, None, f"not CSV: {error}")]
    return result, problems


def _parse_geojson(
    table: TableSchema, document: Mapping[str, object]
) -> tuple[_Table, list[Problem]]:
    result = _Table([], [], [])
    features = document.get("features")
    if document.get("type") != "FeatureCollection" or not isinstance(features, list):
        return result, [Problem(table.path, None, None, "expected a GeoJSON FeatureCollection")]
    problems: list[Problem] = []
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            problems.append(Problem(table.path, number, None, "expected a Feature with properties"))
            continue
        coordinates = _line_string(feature.get("geometry"))
        if coordinates is None:
            reason = "expected a LineString of two or more [lon, lat] in WGS 84"
            problems.append(Problem(table.path, number, "geometry", reason))
            continue
        row, found = check_row(table, properties, number)
        result.rows.append(row)
        result.numbers.append(number)
        result.geometries.append(json.dumps(coordinates, separators=(",", ":")))
        problems += found
    return result, problems


def _line_string(geometry: object) -> list[list[float]] | None:
    if not isinstance(geometry, dict) or geometry.get("type") != "LineString":
        return None
    points = geometry.get("coordinates")
    if not isinstance(points, list) or len(points) < 2:
        return None
    line = []
    for point in points:
        if not isinstance(point, list) or len(point) < 2:
            return None
        lon, lat = point[0], point[1]
        if not isinstance(lon, (int, float)) or not isinstance(lat, (int, float)):
            return None
        if not (-180 <= lon <= 180 and -90 <= lat <= 90):
            return None
        line.append([lon, lat])
    return line


def _check_town(table: _Table) -> list[Problem]:
    town = schema("town")
    row = table.rows[0]
    problems = []
    timezone = row[town.index("timezone")]
    try:
        ZoneInfo(str(timezone))
    except (ZoneInfoNotFoundError, ValueError):
        reason = f"{timezone!r} is not a time zone of the IANA list, such as Europe/Berlin"
        problems.append(Problem(town.path, None, "timezone", reason))
    bbox = row[town.index("bbox")]
    numbers = [x for x in bbox if isinstance(x, (int, float))] if isinstance(bbox, list) else []
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        reason = f"expected [west, south, east, north] in degrees, came {bbox!r}"
        problems.append(Problem(town.path, None, "bbox", reason))
    notices = row[town.index("notices")]
    if not isinstance(notices, list) or not all(isinstance(notice, str) for notice in notices):
        problems.append(Problem(town.path, None, "notices", "expected a list of sentences"))
    return problems


def _check_climate(table: _Table) -> list[Problem]:
    months = {row[0] for row in table.rows}
    missing = [str(month) for month in range(1, 13) if month not in months]
    if not missing:
        return []
    reason = f"expected twelve months, missing {', '.join(missing)}"
    return [Problem(schema("climate").path, None, "month", reason)]


def _check_service_points(service_points: _Table, meters: _Table) -> list[Problem]:
    points_schema, meters_schema = schema("service_points"), schema("meters")
    place_of = {
        row[meters_schema.index("id")]: row[meters_schema.index("service_point")]
        for row in meters.rows
    }
    point_id, point_meter = points_schema.index("id"), points_schema.index("meter")
    problems = []
    for row, number in zip(service_points.rows, service_points.numbers, strict=True):
        meter = row[point_meter]
        if meter is not None and place_of[meter] != row[point_id]:
            reason = f"{meter!r} stands at {place_of[meter]!r} according to {meters_schema.path}"
            problems.append(Problem(points_schema.path, number, "meter", reason))
    return problems


def _stored(row: Row) -> tuple[str | int | float | bool | None, ...]:
    return tuple(json.dumps(value) if isinstance(value, list) else value for value in row)
