"""GET /api/v1/catalog, /layers, /cells: what the map shows and its exact values."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from central.api.answers import (
    IMMUTABLE,
    etag,
    json_answer,
    stored_answer,
)
from central.api.centre import Centre, stored_day
from central.assets.loading import day_start_utc_s
from central.map.aggregates import State
from central.map.cells import lay_out
from central.map.layers import layers

BLOCK_TYPE = "application/octet-stream"


def map_routes(centre: Centre) -> APIRouter:
    """The routes of catalog, layer blocks and cells."""
    routes = APIRouter()

    @routes.get("/catalog", summary="What there is to show")
    def catalog(request: Request) -> Response:
        grid, state = centre.grid(), centre.state()
        town = grid.town
        document = {
            "tenant": centre.config.tenant,
            "town": {
                "id": town.id,
                "title": town.title,
                "timezone": town.timezone,
                "bbox": town.bbox,
                "notices": town.notices,
                "synthetic_note": town.synthetic_note or "",
            },
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
        return json_answer(request, document)

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
        per_hour = 3600 / state.interval_s
        reporting = stored.reporting[:steps, index]
        silent = reporting == 0

        def power_w(energy_wh: np.ndarray[Any, Any], unknown: np.ndarray[Any, Any]) -> list[Any]:
            powers = np.round(energy_wh[:steps, index] * per_hour, 1).tolist()
            gaps = unknown.tolist()
            return [None if gap else power for power, gap in zip(powers, gaps, strict=True)]

        first = day_start_utc_s(day) + state.interval_s
        document = {
            "index": index,
            "cell": layout.cells[index],
            "end_utc_s": [first + state.interval_s * step for step in range(steps)],
            "import_w": power_w(stored.import_wh, silent),
            "export_w": power_w(stored.export_wh, silent),
            "ev_w": power_w(stored.ev_wh, stored.ev_wh[:steps, index] < 0),
            "meters_reporting": reporting.tolist(),
            "meters": int(layout.cell_meters[index]),
        }
        return json_answer(request, document)

    return routes


def versions_of(state: State) -> dict[str, object]:
    """What the page needs to know of new readings: the same in catalog and events."""
    return {
        "last_end_utc_s": state.last_end_utc_s,
        "versions": state.versions,
        "coverage": {day.day.isoformat(): round(day.coverage, 4) for day in state.days},
    }
