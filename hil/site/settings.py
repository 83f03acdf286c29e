"""What can be chosen about an installation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How an installation is to run; times in s of the shared clock unless said otherwise."""

    tenant: str = "demo"
    start_utc_s: int = 0
    """What the clock shows at the start."""
    recover_days: int = 7
    sample_s: int = 60
    """Sampling period of meters without profile."""
    batch_intervals: int = 1
    paced: bool = False
    """Whether the lines take as long for a byte as their baud rate says."""
    meter_hosts: int = 2
    """How many processes share the simulated meters."""
    garbled: tuple[str, ...] = ()
    """Meters that answer every request with garbage."""
    api_port: int = 0
    """0 takes any free port; so for the broker."""
    broker_port: int = 0
