"""A tiny town as a folder of grid files, and its readings, for the tests of central."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from central.grid.table_schema import schema

WriteTown = Callable[..., Path]


def _write_csv(folder: Path, name: str, rows: Sequence[dict[str, object]]) -> None:
    table = schema(name)
    with (folder / table.path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in table.fields])
        writer.writeheader()
        writer.writerows(rows)


def write_town(folder: Path, *, transformers: int = 2, households: int = 6) -> Path:
    """Grid files of `transformers` stations, each with a check meter, `households` households,
    one charger and one plant."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[dict[str, object]]] = {
        name: []
        for name in ("transformers", "assets", "service_points", "meters", "chargers", "plants")
    }
    lines: list[dict[str, object]] = []
    for number in range(transformers):
        _add_station(tables, lines, number, ["household"] * households + ["charger", "plant"])
    tables["climate"] = [{"month": m, "ambient_c": c} for m, c in enumerate(_CLIMATE_C, start=1)]
    for name, rows in tables.items():
        _write_csv(folder, name, rows)
    collection = {"type": "FeatureCollection", "features": lines}
    (folder / "lines.geojson").write_text(json.dumps(collection))
    (folder / "town.json").write_text(json.dumps(_TOWN))
    return folder


_TOWN = {
    "id": "tiny",
    "title": "Tiny",
    "timezone": "Europe/Berlin",
    "bbox": [7.9, 48.4, 8.2, 48.5],
    "notices": ["A notice."],
    "synthetic_note": "All of it.",
}


def _add_station(
    tables: dict[str, list[dict[str, object]]],
    lines: list[dict[str, object]],
    number: int,
    kinds: Sequence[str],
) -> None:
    unit, lon, lat = f"t{number + 1:02d}", 8.0 + 0.01 * number, 48.45
    check = f"m{len(tables['meters']) + 1:06d}"
    tables["transformers"].append(_transformer(unit, number, lon, lat, check))
    tables["assets"].append(_asset(unit, number))
    tables["meters"].append(_meter(check, "", unit, "dlms"))
    for k, kind in enumerate(kinds):
        place = len(tables["meters"]) + 1
        meter, point, node = f"m{place:06d}", f"sp{place:06d}", f"n{number}_{k}"
        protocol = "modbus" if kind in ("charger", "plant") else "dlms"
        tables["meters"].append(_meter(meter, point, unit, protocol))
        tables["service_points"].append(
            {
                "id": point,
                "transformer": unit,
                "node": node,
                "kind": kind,
                "lon": lon + 0.0008 * k,
                "lat": lat + 0.0005 * (k % 2),
                "meter": meter,
            }
        )
        rated = {"id": f"{kind}{place}", "service_point": point, "meter": meter, "rated_w": 11000}
        if kind in ("charger", "plant"):
            tables[f"{kind}s"].append(rated)
        lines.append(_line(f"l{place}", unit, f"n{number}", node, lon, lat, k))


def _transformer(unit: str, number: int, lon: float, lat: float, check: str) -> dict[str, object]:
    return {
        "id": unit,
        "name": f"Station {number + 1}",
        "lon": lon,
        "lat": lat,
        "rated_kva": 400,
        "primary_v": 20000,
        "secondary_v": 400,
        "no_load_loss_w": 600,
        "load_loss_w": 4600,
        "impedance_pct": 4,
        "station_node": f"n{number}",
        "check_meter": check,
        "concentrator": unit,
    }


def _asset(unit: str, number: int) -> dict[str, object]:
    return {
        "asset_id": f"a{number + 1}",
        "position": unit,
        "class": "distribution transformer",
        "manufacturer": "Maker",
        "model": "M400",
        "batch": "b1",
        "serial": f"s{number}",
        "manufactured_year": 1990,
        "installed_on": "1991-04-01",
        "price_eur_cent": 900000,
        "cooling": "ONAN",
        "indoor": "true",
        "synthetic": "true",
    }


_CLIMATE_C = (1, 2, 6, 10, 15, 18, 20, 20, 15, 10, 5, 2)


def _meter(meter: str, point: str, unit: str, protocol: str) -> dict[str, object]:
    return {
        "id": meter,
        "serial": f"S{meter}",
        "service_point": point,
        "transformer": unit,
        "protocol": protocol,
        "model": "some",
        "line": f"{protocol}-1",
        "address": "1/17",
    }


def _line(
    name: str, unit: str, start: str, end: str, lon: float, lat: float, k: int
) -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {
            "type": "LineString",
            "coordinates": [[lon, lat], [lon + 0.0008 * k + 0.0001, lat]],
        },
        "properties": {
            "id": name,
            "transformer": unit,
            "kind": "service",
            "type": "NAYY 4x50",
            "length_m": 20,
            "i_max_a": 140,
            "r_ohm": 0.01,
            "x_ohm": 0.002,
            "from_node": start,
            "to_node": end,
        },
    }


class StandInReadings:
    """Day tables in memory, in the shape of `central.readings.query.Readings`."""

    def __init__(self) -> None:
        self._tables: dict[date, pa.Table] = {}
        self._last_end_utc_s: int | None = None

    def put(
        self,
        day: date,
        meters: Sequence[str],
        import_wh: np.ndarray,
        export_wh: np.ndarray | None = None,
        import_varh: np.ndarray | None = None,
    ) -> None:
        """Store energies [meter][step]; NaN becomes null."""
        steps = import_wh.shape[1]
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        step = np.tile(np.arange(steps, dtype=np.int32), len(meters))
        end = int(begin.timestamp()) + 900 * (step.astype(np.int64) + 1)
        zero = np.zeros_like(import_wh, dtype=float)

        def column(values: np.ndarray | None) -> pa.Array:
            flat = np.asarray(zero if values is None else values, dtype=float).ravel()
            return pa.array(flat, mask=np.isnan(flat)).cast(pa.int64())

        self._tables[day] = pa.table(
            {
                "meter": np.repeat(np.asarray(meters), steps),
                "step": step,
                "end_utc_s": end,
                "import_wh": column(import_wh),
                "export_wh": column(export_wh),
                "import_varh": column(import_varh),
                "voltage_dv": np.full(len(step), 2300),
                "current_ca": np.full(len(step), 100),
                "flags": np.zeros(len(step), dtype=np.int32),
            }
        )
        last = int((begin + timedelta(seconds=900 * steps)).timestamp())
        self._last_end_utc_s = max(self._last_end_utc_s or 0, last)

    def day_energy(self, day: date) -> pa.Table:
        return self._tables[day]

    def days(self) -> list[date]:
        return sorted(self._tables)

    def last_end_utc_s(self) -> int | None:
        return self._last_end_utc_s


@pytest.fixture
def town_files(tmp_path: Path) -> WriteTown:
    """Writes a tiny town: `town_files(transformers=2, households=6)` gives its folder."""

    def write(name: str = "town", **size: int) -> Path:
        return write_town(tmp_path / name, **size)

    return write


@pytest.fixture
def stand_in_readings() -> StandInReadings:
    """Empty readings of the tiny town."""
    return StandInReadings()
