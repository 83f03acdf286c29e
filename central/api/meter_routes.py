"""GET /api/v1/meters/...: event log entries and revisions of one meter."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from central.api.answers import json_answer
from central.api.centre import Centre
from central.readings.events import MOST_SHOWN, read_events

if TYPE_CHECKING:
    from central.readings.query import Readings

_LONGEST_S = 31 * 86_400
_LARGEST_UTC_S = (1 << 32) - 1
Instant = Annotated[int, Query(ge=0, le=_LARGEST_UTC_S)]


def meter_routes(centre: Centre) -> APIRouter:
    """The routes of single meters."""
    routes = APIRouter()
    opened: list[Readings] = []

    def readings() -> Readings:
        # Only who asks for revisions pays for the query engine's memory.
        if not opened:
            from central.readings.query import Readings

            opened.append(Readings(centre.config, threads=1))
        return opened[0]

    @routes.get("/meters/{meter}/events", summary="Entries of the meter's event logs")
    def events(
        request: Request,
        meter: str,
        first: Instant = 0,
        last: Instant = _LARGEST_UTC_S,
        log: str | None = None,
        most: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 100,
    ) -> Response:
        _check(centre, meter)
        found = read_events(centre.config.events_file, meter, first, last, log=log, most=most)
        return json_answer(request, {"meter": meter, "events": [asdict(one) for one in found]})

    @routes.get("/meters/{meter}/revisions", summary="Intervals of which more than one was said")
    def revisions(request: Request, meter: str, first: Instant, last: Instant) -> Response:
        _check(centre, meter)
        if not first <= last <= first + _LONGEST_S:
            raise HTTPException(
                422, "expected first= and last= (interval ends, UTC seconds) within 31 days"
            )
        found = readings().revisions(meter, first, last)
        return json_answer(request, {"meter": meter, "revisions": [asdict(one) for one in found]})

    return routes


def _check(centre: Centre, meter: str) -> None:
    if all(known.id != meter for known in centre.grid().meters):
        raise HTTPException(404, f"there is no meter {meter!r} in the grid")
