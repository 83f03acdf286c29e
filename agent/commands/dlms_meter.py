"""The one DLMS meter that a command is about, on its line, which is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from agent.commands.read import meter_named
from agent.config import AgentConfig, ConfigError
from agent.driver import ProfileDriver
from agent.drivers import build_driver, open_line
from wire.clock import Clock


@contextmanager
def dlms_meter(config: AgentConfig, name: str, clock: Clock) -> Iterator[ProfileDriver]:
    """The meter's driver until the block ends; raises ConfigError, PortLost.

    A line belongs to one program at a time.
    """
    meter = meter_named(config, name)
    line = next(line for line in config.lines if line.name == meter.line)
    if not line.is_dlms:
        raise ConfigError(
            f"meter {name} is on the {line.protocol} line {line.name} and keeps no load profile, "
            "clock or event log; name a DLMS meter"
        )
    port = open_line(line)
    try:
        driver = cast("ProfileDriver", build_driver(config, line, meter, port, clock))
        port.open()
        yield driver
    finally:
        port.close()
