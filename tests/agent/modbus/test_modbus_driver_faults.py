"""The whole Modbus driver on faulty PTYs: a right sample or an error, then right samples again."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.driver import MeterSilent, ReadError, Sample
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.profile import shipped
from hil.line import faults
from hil.line.company import Hurried, Impostor, SameUnitTwice, SecondTryOnly, ShortReadsOnly
from hil.line.faults import Fault, Faulty
from hil.line.pty import PtyLine, served
from hil.line.responder import Responder
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock
from wire.quality import Quality

CLOCK = SystemClock()
BAUD = 19200
MODEL = "eastron_sdm630"
FACE = Steady()
NEIGHBOUR = Steady(serial="21000036", import_wh=7_000_000, export_wh=1_000_000, voltage_v=228.7)


def bus(face: Steady = FACE, *, unit: int = 1, model: str = MODEL) -> ModbusBus:
    return ModbusBus({unit: ModbusMeter(model, face)}, CLOCK)


@contextmanager
def driver_on(
    folder: Path, far_end: Responder, *, unit: int = 1, model: str = MODEL
) -> Iterator[ModbusDriver]:
    line = PtyLine(folder / "line", far_end, baud=BAUD, paced=False)
    with served(line), SerialPort(str(line.link), BAUD) as port:
        yield ModbusDriver.on_port(port, unit, shipped(model), CLOCK)


def values(sample: Sample) -> tuple[int | None, ...]:
    return (
        sample.import_wh,
        sample.export_wh,
        sample.import_varh,
        sample.voltage_dv,
        sample.current_ca,
        sample.power_w,
    )


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[int | None, ...]:
    with driver_on(tmp_path_factory.mktemp("truth"), bus()) as driver:
        return values(driver.sample())


WIRE_FAULTS: list[tuple[str, Fault]] = [
    ("bad CRC", faults.bad_crc),
    ("half", faults.half),
    ("late by 0.7 s", faults.late(0.7)),
    ("other function", faults.other_function),
    ("fewer registers", faults.fewer_registers),
    ("more registers", faults.more_registers),
    ("other unit", faults.other_unit),
    ("other unit, then right", faults.other_unit_first),
    ("echo", faults.echo),
    ("noise before", faults.before(b"\x00\xff\x5a")),
    ("noise after", faults.after(b"\x00\xff\x5a")),
    ("hole of 0.3 s", faults.hole(0.3)),
    ("garbage", faults.garbage),
    ("busy", faults.exception(6)),
    ("gateway path unavailable", faults.exception(10)),
    ("gateway target silent", faults.exception(11)),
    ("nothing", faults.dead),
]


SCRIPTS: dict[str, Callable[[Fault], Sequence[Fault]]] = {
    "once": lambda fault: [fault],
    "every second answer": lambda fault: [faults.well, fault] * 3,
}
ROUNDS = 4


def samples(folder: Path, script: Sequence[Fault]) -> list[tuple[int | None, ...] | None]:
    """What so many rounds came to; None for a round that failed."""
    came: list[tuple[int | None, ...] | None] = []
    with driver_on(folder, Faulty(bus(), script)) as driver:
        for _ in range(ROUNDS):
            try:
                came.append(values(driver.sample()))
            except ReadError:
                came.append(None)
    return came


Rounds = dict[tuple[str, str], Future[list[tuple[int | None, ...] | None]]]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    """All faults in all scripts; they wait rather than work, so many may run side by side."""
    folder = tmp_path_factory.mktemp("rounds")
    with ThreadPoolExecutor(8) as pool:
        yield {
            (name, often): pool.submit(samples, folder / f"{name} {often}", script(fault))
            for name, fault in WIRE_FAULTS
            for often, script in SCRIPTS.items()
        }


@pytest.mark.parametrize("name", [fault[0] for fault in WIRE_FAULTS])
def test_a_fault_of_one_answer_is_over_with_the_repeat(
    rounds: Rounds, truth: tuple[int | None, ...], name: str
) -> None:
    assert rounds[name, "once"].result() == [truth] * ROUNDS


@pytest.mark.parametrize("name", [fault[0] for fault in WIRE_FAULTS])
def test_a_fault_of_every_second_answer_yields_right_samples_or_none(
    rounds: Rounds, truth: tuple[int | None, ...], name: str
) -> None:
    came = rounds[name, "every second answer"].result()
    assert set(came) <= {truth, None}
    assert came[-1] == truth


DIFFICULT: list[tuple[str, Callable[[], Responder]]] = [
    ("answers the second try only", lambda: SecondTryOnly(bus())),
    ("refuses merged reads with 02", lambda: ShortReadsOnly(bus(), 20, 2)),
    ("refuses long reads with 03", lambda: ShortReadsOnly(bus(), 20, 3)),
]


@pytest.mark.parametrize("far_end", [d[1] for d in DIFFICULT], ids=[d[0] for d in DIFFICULT])
def test_a_difficult_meter_is_read_as_it_wants_to_be(
    tmp_path: Path, truth: tuple[int | None, ...], far_end: Callable[[], Responder]
) -> None:
    with driver_on(tmp_path, far_end()) as driver:
        assert values(driver.sample()) == truth
        assert values(driver.sample()) == truth


def test_a_meter_that_leaves_long_reads_unanswered_is_read_in_short_ones(
    tmp_path: Path, truth: tuple[int | None, ...]
) -> None:
    came = []
    with driver_on(tmp_path, ShortReadsOnly(bus(), 20, code=0)) as driver:
        for _ in range(8):
            try:
                came.append(values(driver.sample()))
            except MeterSilent:
                continue
    assert set(came) == {truth}
    assert len(came) >= 3


@pytest.mark.parametrize("reaction", ["deaf", "busy", "reboot"])
def test_a_meter_that_needs_its_rest_gets_it(
    tmp_path: Path, truth: tuple[int | None, ...], reaction: str
) -> None:
    # The profile of an SDM630 gives it 100 ms.
    with driver_on(tmp_path, Hurried(bus(), 0.09, reaction, down_s=5.0)) as driver:
        assert [values(driver.sample()) for _ in range(3)] == [truth] * 3


def test_a_dead_meter_costs_one_timeout_and_its_neighbour_is_read(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", bus(), baud=BAUD, paced=False)
    with served(line), SerialPort(str(line.link), BAUD) as port:
        dead = ModbusDriver.on_port(port, 9, shipped(MODEL), CLOCK)
        alive = ModbusDriver.on_port(port, 1, shipped(MODEL), CLOCK)
        spent_s = []
        for _ in range(3):
            begun_s = time.monotonic()
            with pytest.raises(MeterSilent):
                dead.sample()
            spent_s.append(time.monotonic() - begun_s)
            assert alive.sample().power_w == FACE.power_w
    assert min(spent_s) < 1.0


def test_a_counter_of_ones_is_no_value_and_is_flagged(tmp_path: Path) -> None:
    far_end = Faulty(bus(model="abb_b23_b24"), itertools.repeat(faults.all_ones))
    with driver_on(tmp_path, far_end, model="abb_b23_b24") as driver:
        sample = driver.sample()
    assert (sample.import_wh, sample.export_wh, sample.import_varh) == (None, None, None)
    assert sample.flags & Quality.NO_VALUE


def test_a_meter_that_answers_for_another_gives_itself_away_by_its_serial_number(
    tmp_path: Path,
) -> None:
    with driver_on(tmp_path, Impostor(bus(NEIGHBOUR, unit=2), own=2, other=1)) as driver:
        assert driver.sample(identify=True).serial == NEIGHBOUR.serial


def test_two_meters_of_one_unit_that_collide_are_never_read(tmp_path: Path) -> None:
    with (
        driver_on(tmp_path, SameUnitTwice(bus(), bus(NEIGHBOUR), 0.0)) as driver,
        pytest.raises(ReadError, match="unit numbers used twice"),
    ):
        driver.sample()
