"""What the aggregator gives back, and its errors; shared by the kernel and its twin."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST_CHANNELS: Final = 16
MOST_GAUGE: Final = 1 << 40
"""Gauges lie strictly between -2^40 and 2^40, so that value times ms fits 64 bits."""

INTERPOLATED: Final = 1 << 2
PARTIAL: Final = 1 << 5
COUNTER_RESET: Final = 1 << 7
NO_GAUGES: Final = 1 << 12


class AggregateError(ValueError):
    """A sample that the aggregator cannot take."""


class SampleNotLater(AggregateError):
    """A sample is not later than the one before it."""


class Closed(NamedTuple):
    """An interval that is over; times in ms UTC, values in the samples' own units.

    `flags` are bits of `wire.quality.Quality`. A missing interval has no
    values: the samples around it lie more than one interval apart.
    """

    end_utc_ms: int
    missing: bool
    flags: int = 0
    registers: tuple[int, ...] = ()
    """At the edge, interpolated between the samples around it and floored."""
    raw_registers: tuple[int, ...] = ()
    """Of the last sample that is not later than the edge."""
    raw_age_ms: int = 0
    """From that sample to the edge."""
    means: tuple[int, ...] = ()
    """Time-weighted, each sample held until the next; half rounds away from zero."""
    minima: tuple[int, ...] = ()
    maxima: tuple[int, ...] = ()
    samples: int = 0
    """Samples taken after the interval's beginning and not after its end."""
