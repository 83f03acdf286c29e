"""The Modbus driver on real PTYs, with simulated meters and with other people's programs."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.driver import MeterRefused, MeterSilent
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.exchange import AnswerRejected
from agent.modbus.planner import bus_time_s
from agent.modbus.profile import models, shipped
from hil.line import faults
from hil.line.faults import Faulty
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Registers
from hil.meters.steady import Steady
from wire.clock import SystemClock

CLOCK = SystemClock()


def bus(*names: str, face: Steady | None = None) -> ModbusBus:
    return ModbusBus(
        {n: ModbusMeter(name, face or Steady()) for n, name in enumerate(names, 1)}, CLOCK
    )


def line(folder: Path, responder: object, *, paced: bool = False) -> PtyLine:
    return PtyLine(folder / "line", responder, baud=19200, paced=paced)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", models())
def test_every_shipped_model_reads_what_its_meter_shows(tmp_path: Path, model: str) -> None:
    seen: list[Registers] = []
    meters = {1: ModbusMeter(model, Steady())}
    responder = ModbusBus(meters, CLOCK, on_read=lambda *shown: seen.append(shown[2]))
    there = line(tmp_path, responder)
    with served(there), SerialPort(str(there.link), 19200) as port:
        before_ms = CLOCK.now_utc_s() * 1000
        sample = ModbusDriver.on_port(port, 1, shipped(model), CLOCK).sample()
    assert sample.import_wh == seen[-1].import_wh
    assert sample.export_wh == seen[-1].export_wh
    assert sample.import_varh in (seen[-1].import_varh, None)
    fields = shipped(model).sample
    assert sample.voltage_dv == (2304 if "voltage_dv" in fields else None)
    assert sample.current_ca == (500 if "current_ca" in fields else None)
    assert sample.power_w == 3000
    assert before_ms - 1 <= sample.at_utc_ms <= CLOCK.now_utc_s() * 1000 + 1


def test_a_float_counter_has_the_steps_of_its_float(tmp_path: Path) -> None:
    there = line(tmp_path, bus("eastron_sdm630", face=Steady(import_wh=70_000_001)))
    with served(there), SerialPort(str(there.link), 19200) as port:
        sample = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK).sample()
    # Above 65,536 kWh a float32 of kWh moves in steps of 7.8 Wh.
    assert sample.import_wh == 70_000_000


def test_a_negative_power_is_an_export(tmp_path: Path) -> None:
    names = ("eastron_sdm630", "abb_b23_b24", "carlo_gavazzi_em340")
    there = line(tmp_path, bus(*names, face=Steady(power_w=-4321.0, current_a=6.3)))
    with served(there), SerialPort(str(there.link), 19200) as port:
        powers = [
            ModbusDriver.on_port(port, n, shipped(name), CLOCK).sample().power_w
            for n, name in enumerate(names, 1)
        ]
    assert powers == [-4321, -4321, -4321]


def test_a_paced_sample_takes_hardly_more_than_the_line_formula(tmp_path: Path) -> None:
    there = line(tmp_path, bus("eastron_sdm630"), paced=True)
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK)
        spent_s = []
        for _ in range(3):
            start_s = time.monotonic()
            driver.sample()
            spent_s.append(time.monotonic() - start_s)
        cost = replace(driver.cost, turnaround_s=0.0)
        # Sampled again at once, the meter wants its pause before the first read as well.
        formula_s = bus_time_s(driver.reads, cost) + cost.between_s
    # The formula has both silences; the simulated meter takes neither of its own.
    assert min(spent_s) < formula_s * 1.1


def test_a_dead_meter_costs_its_neighbours_one_timeout(tmp_path: Path) -> None:
    there = line(tmp_path, bus("eastron_sdm120"))
    with served(there), SerialPort(str(there.link), 19200) as port:
        dead = ModbusDriver.on_port(port, 9, shipped("eastron_sdm120"), CLOCK)
        alive = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), CLOCK)
        with pytest.raises(MeterSilent, match="eastron_sdm120 at unit 9: expected 78 registers"):
            dead.sample()
        start_s = time.monotonic()
        with pytest.raises(MeterSilent, match="asked 1 times, got nothing; check wiring"):
            dead.sample()
        assert time.monotonic() - start_s < 0.9
        assert alive.sample().import_wh == 12_345_678


def test_garbage_is_named_as_such_and_the_next_sample_is_right(tmp_path: Path) -> None:
    there = line(tmp_path, Faulty(bus("eastron_sdm120"), [faults.garbage] * 2))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), CLOCK)
        with pytest.raises(AnswerRejected, match=r"got nothing acceptable .*check termination"):
            driver.sample()
        assert driver.sample().import_wh == 12_345_678
    assert sum(driver.exchange.rejected.values()) >= 2


class Lacking:
    """A bus whose meter refuses every read that touches some registers."""

    def __init__(self, responder: ModbusBus, addresses: range) -> None:
        self.responder = responder
        self.addresses = addresses
        self.asked = 0

    def receive(self, data: bytes) -> list[Answer]:
        self.asked += 1
        answers = self.responder.receive(data)
        start, count = int.from_bytes(data[2:4]), int.from_bytes(data[4:6])
        if set(range(start, start + count)) & set(self.addresses):
            return faults.exception(2)(data, answers)
        return answers


def test_a_merged_read_that_is_refused_is_split_once_and_the_split_remembered(
    tmp_path: Path,
) -> None:
    lacking = Lacking(bus("carlo_gavazzi_em24_rs485"), range(92, 94))
    there = line(tmp_path, lacking)
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("carlo_gavazzi_em24_rs485"), CLOCK)
        first = driver.sample()
        asked = lacking.asked
        second = driver.sample()
    assert (first.import_wh, first.export_wh) == (12_345_600, None)
    assert (second.import_wh, second.export_wh) == (12_345_600, None)
    assert driver.refused == ("active_energy_export",)
    assert lacking.asked - asked == len(driver.reads) < asked


def test_a_meter_without_its_import_counter_is_another_model(tmp_path: Path) -> None:
    there = line(tmp_path, bus("abb_b23_b24"))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK)
        with pytest.raises(MeterRefused, match=r"another model .*run scan"):
            driver.sample()


def test_a_modbus_meter_keeps_no_profile() -> None:
    driver = ModbusDriver.on_port(SerialPort("/dev/null"), 1, shipped("eastron_sdm120"), CLOCK)
    assert not driver.keeps_profile
    with pytest.raises(MeterRefused, match="this model keeps none"):
        driver.profile(0, 900)
