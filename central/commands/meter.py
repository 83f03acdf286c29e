"""`loadscape-central meter METER events|revisions`: what is known of one meter beside its curve."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

from central.commands.options import Parsers, add_config
from central.config import Config, load_config
from central.plain import plain

_DAY_S = 86_400


def add(parsers: Parsers) -> None:
    """Declare `meter`."""
    parser = parsers.add_parser("meter", help="event logs and revisions of one meter")
    parser.add_argument("meter", metavar="METER", help="the meter's id")
    parser.add_argument("what", choices=("events", "revisions"), help="what to show")
    parser.add_argument(
        "--days", type=int, default=7, metavar="N", help="of the last N days (default 7)"
    )
    parser.add_argument("--log", help="of this event log only")
    parser.add_argument("--json", action="store_true", help="as JSON, one object per line")
    add_config(parser)
    parser.set_defaults(action=_meter)


def _meter(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    last_utc_s = int(config.clock().now_utc_s())
    first_utc_s = last_utc_s - options.days * _DAY_S
    if options.what == "events":
        _show_events(config, options, first_utc_s)
    else:
        _show_revisions(config, options, first_utc_s, last_utc_s)
    return 0


def _show_events(config: Config, options: argparse.Namespace, first_utc_s: int) -> None:
    from central.readings.events import read_events

    for event in read_events(config.events_file, options.meter, first_utc_s, log=options.log):
        if options.json:
            print(json.dumps(asdict(event)))
        else:
            print(
                _utc(event.at_utc_s),
                f"{plain(event.log):14}",
                f"{event.code:5}",
                plain(event.detail),
            )


def _show_revisions(
    config: Config, options: argparse.Namespace, first_utc_s: int, last_utc_s: int
) -> None:
    from central.readings.query import Readings

    for row in Readings(config).revisions(options.meter, first_utc_s, last_utc_s):
        if options.json:
            print(json.dumps(asdict(row)))
        else:
            shown = "-" if row.import_wh is None else f"{row.import_wh} Wh"
            print(_utc(row.end_utc_s), "*" if row.counts else " ", f"{shown:>14}", row.reason)


def _utc(utc_s: int) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
