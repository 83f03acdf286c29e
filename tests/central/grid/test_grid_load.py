"""Loading a folder of grid files into the registry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from central.grid.load import GridRefused, load_folder
from central.grid.model import GridNotLoaded, grid_version, load_grid
from central.grid.registry import TABLES, RegistryMissing, open_for_writing
from central.grid.table_schema import schema

WriteTown = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_a_loaded_folder_comes_back_as_the_grid(registry: Path, town_files: WriteTown) -> None:
    loaded = load_folder(registry, town_files(transformers=2, households=6))
    grid = load_grid(registry)

    assert loaded.changed
    assert grid.version == loaded.version == grid_version(registry)
    assert [unit.id for unit in grid.transformers] == ["t01", "t02"]
    assert len(grid.meters) == loaded.counts["meters"] == 2 * 9
    assert grid.meters[0].service_point is None
    assert grid.town.bbox == (7.9, 48.4, 8.2, 48.5)
    assert len(grid.ambient_c) == 12
    asset = grid.asset_at("t02")
    assert asset is not None
    assert asset.indoor
    assert str(asset.installed_on) == "1991-04-01"
    assert {line.coordinates[0] for line in grid.lines} == {(8.0, 48.45), (8.01, 48.45)}


def test_the_same_folder_again_changes_nothing(registry: Path, town_files: WriteTown) -> None:
    folder = town_files()
    first = load_folder(registry, folder)
    before = registry.stat().st_mtime_ns

    again = load_folder(registry, folder)

    assert not again.changed
    assert again.version == first.version
    assert registry.stat().st_mtime_ns == before


def test_a_changed_folder_replaces_the_grid_with_a_new_version(
    registry: Path, town_files: WriteTown
) -> None:
    first = load_folder(registry, town_files("old", households=6))
    second = load_folder(registry, town_files("new", households=4))

    assert second.changed
    assert second.version != first.version
    assert len(load_grid(registry).service_points) == 2 * 6


@pytest.mark.parametrize(
    ("file", "old", "new", "place", "reason"),
    [
        ("transformers.csv", "t02,Station 2,8.01", "t02,Station 2,eight", "row 3, column lon",
         "expected a number, came 'eight'"),
        ("transformers.csv", "t02,", "t01,", "row 3, column id", "stands in row 2 already"),
        ("meters.csv", "m000003,Sm000003,sp000003,t01", "m000003,Sm000003,sp000003,t77",
         "row 4, column transformer", "no row of transformers.csv has the id 't77'"),
        ("assets.csv", "1991-04-01", "last spring", "row 2, column installed_on", "a date"),
        ("assets.csv", "a1,t01", "a1,", "row 2, column position", "is empty"),
        ("service_points.csv", "household", "castle", "row 2, column kind", "one of household"),
        ("climate.csv", "12,2", "11,2", "column month", "already"),
        ("climate.csv", "month,", "moon,", "row 1, column month", "expected the columns"),
        ("lines.geojson", "LineString", "Point", "row 1, column geometry", "LineString"),
        ("lines.geojson", '"length_m": 20', '"length_m": -20', "row 1, column length_m", "below 0"),
        ("town.json", "Europe/Berlin", "Europe/Nowhere", "column timezone", "IANA"),
        ("town.json", "{", "{{", "town.json, row 1", "expected JSON"),
    ],
)  # fmt: skip
def test_a_refusal_names_file_row_column_and_reason_and_loads_nothing(
    registry: Path, town_files: WriteTown, file: str, old: str, new: str, place: str, reason: str
) -> None:
    good = load_folder(registry, town_files("good"))
    bad = town_files("bad", households=5)
    text = (bad / file).read_text()
    assert old in text
    (bad / file).write_text(text.replace(old, new, 1))

    with pytest.raises(GridRefused) as refused:
        load_folder(registry, bad)

    message = str(refused.value)
    assert file in message
    assert place in message
    assert reason in message
    assert grid_version(registry) == good.version


def test_every_missing_file_is_named(registry: Path, town_files: WriteTown) -> None:
    folder = town_files()
    (folder / "meters.csv").unlink()
    (folder / "climate.csv").unlink()

    with pytest.raises(GridRefused) as refused:
        load_folder(registry, folder)

    assert {problem.file for problem in refused.value.problems} == {"meters.csv", "climate.csv"}
    assert not registry.exists()


def test_a_service_point_and_its_meter_must_agree(registry: Path, town_files: WriteTown) -> None:
    folder = town_files()
    text = (folder / "service_points.csv").read_text()
    (folder / "service_points.csv").write_text(
        text.replace(",m000002\n", ",m000003\n", 1).replace(",m000002\r\n", ",m000003\r\n", 1)
    )

    with pytest.raises(GridRefused, match="'m000003' stands at 'sp000003'"):
        load_folder(registry, folder)


def test_a_registry_without_grid_says_how_to_load_one(registry: Path) -> None:
    assert grid_version(registry) is None
    with pytest.raises(RegistryMissing, match="grid load"):
        load_grid(registry)
    open_for_writing(registry).close()
    assert grid_version(registry) is None
    with pytest.raises(GridNotLoaded, match="grid load"):
        load_grid(registry)


def test_a_reader_cannot_change_the_registry(registry: Path, town_files: WriteTown) -> None:
    from central.grid.registry import open_for_reading

    load_folder(registry, town_files())
    connection = open_for_reading(registry)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM meters")
    connection.close()


@pytest.mark.parametrize("name", TABLES)
def test_every_published_schema_is_a_table_schema_with_a_word_on_each_column(name: str) -> None:
    from central.grid.table_schema import SCHEMA_DIR

    description = json.loads((SCHEMA_DIR / f"{name}.json").read_text())
    assert description["title"]
    assert description["description"]
    assert all(field["description"] and field["type"] for field in description["fields"])
    assert schema(name).path == description["path"]
