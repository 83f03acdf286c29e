"""`read`: one meter's values now; every register of a Modbus meter, the load profile of a DLMS one.

A line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.config import AgentConfig, ConfigError, MeterConfig
from agent.driver import ClockReading, Driver, ProfileRow, ReadError, Sample
from agent.drivers import build_driver, open_line
from agent.line.port import PortLost
from agent.run import clock_of
from wire.quality import Quality

if TYPE_CHECKING:
    from agent.modbus.profile import ShownRegister

_QUANTITIES: Final = (
    ("import_wh", "energy imported", 1000, "kWh", 3),
    ("export_wh", "energy exported", 1000, "kWh", 3),
    ("import_varh", "reactive imported", 1000, "kvarh", 3),
    ("voltage_dv", "voltage", 10, "V", 1),
    ("current_ca", "current", 100, "A", 2),
    ("power_w", "power", 1, "W", 0),
)
"""Field, words, integers per shown unit, unit, decimals."""
_ON_DISPLAY: Final = {"Wh": ("kWh", 1000), "varh": ("kvarh", 1000)}
"""Base unit -> what a meter's display shows instead, and how many make one."""
_WATCH_EVERY_S: Final = 2.0
_CLEAR: Final = "\x1b[H\x1b[2J"


@dataclass(frozen=True, slots=True)
class Look:
    """What one read of a meter brought."""

    sample: Sample
    registers: tuple[ShownRegister, ...] = ()
    """Every register of a Modbus meter's profile."""
    rows: tuple[ProfileRow, ...] = ()
    clock: ClockReading | None = None
    """A DLMS meter's clock."""


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
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=_WATCH_EVERY_S,
        metavar="SECONDS",
        help="read again and again until Ctrl-C and show what has changed "
        f"(default every {_WATCH_EVERY_S:.0f} s)",
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print what the meter shows; EXIT_WRONG if it does not answer."""
    meter = meter_named(config, chosen.meter)
    line = next(line for line in config.lines if line.name == meter.line)
    port = open_line(line)
    try:
        driver = build_driver(config, line, meter, port, clock_of(config))
        port.open()
        if chosen.watch is not None:
            return _watch(driver, meter, chosen.watch, as_json=chosen.json)
        look = look_at(driver, _profile_span(config, chosen.hours))
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: meter {meter.id}: {error}", file=sys.stderr)
        return EXIT_WRONG
    finally:
        port.close()
    if chosen.json:
        print(json.dumps(look_json(meter, look), indent=1))
        return EXIT_OK
    for text in (*look_lines(meter, look), *profile_lines(look.rows)):
        print(text)
    return EXIT_OK


def meter_named(config: AgentConfig, name: str) -> MeterConfig:
    """The [[meter]] of that id; raises ConfigError with names that are near."""
    for meter in config.meters:
        if meter.id == name:
            return meter
    import difflib

    near = difflib.get_close_matches(name, [meter.id for meter in config.meters])
    hint = f"did you mean {', '.join(near)}?" if near else "see the [[meter]] tables"
    raise ConfigError(f"{config.places.path}: meter {name!r} is not there; {hint}")


def look_at(driver: Driver, profile_span_utc_s: tuple[int, int] | None = None) -> Look:
    """Read the meter now, and its load profile over the span if it keeps one.

    Raises ReadError, PortLost.
    """
    from agent.dlms.driver import DlmsDriver
    from agent.modbus.driver import ModbusDriver

    if isinstance(driver, ModbusDriver):
        shown = driver.read_all()
        return Look(replace(driver.sample(), serial=shown.serial), shown.registers)
    assert isinstance(driver, DlmsDriver)
    with driver.session():
        sample, clock = driver.sample(), driver.read_clock()
        rows = () if profile_span_utc_s is None else tuple(driver.profile(*profile_span_utc_s))
    return Look(sample, rows=rows, clock=clock)


def off_text(ahead_ms: int) -> str:
    """How far a clock is off, in seconds."""
    return f"{abs(ahead_ms) / 1000:.1f} s {'ahead' if ahead_ms >= 0 else 'behind'}"


def look_json(meter: MeterConfig, look: Look) -> dict[str, Any]:
    """The same as JSON; values are in base units (Wh, varh, W, V, A, Hz)."""
    return {
        "meter": meter.id,
        "model": meter.model,
        "line": meter.line,
        "sample": asdict(look.sample),
        "registers": [
            {
                "name": register.name,
                "address": register.address,
                "raw": register.words.hex(),
                "value": _number(register.value),
                "unit": register.unit,
                "note": register.note,
            }
            for register in look.registers
        ],
        "profile": [asdict(row) for row in look.rows],
        "clock": None if look.clock is None else asdict(look.clock),
    }


def look_lines(meter: MeterConfig, look: Look, before: Look | None = None) -> Iterator[str]:
    """Who it is, every register, the sample; with `before` also what has changed since."""
    sample = look.sample
    yield f"meter              {meter.id} ({meter.model} on {meter.line})"
    yield f"serial             {sample.serial or 'not told by the meter'}"
    yield f"read at            {_instant(sample.at_utc_ms // 1000, '%Y-%m-%d %H:%M:%S')} UTC"
    if look.clock is not None:
        yield f"its clock is       {off_text(look.clock.ahead_ms)}"
    if look.registers:
        yield ""
        yield from register_lines(look.registers, None if before is None else before.registers)
        yield ""
        yield "what the agent makes of it:"
    earlier = None if before is None else asdict(before.sample)
    yield from _sample_lines(asdict(sample), earlier)
    if sample.flags:
        yield f"flags              {Quality(sample.flags)!r}"


def register_lines(
    registers: Sequence[ShownRegister], before: Sequence[ShownRegister] | None = None
) -> Iterator[str]:
    """The registers as a table; with `before` also how each has changed."""
    earlier = {} if before is None else {register.name: register.value for register in before}
    wide = max(len(register.name) for register in registers)
    raw_wide = max(len(_words(register.words)) for register in registers)
    changed = f"{'change':>16} " if before is not None else ""
    yield f"{'register':{wide}} address {'raw':{raw_wide}} {'value':>20}       {changed}note"
    for register in registers:
        unit, per_unit = _ON_DISPLAY.get(register.unit, (register.unit, 1))
        value = "-" if register.value is None else f"{float(register.value / per_unit):,.3f}"
        text = (
            f"{register.name:{wide}} {register.address:7} {_words(register.words):{raw_wide}} "
            f"{value:>20} {unit:5} "
        )
        if before is not None:
            change = _change(register.value, earlier.get(register.name), per_unit, 3)
            text += f"{change:>16} "
        yield (text + register.note).rstrip()


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


# --- watching --------------------------------------------------------------------------------


def _watch(driver: Driver, meter: MeterConfig, every_s: float, *, as_json: bool) -> int:
    """Read and show until Ctrl-C; a read that fails is told and tried again."""
    clear = sys.stdout.isatty() and not as_json
    before: Look | None = None
    next_s = time.monotonic()
    try:
        while True:
            try:
                look = look_at(driver)
            except (ReadError, PortLost) as error:
                print(f"loadscape-agent: meter {meter.id}: {error}", file=sys.stderr, flush=True)
            else:
                if as_json:
                    print(json.dumps(look_json(meter, look)), flush=True)
                else:
                    text = "\n".join(look_lines(meter, look, before))
                    print(f"{_CLEAR if clear else ''}{text}\n", flush=True)
                before = look
            next_s = max(next_s + every_s, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))
    except KeyboardInterrupt:
        return EXIT_OK


def _sample_lines(
    sample: Mapping[str, int | None], before: Mapping[str, int | None] | None
) -> Iterator[str]:
    for field, words, per_unit, unit, decimals in _QUANTITIES:
        value = sample[field]
        shown = "-" if value is None else f"{value / per_unit:,.{decimals}f} {unit}"
        if before is not None:
            shown = f"{shown:24} {_change(value, before[field], per_unit, decimals)}"
        yield f"{words:18} {shown}".rstrip()


def _change(
    value: Fraction | int | None, before: Fraction | int | None, per_unit: int, decimals: int
) -> str:
    """How much a value has risen or fallen; empty where it has not, or where one is missing."""
    if value is None or before is None or value == before:
        return ""
    return f"{float(value - before) / per_unit:+,.{decimals}f}"


def _profile_span(config: AgentConfig, hours: int) -> tuple[int, int] | None:
    """First and last end (UTC s) of the intervals of the last hours; None for no hours."""
    if hours <= 0:
        return None
    newest = int(clock_of(config).now_utc_s() // config.interval_s) * config.interval_s
    return newest - hours * 3600 + config.interval_s, newest


def _number(value: Fraction | None) -> int | float | None:
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)


def _words(data: bytes) -> str:
    """Registers as hexadecimal words, in the order in which they came."""
    return data.hex(" ", 2)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds above 0, such as 2 or 0.5")
    return seconds


def _instant(utc_s: int, form: str) -> str:
    return time.strftime(form, time.gmtime(utc_s))
