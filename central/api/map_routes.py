"""GET /api/v1/catalog, /layers, /cells: what the map shows and its exact values."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from central.api.answers import IMMUTABLE, etag, json_answer, stored_answer
from central.api.centre import Centre, stored_day
from central.assets.loading import day_start_utc_s
from central.grid.model import Town
from central.map.aggregates import CellDay, State
from central.map.cells import lay_out
from central.map.layers import layers

BLOCK_TYPE = "application/octet-stream"


def map_routes(centre: Centre) -> APIRouter:
    """The routes of catalog, layer blocks and cells."""
    routes = APIRouter()

    @routes.get("/catalog", summary="What there is to show")
    def catalog(request: Request) -> Response:
        return json_answer(request, catalog_of(centre))

    @routes.get("/layers/{layer}/{day}/{version}", summary="One layer of one day, all steps")
    def block(request: Request, layer: str, day: date, version: str) -> Response:
        gzipped = centre.aggregates.block_gzipped(layer, day, version)
        if gzipped is None:
            raise HTTPException(
                404,
                f"layer {layer!r} of {day.isoformat()} has no version {version!r} any more; "
                "ask the catalog for the current one",
            )
        tag = etag(version.encode())
        return stored_answer(request, None, gzipped, tag, BLOCK_TYPE, IMMUTABLE)

    @routes.get("/cells/{index}/load", summary="Energy of one cell over a day")
    def cell_load(request: Request, index: int, day: date) -> Response:
        layout, state = lay_out(centre.grid()), centre.state()
        if not 0 <= index < len(layout.cells):
            raise HTTPException(404, f"expected a cell from 0 to {len(layout.cells) - 1}")
        steps = stored_day(state, day)
        stored = centre.aggregates.cell_day(day, len(layout.cells))
        if stored is None:
            raise HTTPException(404, f"nothing is stored for the day {day.isoformat()}")
        first = day_start_utc_s(day) + state.interval_s
        document = {
            "index": index,
            "cell": layout.cells[index],
            "end_utc_s": [first + state.interval_s * step for step in range(steps)],
            **_powers(stored, index, steps, 3600 / state.interval_s),
            "meters": int(layout.cell_meters[index]),
        }
        return json_answer(request, document)

    return routes


def catalog_of(centre: Centre) -> dict[str, object]:
    """The catalog: town, clock, layers, stored days and their versions."""
    grid, state = centre.grid(), centre.state()
    return {
        "tenant": centre.config.tenant,
        "town": _town(grid.town),
        "interval_s": centre.config.interval_s,
        "clock": {"now_utc_s": round(centre.clock.now_utc_s(), 3), "speed": centre.speed},
        "grid_version": grid.version,
        "days": [
            {
                "day": stored.day.isoformat(),
                "first_end_utc_s": day_start_utc_s(stored.day) + state.interval_s,
                "steps": stored.steps,
            }
            for stored in state.days
        ],
        "layers": [
            {
                "id": layer.id,
                "title": layer.title,
                "unit": layer.unit,
                "description": layer.description,
                "kind": "cell",
                "breaks": layer.breaks,
                "palette": layer.palette,
            }
            for layer in layers()
        ],
        **versions_of(state),
    }


def versions_of(state: State) -> dict[str, object]:
    """What the page needs to know of new readings: the same in catalog and events."""
    return {
        "last_end_utc_s": state.last_end_utc_s,
        "versions": state.versions,
        "coverage": {day.day.isoformat(): round(day.coverage, 4) for day in state.days},
    }


def _town(town: Town) -> dict[str, object]:
    return {
        "id": town.id,
        "title": town.title,
        "timezone": town.timezone,
        "bbox": town.bbox,
        "notices": town.notices,
        "synthetic_note": town.synthetic_note or "",
    }


def _powers(day: CellDay, index: int, steps: int, per_hour: float) -> dict[str, object]:
    """Mean powers of one cell, null where no meter reported."""
    reporting = day.reporting[:steps, index]

    def power_w(energy_wh: NDArray[Any], silent: NDArray[np.bool_]) -> list[float | None]:
        powers = np.round(energy_wh[:steps, index] * per_hour, 1).tolist()
        return [None if gap else power for power, gap in zip(powers, silent.tolist(), strict=True)]

    return {
        "import_w": power_w(day.import_wh, reporting == 0),
        "export_w": power_w(day.export_wh, reporting == 0),
        "ev_w": power_w(day.ev_wh, day.ev_wh[:steps, index] < 0),
        "meters_reporting": reporting.tolist(),
    }
