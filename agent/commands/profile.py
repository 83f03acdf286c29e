"""`profile`: the rows of a meter's load profile over a span, as CSV or JSON.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, Final

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.dlms_meter import dlms_meter
from agent.commands.span import DAY_S, add_span, instant_text, span_of
from agent.config import AgentConfig, ConfigError
from agent.driver import ProfileDriver, ProfileRow, ReadError
from agent.line.port import PortLost
from agent.run import clock_of
from wire.quality import Quality

_COLUMNS: Final = ("end_utc", *(field.name for field in fields(ProfileRow)))


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    add_span(parser, "24 h before")
    parser.add_argument("--csv", action="store_true", help="print CSV (the default)")


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print rows whose end lies in the span; EXIT_WRONG if the meter does not answer."""
    if chosen.json and chosen.csv:
        raise ConfigError("profile: expected one of --csv and --json, came both; leave one out")
    clock = clock_of(config)
    span = span_of(chosen, clock, DAY_S)
    try:
        with dlms_meter(config, chosen.meter, clock) as driver:
            rows = [row for part in _days(*span) for row in _told(driver, *part)]
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {chosen.meter}: {error}", file=sys.stderr)
        return EXIT_WRONG
    _print([_shown(row) for row in rows], as_json=chosen.json)
    return EXIT_OK


def _days(first_utc_s: int, last_utc_s: int) -> Iterator[tuple[int, int]]:
    while first_utc_s <= last_utc_s:
        yield first_utc_s, min(first_utc_s + DAY_S - 1, last_utc_s)
        first_utc_s += DAY_S


def _told(driver: ProfileDriver, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
    """The rows of a part; on a terminal the day is shown, for a month takes its time."""
    if sys.stderr.isatty():
        print(f"\r{instant_text(first_utc_s)[:10]}", end="\r", file=sys.stderr, flush=True)
    return driver.profile(first_utc_s, last_utc_s)


def _shown(row: ProfileRow) -> dict[str, Any]:
    """The row with its end as people write it too, and its flags by name."""
    flags = [flag.name for flag in Quality if flag.name and flag & row.flags]
    return {"end_utc": instant_text(row.end_utc_s), **asdict(row), "flags": flags}


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "flags": " ".join(row["flags"])} for row in rows)
