"""A sampled meter under test: a driver with prepared samples, and rows by interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agent.driver import CounterLimits, MeterSilent, ProfileRow, Sample
from agent.interval.sampled import SampledMeter
from agent.store.database import Recalled
from agent.store.rows import MeterRows
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
IMPORT, EXPORT, RAW, AGE, VOLTAGE, VOLTAGE_MIN, SAMPLES = (
    SAMPLED_SCHEMA.index(name)
    for name in (
        "import_wh",
        "export_wh",
        "raw_import_wh",
        "raw_age_ms",
        "voltage_dv",
        "voltage_min_dv",
        "samples",
    )
)
CHANNELS = ((1 << len(SAMPLED_SCHEMA.channels)) - 1) & ~sum(
    1 << SAMPLED_SCHEMA.index(name)
    for name in ("export_wh", "raw_export_wh", "import_varh", "raw_import_varh")
)
MODULUS = 100_000_000
LIMITS = CounterLimits({"import_wh": MODULUS}, most_per_hour=15_000)


@dataclass
class Meter:
    """A driver that answers with prepared samples; the serial number only when it is asked."""

    samples: list[Sample | MeterSilent] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    deadlines_s: list[float] = field(default_factory=list)
    keeps_profile: bool = False
    counter_limits: CounterLimits = field(default_factory=CounterLimits)
    tells: bool = True
    named_after: list[int] = field(default_factory=list)
    """After how many samples the serial number was asked alone."""
    _last: Sample = field(default_factory=lambda: Sample(0))

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        self.asked.append(identify)
        self.deadlines_s.append(deadline_s)
        sample = self.samples.pop(0)
        if isinstance(sample, MeterSilent):
            raise sample
        self._last = sample
        return sample if identify else without_serial(sample)

    @property
    def tells_serial(self) -> bool:
        return self.tells

    def serial(self, deadline_s: float = math.inf) -> str | None:
        self.named_after.append(len(self.asked))
        return self._last.serial

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise NotImplementedError


def without_serial(sample: Sample) -> Sample:
    return Sample(
        sample.at_utc_ms,
        sample.import_wh,
        sample.export_wh,
        sample.import_varh,
        sample.voltage_dv,
        sample.current_ca,
        sample.power_w,
        None,
        sample.flags,
    )


def sample(at_s: float, wh: int | None, serial: str | None = "A1", **values: int | None) -> Sample:
    shown = {"voltage_dv": 2300, "current_ca": 50, "power_w": 100, "flags": 0} | values
    return Sample(round(at_s * 1000), import_wh=wh, serial=serial, **shown)  # type: ignore[arg-type]


@dataclass
class Bench:
    """A meter under test and what its driver was asked."""

    driver: Meter
    meter: SampledMeter

    def read(self) -> list[MeterRows]:
        """Read once, and ask for the serial number alone where that is waited for."""
        return self.meter.read() + self.meter.identify()

    def read_all(self) -> list[MeterRows]:
        groups = []
        while self.driver.samples:
            groups += self.read()
        return groups

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        return self.meter.expire(now_utc_s)


def meter_of(
    *samples: Sample | MeterSilent,
    now: float = T0,
    recalled: Recalled | None = None,
    limits: CounterLimits = LIMITS,
    serial: str = "",
) -> Bench:
    driver = Meter(list(samples))
    return Bench(
        driver,
        SampledMeter(
            "m1",
            driver,
            interval_s=S,
            recover_s=96 * S,
            now_utc_s=now,
            recalled=recalled,
            limits=limits,
            serial=serial,
        ),
    )


def rows_of(groups: list[MeterRows]) -> dict[int, tuple[int, ...]]:
    return {end: tuple(values) for group in groups for end, values in group.rows}


def flags_of(groups: list[MeterRows]) -> dict[int, Quality]:
    return {end: Quality(values[-1]) for end, values in rows_of(groups).items()}


def recalled_at(end: int, wh: int, serial: str = "A1") -> Recalled:
    values = [0] * len(SAMPLED_SCHEMA.channels)
    values[IMPORT] = wh
    return Recalled(
        serial,
        CHANNELS,
        [end - S, end],
        (end, tuple(values)),
        schema_id=SAMPLED_SCHEMA.id,
        data_serial=serial,
    )
