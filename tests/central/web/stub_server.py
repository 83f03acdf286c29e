"""Serves the built page and the API from a `StubTown`, with the page's security headers.

It keeps every path asked for, can hold readings back (`days = 0`) and can be told to fail.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h3
import numpy as np

from tests.central.web.stub_town import (
    DAYS,
    FIRST_DAY,
    INTERVAL_S,
    NAMES,
    RATED_KVA,
    STEPS,
    StubTown,
)

DIST = Path(__file__).resolve().parents[3] / "central" / "web" / "dist"
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
LAYERS = (
    ("load_density", "Load density", "MW/km²", "Mean power drawn in the interval per area of the cell.",
     [0.1, 0.5, 1, 2, 4], 0.001),
    ("utilisation", "Transformer utilisation", "%", "Apparent power of the cell's transformer as a "
     "share of its rating.", [20, 40, 60, 80, 100], 0.01),
    ("ev_charging", "EV charging", "kW", "Power of separately metered charging points.",
     [0.5, 2, 5, 10, 20], 0.01),
    ("pv_export", "PV export", "kW", "Power fed into the grid by plants, from export registers.",
     [0.5, 2, 5, 10, 20], 0.01),
)  # fmt: skip
NODATA = 65535


class StubCentre:
    """The API of central over a made-up town; set `steps`, `failing` to steer it."""

    def __init__(self, town: StubTown) -> None:
        self.town = town
        self.steps = DAYS * STEPS
        self.failing: dict[str, int] = {}
        self.asked: list[str] = []
        self.revision = 1
        self.news = threading.Event()
        self.agents = 0
        self.recovered = 0
        centre = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                centre._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.news.set()
        self._server.shutdown()
        self._server.server_close()

    def publish(self, steps: int) -> None:
        """New readings are stored: tells every listening page."""
        self.steps = steps
        self.revision += 1
        self.news.set()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        self.asked.append(request.path)
        for start, status in self.failing.items():
            if parts.path.startswith(start):
                body = json.dumps({"detail": "the lake is being repaired"}).encode()
                return _send(request, body, "application/json", status)
        if parts.path == "/api/v1/events":
            return self._stream(request)
        if parts.path.startswith("/api/v1/"):
            words = parts.path.removeprefix("/api/v1/").split("/")
            return self._api(request, words, parse_qs(parts.query))
        return _file(request, parts.path)

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        try:
            request.wfile.write(b": hello\n\n")
            request.wfile.flush()
            while self.news.wait():
                self.news.clear()
                catalog = self.catalog()
                data = {k: catalog[k] for k in ("last_end_utc_s", "versions", "coverage")}
                request.wfile.write(f"event: version\ndata: {json.dumps(data)}\n\n".encode())
                request.wfile.flush()
        except OSError:
            return

    def _api(self, request: BaseHTTPRequestHandler, words: list[str], query: Any) -> None:
        match words:
            case ["catalog"]:
                found: Any = self.catalog()
            case ["grid", "cells"]:
                found = self._cells()
            case ["grid", "network"]:
                found = self._network()
            case ["grid", "transformers"]:
                found = self._transformers()
            case ["layers", layer, day, _version]:
                return _send(request, self._block(layer, day), "application/octet-stream")
            case ["transformers", "utilisation", day]:
                found = self._utilisation(day)
            case ["transformers", name, "load"]:
                found = self._transformer_load(name, query)
            case ["transformers", name]:
                found = self._record(name)
            case ["cells", index, "load"]:
                found = self._cell_load(int(index), query["day"][0])
            case ["devices"]:
                found = self._devices()
            case _:
                return _send(request, b'{"detail": "no such path"}', "application/json", 404)
        return _send(request, json.dumps(found).encode(), "application/json")

    def catalog(self) -> dict[str, Any]:
        full, rest = divmod(self.steps, STEPS)
        days = [
            {"day": _day(d), "first_end_utc_s": FIRST_DAY + d * 86_400 + INTERVAL_S, "steps": STEPS}
            for d in range(full + (1 if rest else 0))
        ]
        last = FIRST_DAY + self.steps * INTERVAL_S if self.steps else None
        version = {day["day"]: f"v{self.revision}" for day in days}
        return {
            "tenant": "demo",
            "town": {
                "id": "stub",
                "title": "Schutterwald",
                "timezone": "Europe/Berlin",
                "bbox": _bbox(self.town),
                "notices": [
                    "© OpenStreetMap contributors (ODbL)",
                    "SimBench load profiles (ODbL)",
                    "pandapower lv_schutterwald (BSD-3)",
                ],
                "synthetic_note": "Loads are simulated; asset records are synthetic.",
            },
            "interval_s": INTERVAL_S,
            "clock": {"now_utc_s": (last or FIRST_DAY) + 130, "speed": 60},
            "last_end_utc_s": last,
            "grid_version": "g1",
            "days": days,
            "layers": [
                {"id": i, "title": t, "unit": u, "description": d, "kind": "cell", "breaks": b,
                 "palette": "cividis"}
                for i, t, u, d, b, _ in LAYERS
            ],
            "versions": {layer[0]: version for layer in LAYERS},
            "coverage": {day["day"]: 0.987 for day in days},
        }  # fmt: skip

    def values(self, layer: str) -> np.ndarray:
        """What a layer holds at [step of all days][cell], in the layer's unit."""
        town = self.town
        area = np.array([town.area_km2(i) for i in range(len(town.cells))])
        match layer:
            case "load_density":
                found = (town.load_kw + town.ev_kw) / 1000 / area
            case "utilisation":
                found = town.percent[:, town.cell_transformer]
            case "ev_charging":
                found = town.ev_kw
            case _:
                found = town.pv_kw
        found = found.copy()
        found[self.steps :] = np.nan
        # A street's meters are silent for a morning: the page must show it as no data.
        found[STEPS + 28 : STEPS + 52, np.array(town.cell_transformer) == 9] = np.nan
        return found

    def _block(self, layer: str, day: str) -> bytes:
        scale = next(row[5] for row in LAYERS if row[0] == layer)
        at = _day_index(day) * STEPS
        values = self.values(layer)[at : at + STEPS]
        raw = np.where(np.isnan(values), NODATA, np.round(np.nan_to_num(values) / scale))
        cells = len(self.town.cells)
        header = struct.pack("<4sHHIIddH", b"LSB1", 1, 16, cells, STEPS, scale, 0.0, NODATA)
        return header.ljust(64, b"\0") + raw.astype("<u2").tobytes()

    def _percent(self) -> list[list[float | None]]:
        rows = np.round(self.town.percent, 2)
        return [
            [None if _silent(t, s) else float(rows[s, t]) for s in range(self.steps)]
            for t in range(len(NAMES))
        ]

    def _utilisation(self, day: str) -> Any:
        at = _day_index(day) * STEPS
        rows = [row[at : at + STEPS] for row in self._percent()]
        rows = [row + [None] * (STEPS - len(row)) for row in rows]
        return {"day": day, "transformers": [_id(t) for t in range(len(NAMES))], "percent": rows}

    def _transformer_load(self, name: str, query: Any) -> Any:
        t = int(name[1:]) - 1
        first, last = int(query["first"][0]), int(query["last"][0])
        ends = list(range(first, last + 1, INTERVAL_S))
        row = self._percent()[t]
        percent = [row[(end - FIRST_DAY) // INTERVAL_S - 1] for end in ends]
        va = [None if p is None else round(p * RATED_KVA[t] * 10, 1) for p in percent]
        return {
            "end_utc_s": ends,
            "apparent_va": va,
            "active_w": [None if v is None else round(v * 0.95, 1) for v in va],
            "percent": percent,
            "hot_spot_c": [None if p is None else round(18 + 58 * (p / 100) ** 1.6, 1) for p in percent],
            "rated_kva": RATED_KVA[t],
        }  # fmt: skip

    def _record(self, name: str) -> Any:
        t = int(name[1:]) - 1
        known = [p for p in self._percent()[t] if p is not None]
        row = self._percent()[t]
        peak = max(known)
        coverage = len(known) / max(1, len(row))
        return {
            "position": {"id": name, "name": NAMES[t]},
            "identity": {
                "asset_id": f"A-{1000 + t}", "manufacturer": "Musterwerk", "model": f"DOT-{RATED_KVA[t]}",
                "batch": f"B{1990 + t}-2", "serial": f"{40_000 + 17 * t}", "manufactured_year": 1984 + 2 * t,
                "installed_on": f"{1985 + 2 * t}-05-14", "age_years": round(40.7 - 2 * t, 1), "synthetic": True,
            },
            "rating": {"rated_kva": RATED_KVA[t]},
            "loading": {
                "peak_percent": peak, "peak_utc_s": FIRST_DAY + (row.index(peak) + 1) * INTERVAL_S,
                "mean_percent": round(sum(known) / len(known), 2),
                "hours_above_80": sum(p > 80 for p in known) / 4,
                "hours_above_100": sum(p > 100 for p in known) / 4,
                "coverage": coverage, "source": "check meter",
            },
            "ageing": {
                "equivalent_days": round(0.004 * peak, 3), "calendar_days": len(row) / 96,
                "relative_rate": round(0.004 * peak / 7, 4), "hot_spot_max_c": round(18 + 58 * (peak / 100) ** 1.6, 1),
                "hours_above_98_c": 0.0, "hours_above_120_c": 0.0,
                "ambient_source": "monthly normal of the site", "paper": "non-upgraded",
                "method": "IEC 60076-7, exact step", "coverage": coverage,
            },
            "customers": 71 + 11 * t,
            "meters": {"household": 64 + 10 * t, "trade": 3, "charger": 2 + t, "plant": 2, "check": 1,
                       "reporting": 72 + 11 * t},
        }  # fmt: skip

    def _cell_load(self, index: int, day: str) -> Any:
        at = _day_index(day) * STEPS
        stop = min(at + STEPS, self.steps)
        watts = lambda a: [round(1000 * float(v), 1) for v in a[at:stop, index]]  # noqa: E731
        meters = self.town.cell_points[index]
        return {
            "end_utc_s": [FIRST_DAY + (s + 1) * INTERVAL_S for s in range(at, stop)],
            "import_w": watts(self.town.load_kw + self.town.ev_kw),
            "export_w": watts(self.town.pv_kw),
            "ev_w": watts(self.town.ev_kw),
            "meters_reporting": [meters] * (stop - at),
            "meters": meters,
        }

    def _devices(self) -> Any:
        recovery = {"known": self.recovered, "expected": 100}
        device = {"online": True, "recovery": recovery}
        return {"devices": [{**device, "device": _id(t)} for t in range(self.agents)]}

    def _cells(self) -> Any:
        town = self.town
        features = []
        for i, cell in enumerate(town.cells):
            ring = [[lon, lat] for lat, lon in h3.cell_to_boundary(cell)]
            properties = {
                "index": i, "cell": cell, "area_km2": town.area_km2(i),
                "service_points": town.cell_points[i],
                "transformer": _id(town.cell_transformer[i]),
            }  # fmt: skip
            geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
            features.append({"type": "Feature", "properties": properties, "geometry": geometry})
        return {"type": "FeatureCollection", "features": features}

    def _network(self) -> Any:
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {
                        "id": f"l{i}",
                        "transformer": _id(line.transformer),
                        "kind": line.kind,
                    },
                    "geometry": {"type": "LineString", "coordinates": line.points},
                }
                for i, line in enumerate(self.town.lines)
            ],
        }

    def _transformers(self) -> Any:
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {"id": _id(t), "name": NAMES[t], "rated_kva": RATED_KVA[t]},
                    "geometry": {"type": "Point", "coordinates": place},
                }
                for t, place in enumerate(self.town.transformers)
            ],
        }


def _send(request: BaseHTTPRequestHandler, body: bytes, kind: str, status: int = 200) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Content-Security-Policy", POLICY)
    request.end_headers()
    request.wfile.write(body)


def _file(request: BaseHTTPRequestHandler, path: str) -> None:
    wanted = (DIST / ("index.html" if path == "/" else path.lstrip("/"))).resolve()
    if not wanted.is_relative_to(DIST) or not wanted.is_file():
        return _send(request, b"no such file", "text/plain", 404)
    return _send(request, wanted.read_bytes(), TYPES.get(wanted.suffix, "text/plain"))


def _silent(transformer: int, step: int) -> bool:
    return transformer == 9 and STEPS + 28 <= step < STEPS + 52


def _id(t: int) -> str:
    return f"t{t + 1:02d}"


def _day(index: int) -> str:
    return datetime.fromtimestamp(FIRST_DAY + index * 86_400, UTC).date().isoformat()


def _day_index(day: str) -> int:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    return (int(start) - FIRST_DAY) // 86_400


def _bbox(town: StubTown) -> list[float]:
    lons = [p[0] for p in town.points]
    lats = [p[1] for p in town.points]
    return [min(lons), min(lats), max(lons), max(lats)]


def main() -> None:
    """Serves the made-up town by hand: `python -m tests.central.web.stub_server`."""
    from tests.central.web.stub_town import make_town

    centre = StubCentre(make_town())
    centre.agents = 14
    print(centre.url, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
