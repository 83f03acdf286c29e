"""The API as one ASGI application: read-only, for the page and for people with curl."""

from __future__ import annotations

import time
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from central.api.centre import Centre
from central.api.live_routes import live_routes
from central.api.login import REFUSED, LoginRequired
from central.api.map_routes import map_routes
from central.api.meter_routes import meter_routes
from central.api.page import WEB_DIST, Fenced, Page, PageMissing
from central.api.places import grid_bodies, place_routes
from central.api.transformer_routes import transformer_routes
from central.config import Config
from central.metrics import CONTENT_TYPE, MetricSet

ANSWERS = "loadscape_api_answers_total"
LAST_END = "loadscape_api_last_end_utc_seconds"
SECONDS = "loadscape_api_answer_seconds_total"


def create_app(config: Config, *, web_dist: Path = WEB_DIST) -> FastAPI:
    """The application for one tenant; without `api.open` everyone must log in."""
    metrics = MetricSet()
    metrics.counter(
        ANSWERS, "Answers by status class.", *({"status": f"{n}xx"} for n in (2, 3, 4, 5))
    )
    metrics.counter(SECONDS, "Time until the first byte of answers, s.", {})
    metrics.gauge(LAST_END, "Latest interval end that the map shows, 0 while there is none.", {})
    metrics.counter(REFUSED, "Logins with a wrong name or password.", {})
    centre = Centre(config, grid_bodies)
    app = FastAPI(
        title="Loadscape",
        summary="The power thermal map and the asset records of one tenant.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.centre = centre
    for routes in (
        map_routes(centre),
        place_routes(centre),
        transformer_routes(centre),
        meter_routes(centre),
        live_routes(centre),
    ):
        app.include_router(routes, prefix="/api/v1")

    @app.get("/metrics", include_in_schema=False)
    def show_metrics() -> PlainTextResponse:
        metrics.set(LAST_END, centre.state().last_end_utc_s or 0)
        return PlainTextResponse(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    built = (web_dist / "index.html").exists()
    app.mount("/", Page(web_dist) if built else PageMissing(web_dist))
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    if not config.api.open:
        app.add_middleware(LoginRequired, registry_path=config.registry_file, metrics=metrics)
    app.add_middleware(Fenced)
    app.add_middleware(_Counted, metrics=metrics)
    return app


class _Counted:
    """ASGI layer that counts answers and how long their first byte took."""

    def __init__(self, app: ASGIApp, metrics: MetricSet) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked_s = time.monotonic()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.count(ANSWERS, status=f"{message['status'] // 100}xx")
                self._metrics.count(SECONDS, time.monotonic() - asked_s)
            await send(message)

        await self._app(scope, receive, send_counted)
