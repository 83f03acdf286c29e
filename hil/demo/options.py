"""What can be chosen about a demo."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_PAGE_PORT = 8080


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to `parser`."""
    parser.add_argument(
        "--town",
        default="schutterwald",
        help="schutterwald (14 transformers), city (79), or a folder made like them",
    )
    parser.add_argument(
        "--speed",
        type=float,
        help="speed of the clock after the recovery (default: the fastest at which every interval "
        "still closes)",
    )
    parser.add_argument(
        "--days", type=int, default=3, help="start this many days ago (default 3, at least 1)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        help=f"port of the page (default {DEFAULT_PAGE_PORT}, or any free one if that is taken)",
    )
    parser.add_argument(
        "--paced",
        action="store_true",
        help="serial lines as slow as their baud rate (the recovery then takes hours, as in the "
        "field)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("run/demo"),
        help="where the installation is made; what an earlier demo left there is removed",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="take a picture of the page (PNG, needs chromium) once the week is recovered",
    )
    parser.add_argument(
        "--picture-of",
        metavar="TRANSFORMER",
        action="append",
        default=[],
        help="open this transformer's panel before the picture is taken",
    )
    parser.add_argument(
        "--minutes", type=float, help="stop by itself after so many real minutes of live running"
    )
