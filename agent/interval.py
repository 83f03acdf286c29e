"""Meters without a load profile: their samples become closed intervals of schema 2.

Samples lie before and after each edge as close as the line allows, and at
times between; the aggregator interpolates the counters to the edge. Where
two samples lie more than one interval apart, and over a restart that took
longer, the intervals are reported missing. After a change of the serial
number nothing is carried over.
"""

from __future__ import annotations

import math

from agent.driver import CounterLimits, Sample, SampledDriver
from agent.store.database import Recalled
from agent.store.rows import MeterEpoch, MeterRows, Values, no_data
from ext.aggregate import Aggregator, Closed, SampleNotLater
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

_REGISTERS = ("import_wh", "export_wh", "import_varh")
_GAUGES = ("voltage_dv", "current_ca", "power_w")
_NO_DATA = no_data(SAMPLED_SCHEMA.id)
_FROM_EACH = {
    "import_wh": ("import_wh", "raw_import_wh"),
    "export_wh": ("export_wh", "raw_export_wh"),
    "import_varh": ("import_varh", "raw_import_varh"),
    "voltage_dv": ("voltage_dv", "voltage_min_dv", "voltage_max_dv"),
    "current_ca": ("current_ca",),
    "power_w": ("power_w", "power_min_w", "power_max_w"),
}
"""Which channels of schema 2 a value of a sample fills."""
_ALWAYS = ("raw_age_ms", "samples", "flags")
_ALL_CHANNELS = (1 << len(SAMPLED_SCHEMA.channels)) - 1
_LATE_SHARE = 0.1
"""An interval first observed after this share of it is partial, although its edges are known."""


class SampledMeter:
    """One meter without a profile. Used by its line's thread only."""

    def __init__(
        self,
        name: str,
        driver: SampledDriver,
        *,
        interval_s: int,
        recover_s: int,
        now_utc_s: float,
        recalled: Recalled | None,
        limits: CounterLimits | None = None,
        serial: str = "",
    ) -> None:
        """`serial` is the one set by hand, for a meter that does not tell its own."""
        self.name = name
        self.last_sample_utc_s = float("-inf")
        """When the meter last answered, on the agent's clock."""
        self._driver = driver
        self._interval_s = interval_s
        recalled = recalled or Recalled()
        self._limits = limits or CounterLimits()
        self._serial = recalled.serial or serial
        self._identify = True
        self._channels = recalled.channels
        self._epoch = self._new_epoch()
        self._aggregator = self._new_aggregator()
        newest = int(now_utc_s // interval_s) * interval_s
        # What is older than the recovery window is not reported any more, even as missing.
        stored = max(recalled.ends_utc_s, default=newest)
        self._reported_utc_s = max(stored, newest - recover_s)
        self._heard_utc_s = float(now_utc_s)
        """Last sample or known edge: a later edge within an interval of it may still close."""
        self._first_ms: int | None = None
        self._exchanged = False
        if recalled.ends_utc_s:
            self._heard_utc_s = float("-inf")
        if recalled.last_true is not None and recalled.last_true[0] == stored:
            end, values = recalled.last_true
            self._heard_utc_s = float(end)
            self._aggregator.resume(end * 1000, values[: len(_REGISTERS)])

    def read(self, now_utc_s: float, deadline_s: float = math.inf) -> list[MeterRows]:
        """Sample the meter; the intervals that this closes. Raises ReadError or PortLost.

        Begins no transaction that could end after `deadline_s` (monotonic).
        """
        identify = self._identify or now_utc_s // self._interval_s > (
            self.last_sample_utc_s // self._interval_s
        )
        self._identify = True
        sample = self._driver.sample(identify=identify, deadline_s=deadline_s)
        self._identify = False
        rows: list[MeterRows] = []
        serial = sample.serial or self._serial
        if self._serial and serial != self._serial:
            rows += self._report_missing(sample.at_utc_ms / 1000)
            self._serial, self._channels = serial, _channels(sample)
            self._epoch = self._new_epoch()
            self._aggregator = self._new_aggregator()
            self._exchanged = True
            self._first_ms = None
        elif serial != self._serial or not self._channels:
            self._serial, self._channels = serial, _channels(sample)
            self._epoch = self._new_epoch()
        return rows + self._push(sample)

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        """Report missing what can no longer close because the meter was not heard for too long."""
        # A second more than the aggregator's own limit, so that both agree whatever comes next.
        if now_utc_s <= self._heard_utc_s + self._interval_s + 1:
            return []
        return self._report_missing(now_utc_s)

    def _push(self, sample: Sample) -> list[MeterRows]:
        try:
            closed = self._aggregator.push(
                sample.at_utc_ms,
                [getattr(sample, name) or 0 for name in _REGISTERS],
                [getattr(sample, name) or 0 for name in _GAUGES],
            )
        except SampleNotLater:
            # The clock was set back: nothing already stamped is stamped again.
            return []
        at_utc_s = sample.at_utc_ms / 1000
        if self._first_ms is None:
            self._first_ms = sample.at_utc_ms
        self.last_sample_utc_s = self._heard_utc_s = at_utc_s
        rows: list[tuple[int, Values]] = []
        closing = {interval.end_utc_ms // 1000: interval for interval in closed}
        newest = int(at_utc_s // self._interval_s) * self._interval_s
        for end in range(self._reported_utc_s + self._interval_s, newest + 1, self._interval_s):
            interval = closing.get(end)
            if interval is None or interval.missing:
                rows.append((end, _NO_DATA))
            else:
                rows.append((end, self._values(interval, sample.flags)))
        self._reported_utc_s = max(self._reported_utc_s, newest)
        return [MeterRows(self._epoch, rows)] if rows else []

    def _values(self, closed: Closed, flags: int) -> Values:
        flags |= closed.flags
        begin_ms = closed.end_utc_ms - self._interval_s * 1000
        late_ms = begin_ms + _LATE_SHARE * self._interval_s * 1000
        if self._first_ms is not None and self._first_ms > late_ms:
            flags |= Quality.PARTIAL
        if self._exchanged:
            flags |= Quality.METER_EXCHANGED
            self._exchanged = False
        voltage, current, power = range(len(_GAUGES))
        return (
            *closed.registers,
            closed.means[voltage],
            closed.means[current],
            *closed.raw_registers,
            closed.raw_age_ms,
            closed.minima[voltage],
            closed.maxima[voltage],
            closed.means[power],
            closed.minima[power],
            closed.maxima[power],
            closed.samples,
            int(flags),
        )

    def _report_missing(self, until_utc_s: float) -> list[MeterRows]:
        newest = int(until_utc_s // self._interval_s) * self._interval_s
        ends = range(self._reported_utc_s + self._interval_s, newest + 1, self._interval_s)
        self._reported_utc_s = max(self._reported_utc_s, newest)
        return [MeterRows(self._epoch, [(end, _NO_DATA) for end in ends])] if ends else []

    def _new_epoch(self) -> MeterEpoch:
        return MeterEpoch(
            self.name, self._serial, SAMPLED_SCHEMA.id, self._channels or _ALL_CHANNELS
        )

    def _new_aggregator(self) -> Aggregator:
        return Aggregator(len(_REGISTERS), len(_GAUGES), self._interval_s * 1000)


def _channels(sample: Sample) -> int:
    """Which channels of schema 2 a sample fills."""
    names = [*_ALWAYS]
    for name, filled in _FROM_EACH.items():
        if getattr(sample, name) is not None:
            names += filled
    return sum(1 << SAMPLED_SCHEMA.index(name) for name in names)
