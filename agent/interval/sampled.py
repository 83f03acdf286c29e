"""Meters without a load profile: their samples become closed intervals of schema 2.

Samples lie before and after each edge as close as the line allows, and at
times between; the aggregator interpolates the counters to the edge. Where
two samples lie more than one interval apart, and over a restart that took
longer, the intervals are reported missing. What is odd about a sample (another
serial number, counters that fell or jumped) is asked again, with the serial
number, before anything is closed with it. After a change of the serial number,
or a break of the counters of a meter that tells none, nothing is carried over.
A sample without one of the meter's counters is not used.
"""

from __future__ import annotations

import math
from dataclasses import replace

from agent.driver import CounterLimits, Sample, SampledDriver
from agent.interval.counters import COUNTERS, CounterWatch, Evidence
from agent.interval.epoch import given_serial, named, next_by_evidence
from agent.interval.form import ALWAYS, GAUGES, SampleForm
from agent.store.database import Recalled
from agent.store.rows import MeterEpoch, MeterRows, Values, no_data
from ext.aggregate import Aggregator, Closed
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

_NO_DATA = no_data(SAMPLED_SCHEMA.id)
_LATE_SHARE = 0.1
"""An interval first observed after this share of it is partial, although its edges are known."""
_MEANS = {
    Evidence.NONE: Quality(0),
    Evidence.FELL: Quality.COUNTER_RESET,
    Evidence.JUMPED: Quality.OUT_OF_RANGE,
}

_OF_MISSING = Quality.NO_VALUE | Quality.OUT_OF_RANGE | Quality.COUNTER_RESET
"""What is said of an interval without data too."""


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
        self._by_hand = serial
        self._tells = False
        recalled = _of_this_schema(recalled)
        self._serial = recalled.serial or serial
        self._form = SampleForm(interval_s, recalled.channels)
        self._watch = CounterWatch(limits or CounterLimits(), interval_s)
        self._epoch = self._new_epoch()
        self._aggregator = self._new_aggregator()
        newest = int(now_utc_s // interval_s) * interval_s
        # What is older than the recovery window is not reported any more, even as missing.
        stored = max(recalled.ends_utc_s, default=newest)
        self._reported_utc_s = max(stored, newest - recover_s)
        self._heard_utc_s = float(now_utc_s)
        """Last sample or known edge: a later edge within an interval of it may still close."""
        self._first_ms: int | None = None
        self._identify = True
        self._odd_before = False
        self._held: Sample | None = None
        """A sample on the far side of an edge that waits for the serial number."""
        self._gauges_unknown = Quality(0)
        """NO_GAUGES from a sample that lacked one until the next that does not."""
        self._marks: dict[int, Quality] = {}
        """What is to be said of intervals that are not reported yet, by their end."""
        self._begins = Quality(0)
        """What the first interval with data of this epoch says of its beginning."""
        self._data_in_epoch = recalled.last_true is not None and recalled.data_serial in (
            None,
            self._serial,
        )
        if recalled.ends_utc_s:
            self._heard_utc_s = float("-inf")
        self._resume(recalled, stored)

    def read(self, deadline_s: float = math.inf) -> list[MeterRows]:
        """Sample the meter; the intervals that this closes. Raises ReadError or PortLost.

        The serial number is asked too with the first sample and after a
        failure. After an edge the sample comes first, as near to it as may
        be; what it closes waits for `identify`. Begins no transaction that
        could end after `deadline_s` (monotonic).
        """
        identify = self._identify
        self._identify = True
        sample = self._driver.sample(identify=identify, deadline_s=deadline_s)
        odd = self._odd(sample)
        if odd and not (identify and self._odd_before):
            self._odd_before = identify = True
            first, sample = sample, self._driver.sample(identify=True, deadline_s=deadline_s)
            odd = self._odd(sample)
            if not odd:
                self._mark(first.at_utc_ms, Quality.OUT_OF_RANGE)
        elif self._odd_before and not odd:
            self._mark(sample.at_utc_ms, Quality.OUT_OF_RANGE)
        self._identify = self._odd_before = False
        held, self._held = self._held, None
        rows = self._accept(held) if held is not None and not odd else []
        crosses = self._crosses_edge(sample.at_utc_ms / 1000)
        if crosses and not identify and self._driver.tells_serial:
            self._held, self._identify = sample, True
            self.last_sample_utc_s = sample.at_utc_ms / 1000
            return rows
        return rows + self._accept(sample)

    @property
    def nameless(self) -> bool:
        """Whether a sample from behind an edge waits for the serial number."""
        return self._held is not None

    def identify(self, deadline_s: float = math.inf) -> list[MeterRows]:
        """Ask for the serial number alone; the intervals that the waiting sample closes.

        Does nothing if none waits. Raises ReadError or PortLost; the sample
        waits on, for the next read.
        """
        if self._held is None:
            return []
        sample = replace(self._held, serial=self._driver.serial(deadline_s))
        if self._odd(sample):
            # Another number: the meter is asked once more, for all that it shows.
            self._odd_before = True
            return self.read(deadline_s)
        self._held, self._identify = None, False
        return self._accept(sample)

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        """Report missing what can no longer close because the meter was not heard for too long."""
        # A second more than the aggregator's own limit, so that both agree whatever comes next.
        if now_utc_s <= self._heard_utc_s + self._interval_s + 1:
            return []
        return self._report_missing(now_utc_s)

    # --- is it the same meter, and does what it shows go on from before?

    def _crosses_edge(self, utc_s: float) -> bool:
        """Whether an edge lies between the last sample and an instant."""
        return utc_s // self._interval_s > self.last_sample_utc_s // self._interval_s

    def _odd(self, sample: Sample) -> bool:
        """Whether something speaks against going on with this sample as if nothing were."""
        if not self._form.channels:
            return False
        if named(self._serial, told=sample.serial, by_hand="") != self._serial:
            return True
        registers = self._form.registers(sample)
        return registers is not None and self._judge(sample, registers) is not Evidence.NONE

    def _judge(self, sample: Sample, registers: tuple[int, ...]) -> Evidence:
        return self._watch.judge(sample.at_utc_ms, registers)

    def _accept(self, sample: Sample) -> list[MeterRows]:
        self.last_sample_utc_s = max(self.last_sample_utc_s, sample.at_utc_ms / 1000)
        rows = self._follow_identity(sample)
        if self._tells and sample.serial is None and not self._driver.tells_serial:
            # It told its number until now and tells none any more: another meter may stand there.
            self._tells = False
            rows += self._begin_epoch(
                next_by_evidence(self._serial), sample, Quality.METER_EXCHANGED
            )
        if self._form.outgrown(sample):
            rows += self._begin_epoch(next_by_evidence(self._serial), sample, Quality(0))
        registers = self._usable(sample)
        if registers is not None and sample.serial is None:
            evidence = self._judge(sample, registers)
            if evidence is not Evidence.NONE:
                rows += self._break_epoch(sample, evidence)
                registers = self._usable(sample)
        if registers is None or not self._watch.is_later(sample.at_utc_ms):
            # Not later: the clock was set back, and nothing already stamped is stamped again.
            return rows
        return rows + self._push(sample, registers)

    def _follow_identity(self, sample: Sample) -> list[MeterRows]:
        self._tells = self._tells or sample.serial is not None
        by_hand = "" if self._tells else self._by_hand
        serial = named(self._serial, told=sample.serial, by_hand=by_hand)
        if serial == self._serial:
            return []
        was_known = given_serial(self._serial) and self._form.channels
        return self._begin_epoch(
            serial, sample, Quality.METER_EXCHANGED if was_known else Quality(0)
        )

    def _break_epoch(self, sample: Sample, evidence: Evidence) -> list[MeterRows]:
        """Counters that cannot go on from before, and no serial number that says it is the same."""
        # An epoch that has no data yet needs no second name.
        serial = next_by_evidence(self._serial) if self._data_in_epoch else self._serial
        return self._begin_epoch(serial, sample, _MEANS[evidence])

    def _begin_epoch(self, serial: str, sample: Sample, flag: Quality) -> list[MeterRows]:
        """Nothing is carried over from what stood there before."""
        rows = self._report_missing(sample.at_utc_ms / 1000) if self._form.channels else []
        self._serial = serial
        self._form = SampleForm(self._interval_s)
        self._watch.restart()
        self._epoch = self._new_epoch()
        self._aggregator = self._new_aggregator()
        self._first_ms = None
        self._begins |= flag
        self._data_in_epoch = False
        self._gauges_unknown = Quality(0)
        return rows

    def _usable(self, sample: Sample) -> tuple[int, ...] | None:
        """The sample's registers, None if one is missing; its interval is flagged then."""
        known = self._form.channels
        registers = self._form.registers(sample) if self._form.learn(sample) else None
        if registers is None:
            self._mark(sample.at_utc_ms, Quality(sample.flags) | Quality.NO_VALUE)
        if self._form.channels != known:
            self._epoch = self._new_epoch()
            if known:
                # Samples of this interval were used before the meter showed this gauge.
                self._mark(sample.at_utc_ms, Quality.NO_GAUGES)
        return registers

    # --- intervals

    def _push(self, sample: Sample, registers: tuple[int, ...]) -> list[MeterRows]:
        at_utc_s = sample.at_utc_ms / 1000
        means = _MEANS[self._judge(sample, registers)]
        gauges, doubt = self._form.gauges(sample)
        said = (Quality(sample.flags) | doubt) & Quality.OUT_OF_RANGE
        shown_before = self._watch.shown
        closed = self._aggregator.push(
            sample.at_utc_ms,
            self._watch.take(sample.at_utc_ms, registers, sample.power_w),
            gauges,
        )
        if self._first_ms is None:
            self._first_ms = sample.at_utc_ms
        self._heard_utc_s = at_utc_s
        flags = said | means
        if self._watch.frozen:
            flags |= Quality.FROZEN
        closing = {interval.end_utc_ms // 1000: interval for interval in closed}
        rows: list[tuple[int, Values]] = []
        for end in self._unreported(at_utc_s):
            interval = closing.get(end)
            if interval is None or interval.missing:
                rows.append((end, self._missing(end, flags)))
            else:
                raw = shown_before if sample.at_utc_ms > interval.end_utc_ms else registers
                rows.append((end, self._values(interval, raw, flags)))
        unknown = doubt & Quality.NO_GAUGES
        goes_on = said | unknown
        if not rows:
            goes_on |= means
        elif sample.at_utc_ms % (self._interval_s * 1000):
            # Interpolation shares a jump between the intervals on both sides of the edge.
            goes_on |= (means & ~Quality.COUNTER_RESET) | self._gauges_unknown
        self._gauges_unknown = unknown
        self._mark(sample.at_utc_ms, goes_on)
        return [MeterRows(self._epoch, rows)] if rows else []

    def _values(self, closed: Closed, raw: tuple[int, ...], flags: Quality) -> Values:
        flags |= closed.flags | self._marks.pop(closed.end_utc_ms // 1000, Quality(0))
        flags |= self._watch.close(closed.registers)
        begin_ms = closed.end_utc_ms - self._interval_s * 1000
        late_ms = begin_ms + _LATE_SHARE * self._interval_s * 1000
        if self._first_ms is not None and self._first_ms > late_ms:
            flags |= Quality.PARTIAL
        flags |= self._begins
        self._begins = Quality(0)
        self._data_in_epoch = True
        self._form.settle()
        voltage, current, power = range(len(GAUGES))
        return (
            *self._watch.as_shown(closed.registers),
            closed.means[voltage],
            closed.means[current],
            *raw,
            closed.raw_age_ms,
            closed.minima[voltage],
            closed.maxima[voltage],
            closed.means[power],
            closed.minima[power],
            closed.maxima[power],
            closed.samples,
            int(flags),
        )

    def _missing(self, end_utc_s: int, flags: Quality) -> Values:
        flags = (flags | self._marks.pop(end_utc_s, Quality(0))) & _OF_MISSING
        return (*_NO_DATA[:-1], int(Quality.NO_DATA | flags)) if flags else _NO_DATA

    def _report_missing(self, until_utc_s: float) -> list[MeterRows]:
        rows = [(end, self._missing(end, Quality(0))) for end in self._unreported(until_utc_s)]
        return [MeterRows(self._epoch, rows)] if rows else []

    def _unreported(self, until_utc_s: float) -> range:
        """Ends up to an instant that were not reported yet; they count as reported now."""
        first = self._reported_utc_s + self._interval_s
        newest = int(until_utc_s // self._interval_s) * self._interval_s
        self._reported_utc_s = max(self._reported_utc_s, newest)
        return range(first, newest + 1, self._interval_s)

    def _mark(self, at_utc_ms: int, flags: Quality) -> None:
        """Say something of the interval in which an instant lies."""
        end = (at_utc_ms // 1000 // self._interval_s + 1) * self._interval_s
        if flags and end > self._reported_utc_s:
            self._marks[end] = self._marks.get(end, Quality(0)) | flags

    # --- the meter's epoch

    def _resume(self, recalled: Recalled, stored_utc_s: int) -> None:
        """Go on from the newest interval with data, if it is the newest of all."""
        if recalled.last_true is None or recalled.data_serial not in (None, self._serial):
            return
        end, values = recalled.last_true
        registers = [
            value if has else 0
            for value, has in zip(values[: len(COUNTERS)], self._form.counters, strict=True)
        ]
        self._watch.resume(end * 1000, registers)
        if end == stored_utc_s:
            self._heard_utc_s = float(end)
            self._aggregator.resume(end * 1000, registers)

    def _new_epoch(self) -> MeterEpoch:
        return MeterEpoch(self.name, self._serial, SAMPLED_SCHEMA.id, self._form.channels or ALWAYS)

    def _new_aggregator(self) -> Aggregator:
        return Aggregator(len(COUNTERS), len(GAUGES), self._interval_s * 1000)


def _of_this_schema(recalled: Recalled | None) -> Recalled:
    """What is known of the meter as a sampled one; of another kind only what was reported."""
    if recalled is None:
        return Recalled()
    if recalled.schema_id not in (None, SAMPLED_SCHEMA.id):
        return Recalled(ends_utc_s=recalled.ends_utc_s)
    return recalled
