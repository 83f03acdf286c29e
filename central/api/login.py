"""Lets only known people in: HTTP Basic, checked against the accounts of the registry.

The password crosses the line with every request, so the API belongs on the
loopback address or behind a reverse proxy with TLS. A right answer is
remembered for some minutes under a keyed hash, so that scrypt runs once and
not with every request; a changed password ends it at once. Checks of
passwords run one after another, which bounds how fast anyone can guess; when
too many wait, the next ones are turned away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import time
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from central.api import users
from central.metrics import MetricSet

REMEMBERED_S = 600.0
MOST_WAITING = 32
REFUSED = "loadscape_api_logins_refused_total"


class LoginRequired:
    """ASGI layer that asks for a login before anything else answers."""

    def __init__(self, app: ASGIApp, registry_path: Path, metrics: MetricSet) -> None:
        self._app = app
        self._registry_path = registry_path
        self._metrics = metrics
        self._key = os.urandom(32)
        self._good_until_s: dict[bytes, float] = {}
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            known = await self._known(headers.get(b"authorization", b""))
        except _TooManyLogins:
            answer = JSONResponse(
                {"detail": "too many logins wait to be checked; try again in some seconds"},
                status_code=429,
                headers={"Retry-After": "5", "Cache-Control": "no-store"},
            )
            await answer(scope, receive, send)
            return
        if known:
            await self._app(scope, receive, send)
            return
        answer = JSONResponse(
            {"detail": "log in; an account is added with: loadscape-central users add NAME"},
            status_code=401,
            headers={
                "WWW-Authenticate": 'Basic realm="Loadscape", charset="UTF-8"',
                "Cache-Control": "no-store",
            },
        )
        await answer(scope, receive, send)

    async def _known(self, authorization: bytes) -> bool:
        came = _name_and_password(authorization)
        if came is None:
            return False
        name, password = came
        user = await asyncio.to_thread(users.find_user, self._registry_path, name)
        stored = b"" if user is None else user.scrypt
        token = hmac.digest(self._key, authorization + stored, hashlib.sha256)
        now_s = time.monotonic()
        if self._good_until_s.get(token, 0.0) > now_s:
            return True
        fits = await self._checked(user, password)
        if not fits:
            self._metrics.count(REFUSED)
            return False
        self._good_until_s = {
            known: until_s for known, until_s in self._good_until_s.items() if until_s > now_s
        }
        self._good_until_s[token] = now_s + REMEMBERED_S
        return True

    async def _checked(self, user: users.User | None, password: str) -> bool:
        if self._waiting >= MOST_WAITING:
            raise _TooManyLogins
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(users.password_fits, user, password)
        finally:
            self._waiting -= 1


class _TooManyLogins(Exception):
    """More logins wait to be checked than the API is ready to remember."""


def _name_and_password(authorization: bytes) -> tuple[str, str] | None:
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None
