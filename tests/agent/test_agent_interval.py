from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.driver import CounterLimits, Sample
from agent.interval import SampledMeter
from agent.store.database import Recalled
from agent.store.rows import MeterRows
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
IMPORT, RAW, AGE = (
    SAMPLED_SCHEMA.index(name) for name in ("import_wh", "raw_import_wh", "raw_age_ms")
)


@dataclass
class Meter:
    """A driver that answers with prepared samples."""

    samples: list[Sample] = field(default_factory=list)
    keeps_profile: bool = False

    counter_limits: CounterLimits = field(default_factory=CounterLimits)

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        return self.samples.pop(0)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[object]:
        raise NotImplementedError


def sample(at_s: float, wh: int, serial: str = "A1") -> Sample:
    return Sample(
        round(at_s * 1000), import_wh=wh, voltage_dv=2300, current_ca=50, power_w=100, serial=serial
    )


def meter_of(*samples: Sample, now: float = T0, recalled: Recalled | None = None) -> SampledMeter:
    return SampledMeter(
        "m1", Meter(list(samples)), interval_s=S, recover_s=96 * S, now_utc_s=now, recalled=recalled
    )  # type: ignore[arg-type]


def read(meter: SampledMeter) -> list[MeterRows]:
    """Read when the driver's next sample is due."""
    driver: Meter = meter._driver  # type: ignore[assignment]
    return meter.read(driver.samples[0].at_utc_ms / 1000)


def rows_of(groups: list[MeterRows]) -> dict[int, tuple[int, ...]]:
    return {end: tuple(values) for group in groups for end, values in group.rows}


def test_the_counter_is_interpolated_to_the_edge_and_the_raw_one_kept() -> None:
    meter = meter_of(sample(T0 + 1, 0), sample(T0 + S - 10, 1000), sample(T0 + S + 10, 1020))
    assert read(meter) == []
    assert read(meter) == []
    (group,) = read(meter)
    values = rows_of([group])[T0 + S]

    assert values[IMPORT] == 1010
    assert (values[RAW], values[AGE]) == (1000, 10_000)
    assert values[-1] & Quality.INTERPOLATED
    assert not group.epoch.channels >> SAMPLED_SCHEMA.index("export_wh") & 1
    assert group.epoch.channels >> SAMPLED_SCHEMA.index("raw_import_wh") & 1


def test_a_silence_longer_than_an_interval_is_reported_missing_exactly_once() -> None:
    meter = meter_of(sample(T0 + 10, 0), sample(T0 + 3 * S + 10, 9), sample(T0 + 4 * S, 12))
    read(meter)
    assert meter.expire(T0 + S + 5) == []
    early = rows_of(meter.expire(T0 + 2 * S + 20))
    assert list(early) == [T0 + S, T0 + 2 * S]
    assert all(values[-1] == Quality.NO_DATA for values in early.values())
    assert list(rows_of(read(meter))) == [T0 + 3 * S]
    (closed,) = rows_of(read(meter)).items()
    assert closed[0] == T0 + 4 * S
    assert closed[1][IMPORT] == 12
    assert closed[1][-1] & Quality.PARTIAL


def test_a_meter_that_never_answered_is_reported_missing_from_the_agents_start() -> None:
    meter = meter_of(now=T0 + 100)
    assert meter.expire(T0 + S + 50) == []
    assert list(rows_of(meter.expire(T0 + 2 * S))) == [T0 + S, T0 + 2 * S]


def recalled_at(end: int, wh: int) -> Recalled:
    values = [0] * len(SAMPLED_SCHEMA.channels)
    values[IMPORT] = wh
    return Recalled("A1", 0xFFFF, [end - S, end], (end, tuple(values)))


def test_a_short_restart_goes_on_from_the_stored_edge() -> None:
    meter = meter_of(
        sample(T0 + 200, 20), sample(T0 + S, 90), now=T0 + 190, recalled=recalled_at(T0, 10)
    )
    assert read(meter) == []
    (closed,) = rows_of(read(meter)).items()
    assert closed[0] == T0 + S
    assert closed[1][IMPORT] == 90
    assert closed[1][-1] & Quality.PARTIAL


def test_a_restart_that_took_too_long_leaves_a_reported_gap() -> None:
    meter = meter_of(
        sample(T0 + 2 * S + 5, 20),
        sample(T0 + 3 * S, 90),
        now=T0 + 2 * S,
        recalled=recalled_at(T0, 1),
    )
    assert {end: values[-1] for end, values in rows_of(read(meter)).items()} == {
        T0 + S: Quality.NO_DATA,
        T0 + 2 * S: Quality.NO_DATA,
    }
    assert list(rows_of(read(meter))) == [T0 + 3 * S]


def test_no_difference_is_taken_across_an_exchange() -> None:
    meter = meter_of(
        sample(T0 + 1, 5000),
        sample(T0 + S - 1, 5100),
        sample(T0 + S + 20, 3, "B2"),
        sample(T0 + 2 * S, 8, "B2"),
        sample(T0 + 3 * S, 9, "B2"),
    )
    read(meter)
    read(meter)
    lost = read(meter)
    assert rows_of(lost)[T0 + S][-1] == Quality.NO_DATA
    assert lost[0].epoch.serial == "A1"
    (first,) = read(meter)
    assert first.epoch.serial == "B2"
    assert rows_of([first])[T0 + 2 * S][-1] & Quality.METER_EXCHANGED
    assert not rows_of(read(meter))[T0 + 3 * S][-1] & Quality.METER_EXCHANGED


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
        for end, values in rows_of(read(meter)).items():
            ends.append(end)
            if not values[-1] & Quality.NO_DATA:
                assert abs(values[IMPORT] - (end - T0)) <= 1
    newest = int(at // S) * S
    assert ends == list(range(T0 + S, newest + S, S))
