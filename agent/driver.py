"""What the agent asks of every meter, whichever protocol it speaks.

A driver answers within its own deadline or raises a `ReadError`; it never
returns a value that it is not sure of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class ReadError(Exception):
    """A meter could not be read; the message says which, how and what to do."""


class MeterSilent(ReadError):
    """No acceptable answer came before the deadline."""


class MeterRefused(ReadError):
    """The meter answered, and the answer was a refusal."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one meter showed at one instant; None where the meter has no such value.

    Registers are the meter's cumulative counters. `at_utc_ms` is the middle
    of the transaction that read the registers. `serial` is None where it was
    not asked or the meter does not tell it. `flags` are bits of `Quality`:
    what the meter marked as no value, or lies outside its limits, is None here
    and flagged there.
    """

    at_utc_ms: int
    import_wh: int | None = None
    export_wh: int | None = None
    import_varh: int | None = None
    voltage_dv: int | None = None
    current_ca: int | None = None
    power_w: int | None = None
    serial: str | None = None
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One row of a meter's load profile: counters at `end_utc_s`, gauges of the interval before."""

    end_utc_s: int
    import_wh: int | None = None
    export_wh: int | None = None
    import_varh: int | None = None
    voltage_dv: int | None = None
    current_ca: int | None = None
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What a meter's clock showed beside the agent's."""

    at_utc_ms: int
    """The agent's clock at the middle of the read."""
    ahead_ms: int
    """How far the meter's clock is ahead; negative if it is behind."""
    flags: int = 0
    """Bits of `Quality`: CLOCK_UNTRUSTED where the meter says so itself."""


@dataclass(frozen=True, slots=True)
class ClockBounds:
    """What row stamps say of a meter's clock: it is between `least_ms` and `most_ms` ahead."""

    least_ms: int
    most_ms: int

    @classmethod
    def of(cls, now_utc_s: float, newest_utc_s: int, period_s: int) -> ClockBounds:
        """At `now` the newest row was stamped `newest`, and the one after it not yet written.

        A meter may take a while to write a row, so `most_ms` is worth less than `least_ms`.
        """
        ahead_ms = round((newest_utc_s - now_utc_s) * 1000)
        return cls(ahead_ms, ahead_ms + period_s * 1000)


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One entry of one of a meter's event logs."""

    log: str
    """`standard`, `fraud`, `control` or `power_quality`, or the meter class's own name."""
    at_utc_s: int
    """By the meter's clock."""
    code: int
    detail: str = ""
    """Further columns of the entry as `name=value`, separated by spaces; often empty."""


@dataclass(frozen=True, slots=True)
class CounterLimits:
    """What is known about a meter's counters, to tell a rollover from a reset, a step from a jump.

    Nothing is assumed where nothing is known.
    """

    rollover: Mapping[str, int] = field(default_factory=dict)
    """Field of `Sample` -> the first value (Wh, varh) that its counter never shows."""
    most_per_hour: int | None = None
    """What a counter can at most gain in an hour, Wh or varh."""


class Driver(Protocol):
    """One meter on one line. Used by the line's own thread only."""

    @property
    def keeps_profile(self) -> bool:
        """Whether `profile` can be asked."""
        ...

    def sample(self) -> Sample:
        """Read registers and gauges now; raises ReadError."""
        ...

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        """Rows whose end lies in [first, last], oldest first; raises ReadError.

        An interval that the meter did not record is absent from the list.
        """
        ...


class ProfileDriver(Driver, Protocol):
    """A meter that keeps a load profile, a clock and event logs, and says who it is."""

    @property
    def serial(self) -> str | None:
        """Serial number as it came with the values read last; None before the first."""
        ...

    @property
    def quantities(self) -> frozenset[str]:
        """Fields of `ProfileRow` that the meter's rows have; None in a row: it lacks the value."""
        ...

    @property
    def event_logs(self) -> tuple[str, ...]:
        """Names of the logs that `events` can be asked for; may be empty."""
        ...

    @property
    def clock_bounds(self) -> ClockBounds | None:
        """Where the meter's clock is by the newest row's stamp; None where no read told."""
        ...

    def resume(self, serial: str, end_utc_s: int, registers: Mapping[str, int]) -> None:
        """Before the first read: the newest interval with data that is stored of this meter.

        `registers` are its counters by the names of `ProfileRow`. A meter that records
        energies has its counters told from there on.
        """
        ...

    def read_clock(self) -> ClockReading:
        """The meter's clock now; raises ReadError."""
        ...

    def set_clock(self) -> ClockReading:
        """Set the meter's clock to the agent's, as its class allows; how it stood before.

        Raises ReadError, MeterRefused where the class forbids it.
        """
        ...

    def events(self, log: str, after_utc_s: int) -> list[MeterEvent]:
        """Entries of one log at or after an instant, oldest first; raises ReadError.

        Those of the very second come again: the caller knows which it has.
        """
        ...


class SampledDriver(Driver, Protocol):
    """A meter without a load profile."""

    @property
    def counter_limits(self) -> CounterLimits:
        """What is known about its counters."""
        ...

    @property
    def tells_serial(self) -> bool:
        """Whether the meter has a serial number that can be asked."""
        ...

    def serial(self, deadline_s: float = math.inf) -> str | None:
        """The serial number alone, None where the meter does not tell it; raises ReadError."""
        ...

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        """Read registers and gauges now, with `identify` the serial number too.

        Begins no transaction that could end after `deadline_s` (monotonic).
        Raises ReadError.
        """
        ...
