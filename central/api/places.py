"""GET /api/v1/grid/...: cells, lines and transformers as GeoJSON, made once per grid."""

from __future__ import annotations

import gzip

from fastapi import APIRouter, Request
from fastapi.responses import Response

from central.api.answers import IMMUTABLE, REVALIDATE, etag, stored_answer, to_json
from central.api.centre import Centre
from central.grid.model import Grid
from central.map.cells import lay_out, ring

GEOJSON_TYPE = "application/geo+json"


def place_routes(centre: Centre) -> APIRouter:
    """The routes of the grid; `?v=<grid version>` makes an answer cacheable for ever."""
    routes = APIRouter()

    def answer(request: Request, name: str) -> Response:
        blobs = centre.blobs()
        plain, gzipped, tag = blobs.bodies[name]
        pinned = request.query_params.get("v") == blobs.grid.version
        cache = IMMUTABLE if pinned else REVALIDATE
        return stored_answer(request, plain, gzipped, tag, GEOJSON_TYPE, cache)

    @routes.get("/grid/cells", summary="Cells of the map")
    def cells(request: Request) -> Response:
        return answer(request, "cells")

    @routes.get("/grid/network", summary="Line sections")
    def network(request: Request) -> Response:
        return answer(request, "network")

    @routes.get("/grid/transformers", summary="Transformer positions")
    def transformers(request: Request) -> Response:
        return answer(request, "transformers")

    return routes


def grid_bodies(grid: Grid) -> dict[str, tuple[bytes, bytes, str]]:
    """(plain, gzipped, ETag) of every answer that the grid alone decides."""
    bodies = {}
    features = {"cells": _cells(grid), "network": _network(grid), "transformers": _units(grid)}
    for name, collection in features.items():
        plain = to_json({"type": "FeatureCollection", "features": collection})
        bodies[name] = (plain, gzip.compress(plain, 6, mtime=0), etag(plain))
    return bodies


def _cells(grid: Grid) -> list[dict[str, object]]:
    layout = lay_out(grid)
    return [
        _feature(
            "Polygon",
            [[[round(lon, 6), round(lat, 6)] for lon, lat in ring(cell)]],
            index=index,
            cell=cell,
            area_km2=round(float(layout.cell_area_km2[index]), 6),
            service_points=layout.cell_service_points[index],
            transformer=grid.transformers[layout.cell_transformer[index]].id,
        )
        for index, cell in enumerate(layout.cells)
    ]


def _network(grid: Grid) -> list[dict[str, object]]:
    return [
        _feature(
            "LineString",
            [[round(lon, 6), round(lat, 6)] for lon, lat in line.coordinates],
            id=line.id,
            transformer=line.transformer,
            kind=line.kind,
            type=line.type,
            i_max_a=line.i_max_a,
            length_m=line.length_m,
        )
        for line in grid.lines
    ]


def _units(grid: Grid) -> list[dict[str, object]]:
    return [
        _feature(
            "Point", [unit.lon, unit.lat], id=unit.id, name=unit.name, rated_kva=unit.rated_kva
        )
        for unit in grid.transformers
    ]


def _feature(geometry: str, coordinates: object, /, **properties: object) -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {"type": geometry, "coordinates": coordinates},
        "properties": properties,
    }
