"""Runs the API until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
from types import FrameType

import uvicorn

from central.api import users
from central.api.app import create_app
from central.api.centre import Centre
from central.config import Config

LOG = logging.getLogger("loadscape.api")

STOP_WAITS_S = 2
"""How long open answers may hold up the end."""


class ApiPlaceTaken(OSError):
    """The configured address cannot be listened on."""


def serve(config: Config) -> None:
    """Answer requests until SIGINT or SIGTERM. Raises ApiPlaceTaken."""
    listening = _listen(config)
    host, port = listening.getsockname()[:2]
    if not _is_loopback(config.api.host):
        LOG.warning(
            "the API listens on %s without TLS: put a reverse proxy with TLS in front", host
        )
    if config.api.open:
        LOG.warning("open = true: nobody is asked for a login; use this for a demo only")
    elif users.count_users(config.registry_file) == 0:
        LOG.warning("there is no account yet; add one: loadscape-central users add NAME")
    LOG.info("page and API at http://%s:%d/", host, port)
    app = create_app(config)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_WAITS_S,
        ),
        app.state.centre,
    )
    with listening:
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the event streams before it waits for open answers."""

    def __init__(self, config: uvicorn.Config, centre: Centre) -> None:
        super().__init__(config)
        self._centre = centre

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._centre.closing = True
        super().handle_exit(sig, frame)


def _listen(config: Config) -> socket.socket:
    place = (config.api.host, config.api.port)
    try:
        family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server(place, family=family, backlog=256)
    except OSError as error:
        raise ApiPlaceTaken(
            f"{config.source}, [api]: cannot listen on {place[0]}:{place[1]} ({error.strerror}); "
            "stop what uses that port or set another one under [api] port"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
