"""`profile`: the rows of a meter's load profile over a span, as CSV or JSON, a day per request.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, cast

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.read import meter_named
from agent.config import AgentConfig, ConfigError
from agent.driver import ProfileDriver, ProfileRow, ReadError
from agent.drivers import build_driver, open_line
from agent.line.port import PortLost
from agent.run import clock_of
from wire.quality import Quality

_DAY_S = 86_400
_COLUMNS = tuple(field.name for field in fields(ProfileRow))


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    ends = "ISO 8601, UTC unless it has a zone"
    parser.add_argument(
        "--from", type=_instant, dest="first", metavar="TIME", help=f"{ends} (default 24 h before)"
    )
    parser.add_argument(
        "--to", type=_instant, dest="last", metavar="TIME", help=f"{ends} (default now)"
    )
    parser.add_argument("--csv", action="store_true", help="print CSV (the default)")


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print rows whose end lies in the span; EXIT_WRONG if the meter does not answer."""
    if chosen.json and chosen.csv:
        raise ConfigError("profile: expected one of --csv and --json, came both; leave one out")
    meter = meter_named(config, chosen.meter)
    line = next(line for line in config.lines if line.name == meter.line)
    clock = clock_of(config)
    last = int(clock.now_utc_s()) if chosen.last is None else chosen.last
    first = last - _DAY_S if chosen.first is None else chosen.first
    if first > last:
        raise ConfigError("profile: --from lies after --to; exchange them")
    port = open_line(line)
    try:
        if not line.is_dlms:
            raise ConfigError(f"meter {meter.id} keeps no load profile; name a DLMS meter")
        driver = cast("ProfileDriver", build_driver(config, line, meter, port, clock))
        port.open()
        rows = [row for part in _days(first, last) for row in _told(driver, *part)]
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {meter.id}: {error}", file=sys.stderr)
        return EXIT_WRONG
    finally:
        port.close()
    _print(rows, as_json=chosen.json)
    return EXIT_OK


def _told(driver: ProfileDriver, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
    """The rows of a part; on a terminal the day is shown, for a year takes its time."""
    if sys.stderr.isatty():
        day = time.strftime("%Y-%m-%d", time.gmtime(first_utc_s))
        print(f"\r{day}", end="\r", file=sys.stderr, flush=True)
    return driver.profile(first_utc_s, last_utc_s)


def _days(first_utc_s: int, last_utc_s: int) -> Iterator[tuple[int, int]]:
    while first_utc_s <= last_utc_s:
        yield first_utc_s, min(first_utc_s + _DAY_S - 1, last_utc_s)
        first_utc_s += _DAY_S


def _print(rows: list[ProfileRow], *, as_json: bool) -> None:
    shown = [_shown(row) for row in rows]
    if as_json:
        named = [{**row, "flags": row["flags"].split()} for row in shown]
        print(json.dumps(named, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, ("end_utc", *_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(shown)


def _shown(row: ProfileRow) -> dict[str, Any]:
    """The row with its end as people write it too, and its flags by name."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.end_utc_s))
    flags = " ".join(flag.name for flag in Quality if flag.name and flag & row.flags)
    return {"end_utc": end, **asdict(row), "flags": flags}


def _instant(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ISO 8601, such as 2026-03-28T12:00Z"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
