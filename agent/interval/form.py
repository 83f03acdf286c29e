"""Which values one meter has, and a sample as the aggregator takes it.

What a meter has is settled by its first samples: which counters by the first
without a doubt, which gauges when the first interval is closed. It stays so for
the epoch; when the meter has other counters for an interval, `outgrown` says so.
A sample without one of its counters is not usable. A gauge that is missing once
holds its last value, as it does between two samples; for longer it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.driver import Sample
from agent.interval.counters import COUNTERS, MOST_COUNTER
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

GAUGES = ("voltage_dv", "current_ca", "power_w")
"""A sample's gauges, in the order in which the aggregator takes them."""
ALWAYS = sum(1 << SAMPLED_SCHEMA.index(name) for name in ("raw_age_ms", "samples", "flags"))
"""Channels of schema 2 that every meter has, whatever it shows."""

_FILLED = {
    "import_wh": ("import_wh", "raw_import_wh"),
    "export_wh": ("export_wh", "raw_export_wh"),
    "import_varh": ("import_varh", "raw_import_varh"),
    "voltage_dv": ("voltage_dv", "voltage_min_dv", "voltage_max_dv"),
    "current_ca": ("current_ca",),
    "power_w": ("power_w", "power_min_w", "power_max_w"),
}
"""Which channels of schema 2 a value of a sample fills."""
_BITS = {
    name: sum(1 << SAMPLED_SCHEMA.index(channel) for channel in filled)
    for name, filled in _FILLED.items()
}
_MOST_GAUGE = 1 << 31
"""What no gauge of a meter shows, in its base unit."""
_DOUBT = Quality.NO_VALUE | Quality.OUT_OF_RANGE


class SampleForm:
    """What one meter epoch's samples hold. `channels` is 0 until that is known."""

    def __init__(self, interval_s: int, channels: int = 0) -> None:
        self._interval_ms = interval_s * 1000
        self.channels = channels if channels & ~ALWAYS else 0
        self._settled = bool(self.channels)
        self._in_doubt_since_ms: int | None = None
        self._other_since_ms: int | None = None
        self._gauges: dict[str, tuple[int, int]] = {}
        """The last value of each gauge and when it was read (ms UTC)."""

    @property
    def counters(self) -> tuple[bool, ...]:
        """Which of the counters the meter has."""
        return tuple(self._has(name) for name in COUNTERS)

    def learn(self, sample: Sample) -> bool:
        """Whether it is known which counters the meter has.

        One that is in doubt for a whole interval is one that it does not have.
        """
        if self._settled:
            return True
        if not self.channels:
            missing = any(getattr(sample, name) is None for name in COUNTERS)
            if missing and sample.flags & _DOUBT:
                if self._in_doubt_since_ms is None:
                    self._in_doubt_since_ms = sample.at_utc_ms
                if sample.at_utc_ms - self._in_doubt_since_ms < self._interval_ms:
                    return False
            if sample.import_wh is None:
                return False
            self.channels = ALWAYS | _shown_by(sample, COUNTERS)
        self.channels |= _shown_by(sample, GAUGES)
        return True

    def outgrown(self, sample: Sample) -> bool:
        """Whether the meter has lost a counter or gained a value, for an interval by now.

        A value that the meter marks as not there, or out of range, is not lost.
        """
        gained = _shown_by(sample, (*COUNTERS, *GAUGES)) & ~self.channels
        lost = any(self._has(name) and getattr(sample, name) is None for name in COUNTERS)
        if not self._settled or sample.flags & _DOUBT or not (gained or lost):
            self._other_since_ms = None
            return False
        if self._other_since_ms is None:
            self._other_since_ms = sample.at_utc_ms
        return sample.at_utc_ms - self._other_since_ms >= self._interval_ms

    def settle(self) -> None:
        """An interval was closed with what is known now."""
        self._settled = True

    def registers(self, sample: Sample) -> tuple[int, ...] | None:
        """The counters, 0 for one that the meter does not have; None if one is missing."""
        registers = []
        for name in COUNTERS:
            value = getattr(sample, name) if self._has(name) else 0
            if value is None or not 0 <= value < MOST_COUNTER:
                return None
            registers.append(value)
        return tuple(registers)

    def gauges(self, sample: Sample) -> tuple[list[int], Quality]:
        """The gauges, 0 where unknown, and what that makes of the interval."""
        gauges, flags = [], Quality(0)
        for name in GAUGES:
            value = getattr(sample, name) if self._has(name) else 0
            if value is not None and not -_MOST_GAUGE <= value < _MOST_GAUGE:
                value, flags = None, flags | Quality.OUT_OF_RANGE
            if value is None:
                held, read_ms = self._gauges.get(name, (0, 0))
                if sample.at_utc_ms - read_ms > self._interval_ms:
                    held, flags = 0, flags | Quality.NO_GAUGES
                gauges.append(held)
                continue
            self._gauges[name] = (value, sample.at_utc_ms)
            gauges.append(value)
        return gauges, flags

    def _has(self, name: str) -> bool:
        return bool(self.channels & _BITS[name])


def _shown_by(sample: Sample, names: Iterable[str]) -> int:
    """The channels that the values of a sample fill."""
    return sum(_BITS[name] for name in names if getattr(sample, name) is not None)
