"""GET /api/v1/transformers/...: utilisation of all, asset record and load curve of one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from central.api.answers import json_answer, numbers
from central.api.centre import Centre, stored_day
from central.assets.loading import DAY_S, day_start_utc_s
from central.assets.record import asset_record, hot_spot_c, percent, today_of
from central.readings.events import MOST_SHOWN, read_events
from wire.events import LARGEST_NUMBER


def transformer_routes(centre: Centre) -> APIRouter:
    """The routes of transformers and their asset records."""
    routes = APIRouter()

    @routes.get("/transformers/utilisation/{day}", summary="Utilisation of all over a day")
    def utilisation(request: Request, day: date) -> Response:
        grid, state = centre.grid(), centre.state()
        stored_day(state, day)
        rated_va = np.array([1000 * unit.rated_kva for unit in grid.transformers])
        stored = centre.aggregates.transformer_days(day, day, len(grid.transformers))
        if not stored:
            raise HTTPException(404, f"nothing is stored for the day {day.isoformat()}")
        shares = 100 * stored[0][1].apparent_va / rated_va
        document = {
            "day": day.isoformat(),
            "transformers": [unit.id for unit in grid.transformers],
            "percent": [numbers(column, 2) for column in shares.T],
        }
        return json_answer(request, document)

    @routes.get("/transformers/{transformer_id}", summary="The asset record")
    def record(request: Request, transformer_id: str) -> Response:
        grid = centre.grid()
        index, transformer = centre.transformer(grid, transformer_id)
        history = centre.history(grid, index)
        found = asset_record(grid, transformer, history, today_of(centre.clock.now_utc_s()))
        return json_answer(request, asdict(found))

    @routes.get("/transformers/{transformer_id}/load", summary="The load curve")
    def load(
        request: Request,
        transformer_id: str,
        day: date | None = None,
        first: int | None = None,
        last: int | None = None,
    ) -> Response:
        first_utc_s, last_utc_s = _range(day, first, last)
        return json_answer(request, _load(centre, transformer_id, first_utc_s, last_utc_s))

    @routes.get("/transformers/{transformer_id}/events", summary="Its meters' event log entries")
    def events(
        request: Request,
        transformer_id: str,
        first: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
        most: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 20,
    ) -> Response:
        grid = centre.grid()
        centre.transformer(grid, transformer_id)
        meters = [meter.id for meter in grid.meters if meter.transformer == transformer_id]
        found = read_events(centre.config.events_file, meters, first, most=most)
        document = {"transformer": transformer_id, "events": [asdict(one) for one in found]}
        return json_answer(request, document)

    return routes


def _load(
    centre: Centre, transformer_id: str, first_utc_s: int, last_utc_s: int
) -> dict[str, object]:
    """The load curve between two interval ends; the hot spot only where load was measured."""
    grid = centre.grid()
    index, transformer = centre.transformer(grid, transformer_id)
    history = centre.history(grid, index)
    kept = (history.end_utc_s >= first_utc_s) & (history.end_utc_s <= last_utc_s)
    hot = hot_spot_c(grid, transformer, grid.asset_at(transformer.id), history)
    measured = history.known
    shown = np.full(len(measured), np.nan) if hot is None else np.where(measured, hot, np.nan)
    return {
        "end_utc_s": history.end_utc_s[kept].tolist(),
        "apparent_va": numbers(history.apparent_va[kept], 0),
        "active_w": numbers(history.active_w[kept], 0),
        "percent": numbers(percent(history, transformer.rated_kva)[kept], 2),
        "hot_spot_c": numbers(shown[kept], 1),
        "rated_kva": transformer.rated_kva,
    }


def _range(day: date | None, first: int | None, last: int | None) -> tuple[int, int]:
    """First and last interval end asked for, s; raises 422."""
    if day is not None and first is None and last is None:
        begin_utc_s = day_start_utc_s(day)
        return begin_utc_s + 1, begin_utc_s + DAY_S
    if day is None and first is not None and last is not None and first <= last:
        return first, last
    raise HTTPException(
        422, "expected either day=YYYY-MM-DD or first= and last= (interval ends, UTC seconds)"
    )
