"""`events`: what a meter wrote into its event logs, as CSV or JSON.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.dlms_meter import dlms_meter
from agent.commands.span import DAY_S, add_span, instant_text, span_of
from agent.config import AgentConfig, ConfigError
from agent.driver import MeterEvent, MeterRefused, ProfileDriver, ReadError
from agent.line.port import PortLost
from agent.run import clock_of

_COLUMNS: Final = ("at_utc", "at_utc_s", "log", "code", "detail")
_DEFAULT_S: Final = 30 * DAY_S
_AHEAD_S: Final = DAY_S
"""A meter's clock may be so far ahead of ours that its newest entries lie in our future."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    parser.add_argument(
        "--log",
        action="append",
        metavar="NAME",
        help="a log of the meter's class, such as standard or fraud; may be given again "
        "(default: all that the meter has)",
    )
    add_span(parser, "30 days before")
    parser.add_argument("--csv", action="store_true", help="print CSV (the default)")


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print entries in the span by the meter's clock; EXIT_WRONG if a log cannot be read."""
    if chosen.json and chosen.csv:
        raise ConfigError("events: expected one of --csv and --json, came both; leave one out")
    clock = clock_of(config)
    first, last = span_of(chosen, clock, _DEFAULT_S)
    last += _AHEAD_S if chosen.last is None else 0
    try:
        with dlms_meter(config, chosen.meter, clock) as driver:
            found = list(_events(driver, _logs(driver, chosen), first, last))
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {chosen.meter}: {error}", file=sys.stderr)
        return EXIT_WRONG
    found.sort(key=lambda event: event.at_utc_s)
    _print([{"at_utc": instant_text(event.at_utc_s), **asdict(event)} for event in found], chosen)
    return EXIT_OK


def _logs(driver: ProfileDriver, chosen: argparse.Namespace) -> tuple[str, ...]:
    unknown = sorted(set(chosen.log or ()) - set(driver.event_logs))
    if unknown:
        raise ConfigError(
            f"--log {unknown[0]}: expected one of {', '.join(driver.event_logs) or 'none'}, the "
            f"logs of the class of meter {chosen.meter}"
        )
    return tuple(chosen.log or driver.event_logs)


def _events(
    driver: ProfileDriver, logs: tuple[str, ...], first_utc_s: int, last_utc_s: int
) -> Iterator[MeterEvent]:
    """Entries of each log; one that this meter does not have is told and passed over."""
    for log in logs:
        try:
            yield from _of_log(driver, log, first_utc_s, last_utc_s)
        except MeterRefused as error:
            print(f"loadscape-agent: {log} log: {error}", file=sys.stderr)


def _of_log(
    driver: ProfileDriver, log: str, first_utc_s: int, last_utc_s: int
) -> Iterator[MeterEvent]:
    """A read brings the next entries only, and those of its first second again."""
    after_utc_s, fresh = first_utc_s, driver.events(log, first_utc_s)
    while fresh and after_utc_s <= last_utc_s:
        yield from (event for event in fresh if event.at_utc_s <= last_utc_s)
        after_utc_s = fresh[-1].at_utc_s
        fresh = [one for one in driver.events(log, after_utc_s) if one.at_utc_s > after_utc_s]


def _print(events: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    if chosen.json:
        print(json.dumps(events, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(events)
