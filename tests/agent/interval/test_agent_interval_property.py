"""Over all sequences of counting, breaks, silence and restarts: nothing negative or invented."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from interval_bench import IMPORT, LIMITS, MODULUS, RAW, T0, S, meter_of, rows_of, sample

from agent.driver import CounterLimits, MeterSilent, ProfileRow, ReadError, Sample
from agent.interval.sampled import SampledMeter
from agent.store.database import Recalled
from agent.store.rows import MeterEpoch
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality


@settings(max_examples=200)
@given(
    steps=st.lists(st.integers(1, 4000), min_size=1, max_size=40),
    silences=st.sets(st.integers(0, 40)),
)
def test_every_interval_is_reported_once_in_order_and_closed_ones_sum_exactly(
    steps: list[int], silences: set[int]
) -> None:
    at, samples = T0 + 1.0, [sample(T0 + 1.0, 0)]
    for step in steps:
        at += step
        samples.append(sample(at, int(at - T0)))
    meter = meter_of(*samples)
    ends: list[int] = []
    for number, taken in enumerate(samples):
        if number in silences:
            ends += rows_of(meter.expire(taken.at_utc_ms / 1000 - 0.5))
        for end, values in rows_of(meter.read()).items():
            ends.append(end)
            if not values[-1] & Quality.NO_DATA:
                assert abs(values[IMPORT] - (end - T0)) <= 1
    newest = int(at // S) * S
    assert ends == list(range(T0 + S, newest + S, S))


@dataclass
class Walker:
    """A meter that counts, rolls over, is reset, exchanged, or shows nothing, as it is told."""

    tells: bool
    at_ms: int = T0 * 1000 + 500
    true_wh: int = MODULUS - 4000
    number: int = 1
    lost: bool = False
    answers: int = 1 << 30
    """How many more it gives before it is silent once."""
    keeps_profile: bool = False
    counter_limits: CounterLimits = LIMITS
    shown: list[int] = field(default_factory=list)

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        self.at_ms += 300
        if not self.answers:
            self.answers = 1 << 30
            raise MeterSilent("m1: silent")
        self.answers -= 1
        if self.lost:
            return Sample(self.at_ms, None, voltage_dv=2300, flags=int(Quality.NO_VALUE))
        wh = self.true_wh % MODULUS
        self.shown.append(wh)
        serial = f"N{self.number}" if identify and self.tells else None
        return Sample(self.at_ms, wh, voltage_dv=2300, power_w=5000, serial=serial)

    @property
    def tells_serial(self) -> bool:
        return self.tells

    def serial(self, deadline_s: float = math.inf) -> str | None:
        return f"N{self.number}" if self.tells else None

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise NotImplementedError

    def suffer(self, event: str, seconds: int) -> None:
        self.at_ms += seconds * 1000
        if event == "count":
            self.true_wh += seconds * 4
        elif event == "reset":
            self.true_wh = 0
        elif event == "exchange":
            self.true_wh, self.number = 77_000_000, self.number + 1
        elif event == "jump":
            self.true_wh += 5_000_000
        elif event == "silent":
            self.answers = seconds % 2
        elif event in ("lose", "find"):
            self.lost = event == "lose"


@dataclass
class Kept:
    """What the agent stored, and what it would recall of it after a restart."""

    rows: list[tuple[int, MeterEpoch, tuple[int, ...]]] = field(default_factory=list)

    def recalled(self) -> Recalled | None:
        if not self.rows:
            return None
        epoch = self.rows[-1][1]
        channels = 0
        for _, other, _ in self.rows:
            channels |= other.channels if other.serial == epoch.serial else 0
        known = Recalled(epoch.serial, channels, [end for end, _, _ in self.rows])
        known.schema_id = SAMPLED_SCHEMA.id
        for end, other, values in self.rows:
            if not values[-1] & Quality.NO_DATA:
                known.last_true, known.data_serial = (end, values), other.serial
        return known


EVENTS = st.sampled_from(
    ["count"] * 12 + ["reset", "exchange", "lose", "find", "jump", "silent", "restart"]
)


@settings(max_examples=400, deadline=None)
@given(
    tells=st.booleans(),
    steps=st.lists(st.tuples(EVENTS, st.integers(5, 1200)), min_size=5, max_size=60),
)
def test_sums_telescope_and_nothing_is_negative_or_invented(
    tells: bool, steps: list[tuple[str, int]]
) -> None:
    walker, kept = Walker(tells), Kept()
    meter = sampled(walker, kept)
    for event, seconds in steps:
        walker.suffer(event, seconds)
        if event == "restart":
            meter = sampled(walker, kept)
        for asked in (meter.read, meter.identify):
            try:
                groups = asked()
            except ReadError:
                groups = meter.expire(walker.at_ms / 1000)
            for group in groups:
                kept.rows += [(end, group.epoch, tuple(values)) for end, values in group.rows]
    # A restart before anything was stored begins with the interval of its own start.
    ends = [end for end, _, _ in kept.rows]
    first = min(ends, default=0)
    assert ends == list(range(first, first + S * len(ends), S))
    assert_nothing_is_invented(kept, walker)


def sampled(walker: Walker, kept: Kept) -> SampledMeter:
    return SampledMeter(
        "m1",
        walker,
        interval_s=S,
        recover_s=96 * S,
        now_utc_s=walker.at_ms / 1000,
        recalled=kept.recalled(),
        limits=LIMITS,
    )


def assert_nothing_is_invented(kept: Kept, walker: Walker) -> None:
    edges = {values[IMPORT] for _, _, values in kept.rows}
    raw = {*walker.shown, *edges}
    breaks = Quality.COUNTER_RESET | Quality.METER_EXCHANGED
    before: tuple[str, int] | None = None
    for _, epoch, values in kept.rows:
        flags = Quality(values[-1])
        if flags & Quality.NO_DATA:
            before = None
            continue
        # After a restart the last raw registers that are known are those of the stored edge.
        assert values[RAW] in raw
        assert 0 <= values[IMPORT] < MODULUS
        if before is not None and before[0] == epoch.serial and not flags & breaks:
            gained = values[IMPORT] - before[1]
            assert (gained < 0) is bool(flags & Quality.ROLLOVER)
            # Nothing can be counted faster than the meter can, unless it is flagged.
            most = 15_000 * (2 * S + 360) // 3600
            assert gained % MODULUS <= most or flags & Quality.OUT_OF_RANGE
        before = (epoch.serial, values[IMPORT])
