"""`loadscape-central log DEVICE`: what a concentrator did, and whether its log is whole."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

from central.commands.options import Parsers, add_config
from central.config import load_config
from central.plain import plain

_DAY_S = 86_400


def add(parsers: Parsers) -> None:
    """Declare `log`."""
    parser = parsers.add_parser(
        "log",
        help="a concentrator's own log, and whether it is whole",
        epilog="Exit code 1 if an entry is missing, altered or there twice.",
    )
    parser.add_argument("device", metavar="DEVICE", help="the concentrator's name")
    parser.add_argument(
        "--days", type=int, default=7, metavar="N", help="of the last N days (default 7)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="show no entries, only whether the log is whole"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object per line")
    add_config(parser)
    parser.set_defaults(action=_log)


def _log(options: argparse.Namespace) -> int:
    from central.readings.device_log import count_entries, find_flaws, read_log

    config = load_config(options.config)
    path, device = config.device_log_file, options.device
    first_utc_s = int(config.clock().now_utc_s()) - options.days * _DAY_S
    for entry in [] if options.verify else reversed(read_log(path, device, first_utc_s)):
        at = datetime.fromtimestamp(entry.at_utc_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        shown = f"{at} {entry.code:16} {plain(entry.detail)}"
        print(json.dumps(asdict(entry)) if options.json else shown.rstrip())
    flaws = find_flaws(path, device)
    for flaw in flaws:
        shown = f"ALARM: {flaw.kind}: {flaw.what} (chain {flaw.chain})"
        print(json.dumps(asdict(flaw)) if options.json else shown)
    if options.verify:
        whole = {"device": device, "entries": count_entries(path, device), "flaws": len(flaws)}
        shown = f"{device}: {whole['entries']} entries, {len(flaws)} flaws"
        print(json.dumps(whole) if options.json else shown)
    return 1 if flaws else 0
