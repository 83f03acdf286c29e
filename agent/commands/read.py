"""`read`: one meter's values now, and the last hours of its load profile if it keeps one.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.config import AgentConfig, ConfigError, MeterConfig
from agent.driver import ProfileRow, ReadError, Sample
from agent.drivers import build_driver, open_line
from agent.line.port import PortLost
from agent.run import clock_of
from wire.quality import Quality

_QUANTITIES = (
    ("import_wh", "energy imported", 1000, "kWh", 3),
    ("export_wh", "energy exported", 1000, "kWh", 3),
    ("import_varh", "reactive imported", 1000, "kvarh", 3),
    ("voltage_dv", "voltage", 10, "V", 1),
    ("current_ca", "current", 100, "A", 2),
    ("power_w", "power", 1, "W", 0),
)
"""Field, words, integers per shown unit, unit, decimals."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    parser.add_argument(
        "--hours",
        type=int,
        default=1,
        metavar="N",
        help="rows of the load profile, if the meter keeps one (default 1 hour)",
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print what the meter shows; EXIT_WRONG if it does not answer."""
    meter = next((meter for meter in config.meters if meter.id == chosen.meter), None)
    if meter is None:
        import difflib

        near = difflib.get_close_matches(chosen.meter, [meter.id for meter in config.meters])
        hint = f"did you mean {', '.join(near)}?" if near else "see the [[meter]] tables"
        raise ConfigError(f"{config.places.path}: meter {chosen.meter!r} is not there; {hint}")
    try:
        sample, rows = read_meter(config, meter, max(0, chosen.hours))
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {meter.id}: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        who = {"meter": meter.id, "model": meter.model, "line": meter.line}
        profile = [asdict(row) for row in rows]
        print(json.dumps({**who, "sample": asdict(sample), "profile": profile}, indent=1))
        return EXIT_OK
    for text in (*sample_lines(meter, sample), *profile_lines(rows)):
        print(text)
    return EXIT_OK


def read_meter(
    config: AgentConfig, meter: MeterConfig, profile_hours: int
) -> tuple[Sample, list[ProfileRow]]:
    """The meter's values now and its load profile of the last hours, if it keeps one.

    Raises ReadError, PortLost, ConfigError.
    """
    line = next(line for line in config.lines if line.name == meter.line)
    clock = clock_of(config)
    port = open_line(line)
    try:
        port.open()
        driver = build_driver(config, line, meter, port, clock)
        sample = driver.sample()
        if not driver.keeps_profile or not profile_hours:
            return sample, []
        newest = int(clock.now_utc_s() // config.interval_s) * config.interval_s
        return sample, driver.profile(newest - profile_hours * 3600 + config.interval_s, newest)
    finally:
        port.close()


def sample_lines(meter: MeterConfig, sample: Sample) -> Iterator[str]:
    """The sample as a table with units."""
    yield f"meter              {meter.id} ({meter.model} on {meter.line})"
    yield f"serial             {sample.serial or 'not told by the meter'}"
    yield f"read at            {_instant(sample.at_utc_ms // 1000, '%Y-%m-%d %H:%M:%S')} UTC"
    values = asdict(sample)
    for field, words, per_unit, unit, decimals in _QUANTITIES:
        value = values[field]
        shown = "-" if value is None else f"{value / per_unit:,.{decimals}f} {unit}"
        yield f"{words:18} {shown}"
    if sample.flags:
        yield f"flags              {Quality(sample.flags)!r}"


def profile_lines(rows: Iterable[ProfileRow]) -> Iterator[str]:
    """The profile's rows as a table with units in its head."""
    rows = list(rows)
    if not rows:
        return
    yield ""
    yield (
        f"{'interval ends, UTC':18} {'import kWh':>14} {'export kWh':>14} {'kvarh':>14} "
        f"{'V':>7} {'A':>8}"
    )
    for row in rows:
        values = asdict(row)
        shown = [
            "-" if values[field] is None else f"{values[field] / per_unit:,.{decimals}f}"
            for field, _, per_unit, _, decimals in _QUANTITIES
            if field in values
        ]
        widths = (14, 14, 14, 7, 8)
        columns = " ".join(f"{text:>{width}}" for text, width in zip(shown, widths, strict=True))
        yield f"{_instant(row.end_utc_s, '%Y-%m-%d %H:%M'):18} {columns}"


def _instant(utc_s: int, form: str) -> str:
    return time.strftime(form, time.gmtime(utc_s))
