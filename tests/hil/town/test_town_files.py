"""The shipped towns hold together, and a part of one is a town of its own."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from pathlib import Path

import pytest

from hil.town import Town, TownFileError, load_town
from hil.town.loading import day_loading
from hil.town.town import TOWNS


@pytest.fixture(scope="module")
def town() -> Town:
    return load_town("schutterwald")


@pytest.mark.parametrize(
    "name", sorted(p.parent.parent.name for p in TOWNS.glob("*/grid/town.json"))
)
def test_every_shipped_town_is_consistent(name: str) -> None:
    town = load_town(name)
    transformers = {t.id for t in town.transformers}
    points = {p.id: p for p in town.service_points}
    assert len({m.id for m in town.meters}) == len(town.meters)
    assert len({m.serial for m in town.meters}) == len(town.meters)
    assert {m.service_point for m in town.meters} == {"", *points}
    assert {a.position for a in town.assets} == transformers
    assert all(points[m.service_point].meter == m.id for m in town.meters if m.service_point)
    for unit in (*town.chargers, *town.plants):
        assert points[unit.service_point].meter == unit.meter
    west, south, east, north = town.about["bbox"]
    assert all(west <= p.lon <= east and south <= p.lat <= north for p in town.service_points)
    for transformer in town.transformers:
        nodes = town.grid(transformer.id).nodes
        assert {p.node for p in town.service_points if p.transformer == transformer.id} <= set(
            nodes
        )


@pytest.mark.parametrize(
    "name", sorted(p.parent.parent.name for p in TOWNS.glob("*/grid/town.json"))
)
def test_no_line_mixes_protocols_repeats_an_address_or_holds_more_than_sixty(name: str) -> None:
    town = load_town(name)
    addresses = Counter((m.transformer, m.line, m.address) for m in town.meters)
    assert set(addresses.values()) == {1}
    lines = Counter((m.transformer, m.line) for m in town.meters)
    assert max(lines.values()) <= 60
    assert all(m.line.startswith(f"{m.protocol}-") for m in town.meters)
    assert all(1 <= m.unit <= 247 for m in town.meters if m.protocol == "modbus")
    assert all(m.server_address.startswith("1/") for m in town.meters if m.protocol == "dlms")


def test_the_demo_town_has_what_it_is_said_to_have(town: Town) -> None:
    kinds = Counter(m.kind for m in town.meters)
    assert len(town.transformers) == 14
    assert kinds["household"] == 1506
    assert kinds["check"] == 14
    assert sum(e.kind == "heat_pump" for e in town.elements) == 1251
    homes = [m for m in town.meters if m.kind in ("household", "trade")]
    share = sum(m.protocol == "modbus" for m in homes) / len(homes)
    assert 0.07 < share < 0.13
    assert {m.protocol for m in town.meters if m.kind in ("plant", "charger")} == {"modbus"}
    assert {m.model for m in town.meters if m.kind == "check"} == {"transformer_check"}


def test_a_subset_is_a_town_with_both_protocols_that_central_can_load(
    town: Town, tmp_path: Path
) -> None:
    small = town.subset(["t01", "t14"], 16)
    assert Counter(m.transformer for m in small.meters) == {"t01": 16, "t14": 16}
    for transformer in ("t01", "t14"):
        kinds = Counter(m.kind for m in small.meters_of(transformer))
        assert kinds["charger"] >= 1
        assert kinds["plant"] >= 1
        assert {m.protocol for m in small.meters_of(transformer)} == {"modbus", "dlms"}
    small.write_grid(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in (TOWNS / "schutterwald" / "grid").iterdir()
    )
    meter = small.meters_of("t14")[4]
    at = small.origin_utc_s + 90_000
    whole = town.shown("t14")[meter.id].registers(at)
    assert small.shown("t14")[meter.id].registers(at) == whole


def test_writing_the_grid_files_again_changes_nothing(town: Town, tmp_path: Path) -> None:
    town.write_grid(tmp_path)
    for path in (TOWNS / "schutterwald" / "grid").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_an_unknown_town_is_told_with_the_known_ones() -> None:
    with pytest.raises(TownFileError, match="schutterwald"):
        load_town("atlantis")


def test_a_damaged_table_is_told_with_line_and_column(town: Town, tmp_path: Path) -> None:
    town.write_grid(tmp_path / "grid")
    path = tmp_path / "grid" / "climate.csv"
    path.write_text(path.read_text().replace("1.2", "warm"))
    (tmp_path / "load").mkdir()
    for name in ("load.json", "elements.csv"):
        (tmp_path / "load" / name).write_bytes(
            (TOWNS / "schutterwald" / "load" / name).read_bytes()
        )
    with pytest.raises(TownFileError, match=r"climate\.csv:2: column ambient_c"):
        load_town(tmp_path)


def test_no_openstreetmap_id_is_shipped_and_every_source_is_named(town: Town) -> None:
    for path in (TOWNS / "schutterwald" / "grid").iterdir():
        assert not re.search(r"\b[wnr]\d{6,}\b", path.read_text(encoding="utf-8"))
    notices = " ".join(town.about["notices"])
    for source in ("OpenStreetMap contributors", "pandapower", "SimBench", "Copernicus"):
        assert source in notices
    licences = {p.name for p in (TOWNS / "LICENSES").iterdir()}
    assert {"ODbL-1.0.txt", "pandapower-BSD-3-Clause.txt", "SimBench-notice.txt"} <= licences


def test_the_weak_station_is_overloaded_in_november_and_a_common_one_is_not(town: Town) -> None:
    november = (dt.date(2026, 11, 16) - dt.date(1970, 1, 1)).days
    days = range(november, november + 14)
    assert max(day_loading(town, "t03", day).peak for day in days) > 1.05
    assert 0.45 < max(day_loading(town, "t13", day).peak for day in days) < 0.85
    street = [day_loading(town, "t11", day).fullest_line for day in days]
    assert max(share for _, share in street) > 1.05
