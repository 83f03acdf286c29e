"""A meter, its line and its reader in one process: every frame passes through `Wire`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest

from agent.dlms.driver import DlmsDriver
from agent.dlms.meter_class import MeterClass, load_meter_class
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.shown import Gauges, Recorded, Registers

NOW_UTC_S = 1_763_820_003


class Face:
    """A meter's face with values that tell instants apart."""

    def __init__(self, serial: str = "LS0012345") -> None:
        self.serial = serial

    def registers(self, at_utc_s: float) -> Registers:
        at = int(at_utc_s)
        return Registers(at % 100_000_000, at // 7 % 10_000, at // 3 % 1_000_000)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(231.24, 4.567, 1000.0, 50.0)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> list[Recorded]:
        first = first_end_utc_s + -first_end_utc_s % 900
        return [
            Recorded(
                end,
                end % 1_000_000_007,
                end // 70 % 100_000,
                end // 30 % 100_000,
                2300 + end // 900 % 50,
                end // 900 % 800,
            )
            for end in range(first, last_end_utc_s + 1, 900)
        ]


class StoppedClock:
    def __init__(self, utc_s: float = NOW_UTC_S) -> None:
        self.utc_s = utc_s

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


class Wire:
    """A `Port` whose far end is a bus of simulated meters; nothing takes time on it.

    `disturb(number, data)` changes the data of the number-th thing on the wire,
    both directions counted together. A read that finds nothing is a deadline
    that has passed.
    """

    char_s = 1e-5

    def __init__(self, bus: DlmsBus) -> None:
        self.bus = bus
        self.disturb: Callable[[int, bytes], bytes] = lambda number, data: data
        self.sent: list[bytes] = []
        self.answered: list[bytes] = []
        self.slept_reads = 0
        self.echoes = False
        self._number = 0
        self._waiting = b""

    def _pass(self, data: bytes) -> bytes:
        self._number += 1
        return self.disturb(self._number, data)

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        if self.echoes:
            self._waiting += data
        for answer in self.bus.receive(self._pass(data)):
            self.answered.append(answer.data)
            self._waiting += self._pass(answer.data)

    def read(self, at_least: int, deadline_s: float) -> bytes:
        assert at_least > 0
        assert deadline_s < time.monotonic() + 60
        self.slept_reads += not self._waiting
        data, self._waiting = self._waiting, b""
        return data

    def discard(self) -> bytes:
        data, self._waiting = self._waiting, b""
        return data


@dataclasses.dataclass
class Bench:
    meter: DlmsMeter
    wire: Wire
    clock: StoppedClock
    meter_class: MeterClass
    driver: DlmsDriver

    def another_driver(self, **changes: object) -> DlmsDriver:
        """A driver whose meter class differs in the named settings of its load profile."""
        profile = dataclasses.replace(self.meter_class.profile, **changes)
        return DlmsDriver.on_port(
            self.wire,
            dataclasses.replace(self.meter_class, profile=profile),
            self.clock,
            server_address="1/17",
            password=b"loadscape",
        )


def quick(meter_class: MeterClass) -> MeterClass:
    """The class without pauses: on `Wire` time does not pass."""
    return dataclasses.replace(
        meter_class, link=dataclasses.replace(meter_class.link, gap_s=0.0, response_s=0.01)
    )


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    def make(model: str = "idis_residential", **habits: object) -> Bench:
        meter = DlmsMeter(Face(), model, **habits)
        clock = StoppedClock()
        wire = Wire(DlmsBus({"1/17": meter, "1/18": DlmsMeter(Face("LS0012346"))}, clock))
        meter_class = quick(load_meter_class(model))
        driver = DlmsDriver.on_port(
            wire, meter_class, clock, server_address="1/17", password=b"loadscape"
        )
        return Bench(meter, wire, clock, meter_class, driver)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
