"""`loadscape-central status`: how far the chain is."""

from __future__ import annotations

import argparse
import json

from central.commands.options import Parsers, add_config
from central.config import load_config


def add(parsers: Parsers) -> None:
    """Declare `status`."""
    parser = parsers.add_parser("status", help="devices, journal, lake")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(action=_status)


def _status(options: argparse.Namespace) -> int:
    from central.collect.fleet import read_fleet
    from central.readings.lake import DeltaLake
    from central.readings.ledger import LoaderProgress
    from central.readings.loader import LOADER

    config = load_config(options.config)
    fleet = read_fleet(config.journal_dir)
    lake = DeltaLake(config.lake_dir)
    files = lake.files()
    state = {
        "devices": len(fleet),
        "online": sum(device.online for device in fleet),
        "batches": sum(device.batches for device in fleet),
        "refused": sum(device.refused for device in fleet),
        "loaded_upto": lake.watermark(LOADER),
        "unopened": len(LoaderProgress(config.loader_file).unopened_after(0)),
        "days": len({file.day for file in files}),
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "last_end_utc_s": max((file.last_end_utc_s for file in files), default=None),
    }
    if options.json:
        print(json.dumps(state))
        return 0
    for name, value in state.items():
        print(f"{name:16} {'none' if value is None else value}")
    return 0
