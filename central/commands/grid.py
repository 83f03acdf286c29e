"""`loadscape-central grid`: the network's master data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config


def add(parsers: Parsers) -> None:
    """Declare `grid`."""
    grid = parsers.add_parser("grid", help="load the grid's master data")
    verbs = grid.add_subparsers(title="what to do", required=True, metavar="ACTION")
    load = verbs.add_parser(
        "load",
        help="check a folder of grid files and make it the grid",
        description="All of the folder or nothing. The files are described by the schemas in "
        "central/grid/schemas.",
    )
    add_config(load)
    load.add_argument("folder", type=Path, metavar="DIR", help="folder of CSV and GeoJSON files")
    load.add_argument("--json", action="store_true", help="as JSON")
    load.set_defaults(action=_load)


def _load(options: argparse.Namespace) -> int:
    from central.grid.load import GridRefused, load_folder

    config = load_config(options.config)
    try:
        loaded = load_folder(config.registry_file, options.folder)
    except GridRefused as error:
        raise CommandFailed(str(error)) from error
    if options.json:
        print(json.dumps({"version": loaded.version, "counts": loaded.counts}))
        return 0
    counts = ", ".join(f"{count} {name}" for name, count in loaded.counts.items())
    print(f"grid {loaded.version}: {counts}")
    return 0
