"""GET /api/v1/events and /api/v1/devices: what changes while one looks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from central.api.answers import json_answer, to_json
from central.api.centre import Centre
from central.api.map_routes import versions_of
from central.collect.fleet import DeviceSeen, read_fleet
from central.grid.model import grid_version
from central.readings.ledger import LoaderProgress

LOOK_AGAIN_S = 0.25
KEEP_ALIVE_S = 15.0


def live_routes(centre: Centre) -> APIRouter:
    """The routes of server-sent events and of the agents."""
    routes = APIRouter()

    @routes.get("/events", summary="Server-sent events: a new version exists")
    async def events() -> StreamingResponse:
        return StreamingResponse(
            version_events(centre),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @routes.get("/devices", summary="Agents as the collector sees them")
    def devices(request: Request) -> Response:
        now_utc_s = centre.clock.now_utc_s()
        sealed = LoaderProgress(centre.config.loader_file).waiting_by_device()
        found = [
            _device(seen, sealed.get(seen.device, 0), now_utc_s)
            for seen in read_fleet(centre.config.journal_dir)
        ]
        return json_answer(request, {"devices": found})

    return routes


async def version_events(centre: Centre) -> AsyncIterator[bytes]:
    """One `version` event now and one after every change of the aggregates, until closing.

    SQLite's data version is looked at, which costs microseconds; the state is
    read only when it moved. A comment keeps the connection alive meanwhile.
    """
    loop = asyncio.get_running_loop()
    connection: sqlite3.Connection | None = None
    seen: tuple[int | None, str | None] | None = None
    sent: bytes | None = None
    said_s = loop.time()
    try:
        while not centre.closing:
            if connection is None:
                connection = centre.aggregates.connect()
            data_version = None
            if connection is not None:
                (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            here = (data_version, grid_version(centre.config.registry_file))
            if here != seen:
                seen = here
                state = await asyncio.to_thread(centre.state)
                body = to_json(versions_of(state))
                if body != sent:
                    sent = body
                    said_s = loop.time()
                    yield b"event: version\ndata: " + body + b"\n\n"
            elif loop.time() - said_s >= KEEP_ALIVE_S:
                said_s = loop.time()
                yield b": still here\n\n"
            await asyncio.sleep(LOOK_AGAIN_S)
    finally:
        if connection is not None:
            connection.close()


def _device(seen: DeviceSeen, unopened: int, now_utc_s: float) -> dict[str, object]:
    state = seen.state or {}
    return {
        "device": seen.device,
        "online": seen.online,
        "last_seen_utc_s": seen.last_seen_utc_s,
        "last_seen_age_s": max(0, round(now_utc_s - seen.last_seen_utc_s)),
        "last_batch_utc_s": seen.last_batch_utc_s,
        "batches": seen.batches,
        "refused": seen.refused,
        "unopened": unopened,
        "alarm": seen.alarm.what if seen.alarm else None,
        "outbox": state.get("outbox"),
        "recovery": state.get("recovery"),
        "clock": state.get("clock"),
        "meter_clocks": state.get("meter_clocks"),
        "state": seen.state,
    }
