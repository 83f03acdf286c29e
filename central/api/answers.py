"""HTTP answers: JSON with an ETag, stored bytes that are gzipped once, and 304."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from numpy.typing import NDArray

REVALIDATE = "no-cache"
"""May be kept, must be asked about: the answer changes with readings or grid."""

IMMUTABLE = "private, max-age=31536000, immutable"
"""Named by its content: never changes."""

JSON_TYPE = "application/json"


def json_answer(request: Request, document: object, *, cache: str = REVALIDATE) -> Response:
    """`document` as JSON with a strong ETag, or 304 when the asker has it already.

    NaN is never written; use `numbers` for arrays with gaps.
    """
    body = to_json(document)
    tag = etag(body)
    headers = {"ETag": tag, "Cache-Control": cache}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=JSON_TYPE, headers=headers)


def stored_answer(
    request: Request, plain: bytes | None, gzipped: bytes, tag: str, media_type: str, cache: str
) -> Response:
    """Bytes that were gzipped when they were made; unzipped for whoever cannot read that."""
    headers = {"ETag": tag, "Cache-Control": cache, "Vary": "Accept-Encoding"}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(gzipped, media_type=media_type, headers=headers)
    body = gzip.decompress(gzipped) if plain is None else plain
    return Response(body, media_type=media_type, headers=headers)


def to_json(document: object) -> bytes:
    """Compact UTF-8 JSON; raises ValueError on NaN."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def etag(body: bytes) -> str:
    """The strong ETag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def numbers(values: Iterable[float] | NDArray[Any], digits: int) -> list[float | None]:
    """Rounded numbers, null for NaN."""
    rounded = np.round(np.asarray(values, dtype=np.float64), digits).tolist()
    return [None if math.isnan(value) else value for value in rounded]


def _has(request: Request, tag: str) -> bool:
    asked = request.headers.get("if-none-match", "")
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in asked.split(","))
