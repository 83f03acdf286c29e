"""`loadscape-central api`: the API and the page."""

from __future__ import annotations

import argparse

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config
from central.process import AlreadyRunning, claimed


def add(parsers: Parsers) -> None:
    """Declare `api`."""
    parser = parsers.add_parser(
        "api",
        help="serve the API and the page",
        description="Serves the page, the map and the asset records; metrics are at /metrics.",
    )
    add_config(parser)
    parser.set_defaults(action=_api)


def _api(options: argparse.Namespace) -> int:
    from central.api.serve import serve

    config = load_config(options.config)
    try:
        with claimed(config, "api"):
            serve(config)
    except AlreadyRunning as error:
        raise CommandFailed(str(error)) from error
    return 0
