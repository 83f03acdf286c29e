"""`status`: how the running agent is doing, from the file that it writes every two seconds."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from agent.commands import EXIT_NOT_RUNNING, EXIT_OK, EXIT_WRONG
from agent.config import AgentConfig
from agent.status_file import is_running, read_status

_MOST_CLOCKS = 3
"""Meters whose clocks are shown; --json shows all."""
_MOST_REJECTED = 5
"""Meters whose rejected frames are shown; --json shows all."""


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print it; EXIT_NOT_RUNNING if no agent runs, EXIT_WRONG if the agent names faults."""
    try:
        status = read_status(config.data_dir)
    except (OSError, ValueError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if status is None:
        if chosen.json:
            print(json.dumps({"device": config.common_name, "running": False, "ever_ran": False}))
        print(f"no agent has run with data_dir {config.data_dir}", file=sys.stderr)
        return EXIT_NOT_RUNNING
    running = is_running(status)
    if chosen.json:
        print(json.dumps({**status, "running": running, "ever_ran": True}, indent=1))
    else:
        for text in status_lines(config, status, running):
            print(text)
    if not running:
        return EXIT_NOT_RUNNING
    return EXIT_WRONG if status["faults"] else EXIT_OK


def status_lines(config: AgentConfig, status: dict[str, Any], running: bool) -> Iterator[str]:
    """What an installer wants to read."""
    if running:
        yield f"{status['device']}: running (process {status['pid']})"
    else:
        yield f"{status['device']}: not running; this is what it said last"
        yield f"last seen   {_instant(status['written_utc_s'])} UTC"
    by = f" (by {status['clock_by']})" if status.get("clock_by") else ""
    yield f"clock       {_instant(status['shown_utc_s'])} UTC, {status['clock']}{by}"
    if held := status.get("held"):
        yield f"held        {held} intervals wait for a clock that is trusted"
    end = status["last_end_utc_s"]
    yield f"intervals   {'none closed yet' if end is None else f'closed up to {_instant(end)} UTC'}"
    yield f"broker      {'connected' if running and status['connected'] else 'not connected'}"
    yield f"outbox      {status['outbox']} batches wait for a receipt"
    age = status["receipt_age_s"]
    yield f"receipt     {'none yet' if age is None else f'{_span(age)} old'}"
    yield f"keyset      {status['keyset']}"
    if (ends_utc_s := status.get("certificate_ends_utc_s")) is not None:
        yield f"certificate holds until {_instant(ends_utc_s)} UTC"
    known, expected = status["recovery"]["known"], status["recovery"]["expected"]
    if expected:
        share = f"{known / expected:.1%} of the last days ({known} of {expected} intervals)"
        yield f"recovered   {share} from the meters' own profiles"
    if clocks := status.get("clocks"):
        yield f"clocks      {_clocks(clocks)}"
    for line in status["lines"]:
        yield from _line(config, line)
    rejected = _rejected(status["meters"])
    if rejected:
        yield f"rejected    {rejected}"
    for key, message in status["faults"].items():
        yield f"fault       {key}: {message}"


def _line(config: AgentConfig, line: dict[str, Any]) -> Iterator[str]:
    meters, failing = len(config.meters_of(line["name"])), line["failing"]
    state = f"port open, {meters - len(failing)} of {meters} meters answer"
    if not line["open"]:
        state = f"port closed, none of {meters} meters is asked"
    elif failing:
        state += f"; not: {', '.join(failing)}"
    pushed = line.get("pushed")
    busy = f"busy {line['busy_share']:.0%}" if pushed is None else _heard(pushed)
    yield f"line        {line['name']}: {state}, {busy}"
    if line["cycle_ratio"] is not None:
        text = (
            f"one sample of each meter takes {line['cycle_ms'] / 1000:.1f} s, "
            f"{line['cycle_share']:.0%} of the cycle and {line['cycle_ratio']:.2f} of the formula"
        )
        if line["cycle_share"] > 1:
            text += "; too slow for sample_s: see check"
        yield f"            {text}"


def _heard(pushed: dict[str, Any]) -> str:
    """What came on a line of meters that send by themselves."""
    beside = {**pushed["unread"], "damaged frames": pushed["damaged_frames"]}
    unread = ", ".join(f"{count} {kind}" for kind, count in beside.items() if count)
    return f"{pushed['read']} lists read, " + (f"not: {unread}" if unread else "all that came")


def _clocks(clocks: dict[str, dict[str, Any]]) -> str:
    """How many meters' clocks were read, and those that are off the most."""
    worst = sorted(clocks, key=lambda name: -abs(clocks[name]["ahead_s"]))
    shown = []
    for name in worst[:_MOST_CLOCKS]:
        clock = clocks[name]
        text = f"{name} {clock['ahead_s']:+.1f} s"
        if clock["drift_s_per_day"] is not None:
            text += f" ({clock['drift_s_per_day']:+.1f} s a day)"
        shown.append(text + (", in doubt itself" if clock["untrusted"] else ""))
    return f"{len(clocks)} meters' read; off the most: {'; '.join(shown)}"


def _rejected(meters: dict[str, dict[str, Any]]) -> str:
    """The meters with the most frames that were not accepted."""
    counts = {name: sum(meter["rejected"].values()) for name, meter in meters.items()}
    worst = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    shown = []
    for name in worst[:_MOST_REJECTED]:
        reasons = ", ".join(f"{n} {reason}" for reason, n in meters[name]["rejected"].items())
        shown.append(f"{name} {reasons}")
    if len(worst) > _MOST_REJECTED:
        shown.append(f"and of {len(worst) - _MOST_REJECTED} more meters")
    return "; ".join(shown)


def _instant(utc_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(utc_s))


def _span(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
