"""What an installer asks of a line before the agent runs: read one meter, find who answers.

Only reads. A line belongs to one program at a time, so these need the line to
themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.driver import MeterSilent, ProfileRow, ReadError, Sample
from agent.drivers import build_driver, open_line
from agent.line.port import Port
from agent.run import clock_of
from wire.clock import Clock
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


@dataclass(frozen=True, slots=True)
class Answering:
    """One address that answered, and what can be said of it."""

    address: str
    what: str
    models: tuple[str, ...] = ()
    """Shipped Modbus models whose profile reads plausible values there."""
    serial: str | None = None


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


def scan_line(
    config: AgentConfig,
    line: LineConfig,
    addresses: Iterable[int],
    model: str | None,
    asking: Callable[[str], None],
) -> Iterator[Answering]:
    """Who answers on the line, as found; `asking` is told each address before it is asked.

    On a Modbus line the addresses are units, on a DLMS line physical addresses
    below logical address 1, read as meters of class `model`. Raises PortLost,
    ConfigError.
    """
    clock = clock_of(config)
    port = open_line(line)
    try:
        port.open()
        if line.protocol == "modbus":
            yield from _scan_modbus(port, addresses, clock, asking)
        else:
            yield from _scan_dlms(config, line, port, addresses, model, clock, asking)
    finally:
        port.close()


def _scan_modbus(
    port: Port, units: Iterable[int], clock: Clock, asking: Callable[[str], None]
) -> Iterator[Answering]:
    from agent.modbus.scan import scan

    for unit in units:
        asking(f"unit {unit}")
        for found in scan(port, [unit], clock=clock):
            fits = ", ".join(found.fits)
            what = f"fits {fits}" if fits else "answers, but fits no shipped model"
            yield Answering(str(found.unit), what, found.fits)


def _scan_dlms(
    config: AgentConfig,
    line: LineConfig,
    port: Port,
    addresses: Iterable[int],
    model: str | None,
    clock: Clock,
    asking: Callable[[str], None],
) -> Iterator[Answering]:
    known = config.meters_of(line.name)
    model = model or next((meter.model for meter in known), None)
    if model is None:
        raise ConfigError(f"line {line.name} has no meter; say which --model to try")
    password_file = next((meter.password_file for meter in known), None)
    for physical in addresses:
        address = f"1/{physical}"
        asking(address)
        meter = MeterConfig(
            "scan", line.name, model, server_address=address, password_file=password_file
        )
        try:
            sample = build_driver(config, line, meter, port, clock).sample()
        except MeterSilent:
            continue
        except ReadError as error:
            yield Answering(address, f"answers, but {error}")
            continue
        yield Answering(address, f"serial {sample.serial}", serial=sample.serial)


def _instant(utc_s: int, form: str) -> str:
    return time.strftime(form, time.gmtime(utc_s))
