"""What is known about the worth of one interval, as flag bits that mean the same everywhere.

A live reading of a meter that is well has no bit set. Bits are never
reassigned; new ones are added at the end.
"""

from __future__ import annotations

from enum import IntFlag


class Quality(IntFlag):
    """Flag bits of one interval of one meter; the value of the wire channel `flags`."""

    NO_DATA = 1 << 0
    """Reported missing: the interval is over and no value is known."""
    PROFILE = 1 << 1
    """Taken from the meter's own load profile."""
    INTERPOLATED = 1 << 2
    """Registers at the edge are interpolated between the two samples around it."""
    ESTIMATED = 1 << 3
    """Estimated centrally."""
    CLOCK_UNTRUSTED = 1 << 4
    """The agent's or the meter's clock was not trusted when the interval was stamped."""
    PARTIAL = 1 << 5
    """The interval was not observed from its beginning."""
    OUT_OF_RANGE = 1 << 6
    """A value lies outside the meter's physical limits."""
    COUNTER_RESET = 1 << 7
    """A counter fell and did not roll over."""
    ROLLOVER = 1 << 8
    """A counter passed its highest value inside the interval."""
    METER_EXCHANGED = 1 << 9
    """Another serial number than before: a new meter epoch begins."""
    POWER_FAIL = 1 << 10
    """The meter was without power during a part of the interval."""
    EDITED = 1 << 11
    """A person replaced a value."""
    NO_GAUGES = 1 << 12
    """Registers are known, voltage and current of this interval are not."""
    NO_VALUE = 1 << 13
    """The meter marked a value as not there (all ones, not a number); that sample was not used."""
    FROZEN = 1 << 14
    """The meter answers, but its counters stand still although it shows that power flows."""
