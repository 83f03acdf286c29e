"""`clock`: how far a meter's clock is off, and with --set the clock set as its class allows.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import json
import sys

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.dlms_meter import dlms_meter
from agent.commands.read import off_text
from agent.commands.span import instant_text
from agent.config import AgentConfig
from agent.driver import ClockReading, ReadError
from agent.line.port import PortLost
from agent.run import clock_of


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    parser.add_argument(
        "--set",
        action="store_true",
        help="set it to this machine's clock, if [clock] of the meter's class allows that",
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print the clock, before and after it was set; EXIT_WRONG if it was not read or not set."""
    clock = clock_of(config)
    before = None
    try:
        with dlms_meter(config, chosen.meter, clock) as driver:
            if chosen.set:
                before = driver.set_clock()
            now = driver.read_clock()
            serial = driver.serial
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {chosen.meter}: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        print(json.dumps({"meter": chosen.meter, "serial": serial, **_facts(now, before)}))
        return EXIT_OK
    print(f"meter              {chosen.meter}")
    print(f"its clock          {instant_text(round((now.at_utc_ms + now.ahead_ms) / 1000))}")
    print(f"this machine's     {instant_text(round(now.at_utc_ms / 1000))}")
    if before is not None:
        print(f"it was             {off_text(before.ahead_ms)}, and was set")
    print(f"it is              {off_text(now.ahead_ms)}")
    if now.flags:
        print("the meter itself says that its clock is not to be trusted")
    return EXIT_OK


def _facts(now: ClockReading, before: ClockReading | None) -> dict[str, int | bool | None]:
    return {
        "at_utc_ms": now.at_utc_ms,
        "ahead_ms": now.ahead_ms,
        "trusted": not now.flags,
        "ahead_before_ms": None if before is None else before.ahead_ms,
    }
