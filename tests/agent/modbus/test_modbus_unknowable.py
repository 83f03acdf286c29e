"""What RTU cannot tell apart, followed to the closed interval: it is not stored, or flagged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.driver import CounterLimits, ReadError
from agent.interval.sampled import SampledMeter
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.profile import Profile, parse, shipped
from agent.modbus.transaction import ReadRequest
from agent.store.rows import MeterRows
from hil.line import faults
from hil.line.company import Impostor, SameUnitTwice, TwoMasters
from hil.line.faults import Faulty
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer, Responder
from hil.meters.faces import Running
from hil.meters.modbus import ModbusBus, ModbusMeter
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
IMPORT = SAMPLED_SCHEMA.index("import_wh")
LIMITS = CounterLimits(most_per_hour=50_000)
TELLS = "abb_b23_b24"
APART = """
model = "apart"
title = "two reads of the same length"
phases = 1
function = 4
word_order = "big"
side = "primary"
serial = "unknown"
align = 2
response_timeout_ms = 300
[sample]
import_wh = ["import"]
export_wh = ["total"]
[sources]
bench = "the simulated SDM120 of this bench"
[[register]]
name = "import"
address = 72
type = "float32"
scale = 1
unit = "kWh"
step = "float32"
sources = ["bench"]
[[register]]
name = "total"
address = 342
type = "float32"
scale = 1
unit = "kWh"
step = "float32"
sources = ["bench"]
"""
"""Two reads of one length: the count tells nothing, so this is the worst that a map can do."""


@dataclass
class HandClock:
    """A clock that shows what the test says."""

    utc_s: float = float(T0)

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


@dataclass
class Switched:
    """A line whose company changes when the test says so."""

    now: Responder

    def receive(self, data: bytes) -> list[Answer]:
        return self.now.receive(data)


@dataclass
class Bench:
    """One sampled meter on a line, read once a minute of the clock."""

    clock: HandClock
    meter: SampledMeter
    groups: list[MeterRows] = field(default_factory=list)

    def read_until(self, utc_s: float) -> None:
        while self.clock.utc_s <= utc_s:
            try:
                self.groups += self.meter.read()
                self.groups += self.meter.identify()
            except ReadError:
                self.groups += self.meter.expire(self.clock.utc_s)
            self.clock.utc_s += 60

    @property
    def flags(self) -> dict[int, Quality]:
        """By the number of the interval, the first one 1."""
        return {(end - T0) // S: Quality(values[-1]) for g in self.groups for end, values in g.rows}

    @property
    def import_wh(self) -> dict[int, int]:
        return {(end - T0) // S: values[IMPORT] for g in self.groups for end, values in g.rows}


@contextmanager
def bench(folder: Path, clock: HandClock, far_end: Responder, profile: Profile) -> Iterator[Bench]:
    line = PtyLine(folder / "line", far_end, baud=19200, paced=False)
    with served(line), SerialPort(str(line.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, profile, clock)
        meter = SampledMeter(
            "m1",
            driver,
            interval_s=S,
            recover_s=96 * S,
            now_utc_s=clock.utc_s,
            recalled=None,
            limits=LIMITS,
        )
        yield Bench(clock, meter)


def bus(
    clock: HandClock, model: str, *, unit: int = 1, tells: bool = True, **face: object
) -> ModbusBus:
    shown = Running(T0, 3_600.0, **face)  # type: ignore[arg-type]
    return ModbusBus({unit: ModbusMeter(model, shown, tells_identity=tells)}, clock)


@pytest.mark.parametrize(
    ("tells", "flag"), [(True, Quality.METER_EXCHANGED), (False, Quality.COUNTER_RESET)]
)
def test_a_neighbour_that_answers_in_its_name_opens_an_epoch_and_no_difference_is_taken(
    tmp_path: Path, tells: bool, flag: Quality
) -> None:
    clock = HandClock()
    line = Switched(bus(clock, TELLS, tells=tells))
    neighbour = bus(clock, TELLS, unit=2, tells=tells, import_wh=500_000, serial="31000099")
    with bench(tmp_path, clock, line, shipped(TELLS)) as there:
        there.read_until(T0 + S + 400)
        line.now = Impostor(neighbour, own=2, other=1)
        there.read_until(T0 + 3 * S + 60)
    assert [bool(there.flags[n] & flag) for n in (1, 2, 3)] == [False, True, False]
    assert there.import_wh[1] == 1_000_900
    assert len({group.epoch.serial for group in there.groups}) == 2


def test_a_slower_meter_of_the_same_unit_number_does_not_disturb_the_quicker_ones_counters(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    twin = bus(clock, TELLS, import_wh=500_000, serial="31000099")
    # Within t3.5 of 10-bit characters at 19200 Bd its answer comes before the next request.
    both = SameUnitTwice(bus(clock, TELLS), twin, lag_s=0.001)
    with bench(tmp_path, clock, both, shipped(TELLS)) as there:
        there.read_until(T0 + 2 * S + 60)
    assert (there.import_wh[1], there.import_wh[2]) == (1_000_900, 1_001_800)


def test_an_answer_later_than_the_window_to_a_read_of_the_same_length_is_caught_by_its_jump(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    right = bus(clock, "eastron_sdm120", export_wh=8_000_000)
    line = Switched(right)
    with bench(tmp_path, clock, line, parse(APART, "apart.toml")) as there:
        there.read_until(T0 + S + 400)
        line.now = Faulty(right, [faults.well, faults.late(1.5), faults.late(1.5)])
        there.read_until(T0 + 3 * S + 60)
    assert there.flags[2] & Quality.OUT_OF_RANGE
    assert not there.flags[3] & ~Quality.INTERPOLATED
    assert [there.import_wh[n] for n in (1, 2, 3)] == [1_000_900, 1_001_800, 1_002_700]


def test_while_a_second_master_asks_the_same_unit_nothing_is_read_and_nothing_is_lost_by_it(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    right = bus(clock, "eastron_sdm120", export_wh=8_000_000)
    line = Switched(right)
    with bench(tmp_path, clock, line, parse(APART, "apart.toml")) as there:
        there.read_until(T0 + S + 400)
        line.now = TwoMasters(right, ReadRequest(1, 4, 74, 2).frame)
        there.read_until(T0 + S + 600)
        line.now = right
        there.read_until(T0 + 3 * S + 60)
    assert (there.flags[2], there.flags[3]) == (0, 0)
    assert [there.import_wh[n] for n in (1, 2, 3)] == [1_000_900, 1_001_800, 1_002_700]
