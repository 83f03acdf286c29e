"""The Modbus driver on real PTYs, with simulated meters and with other people's programs."""

import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.driver import MeterRefused, MeterSilent
from agent.line.serial_port import SerialPort
from agent.modbus.budget import ReadBudget
from agent.modbus.driver import ModbusDriver
from agent.modbus.exchange import AnswerRejected
from agent.modbus.planner import bus_time_s
from agent.modbus.profile import Ratio, models, shipped
from ext.checksum import crc16_modbus
from hil.line import faults
from hil.line.faults import Faulty
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Registers
from hil.meters.steady import Steady
from wire.clock import SystemClock
from wire.quality import Quality

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


TELLING = [model for model in models() if shipped(model).serial is not None]


@pytest.mark.parametrize("model", TELLING)
def test_a_meter_tells_its_serial_number_only_when_it_is_asked_to(
    tmp_path: Path, model: str
) -> None:
    there = line(tmp_path, bus(model))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped(model), CLOCK)
        assert driver.sample().serial is None
        identified = driver.sample(identify=True)
    assert identified.serial is not None
    # Some meters have room for seven characters only.
    assert "21000035".endswith(identified.serial)
    assert len(identified.serial) >= 7
    assert identified.import_wh is not None


def test_a_meter_that_refuses_its_serial_register_is_asked_for_it_once(tmp_path: Path) -> None:
    meters = {1: ModbusMeter("eastron_sdm630", Steady(), tells_identity=False)}
    counting = Lacking(ModbusBus(meters, CLOCK), range(0))
    there = line(tmp_path, counting)
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK)
        asked = []
        for _ in range(3):
            before = counting.asked
            assert driver.sample(identify=True).serial is None
            asked.append(counting.asked - before)
    assert asked[1:] == [len(driver.reads)] * 2


def test_a_meter_that_told_its_serial_number_once_is_not_forgiven_a_refusal_at_once(
    tmp_path: Path,
) -> None:
    meters = {1: ModbusMeter("eastron_sdm630", Steady())}
    lacking = Lacking(ModbusBus(meters, CLOCK), range(0))
    there = line(tmp_path, lacking)
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK)
        assert driver.sample(identify=True).serial is not None
        lacking.addresses = range(64512, 64514)
        for _ in range(2):
            with pytest.raises(MeterRefused, match="its serial number"):
                driver.sample(identify=True)
            assert driver.tells_serial
        assert driver.sample(identify=True).serial is None
        assert not driver.tells_serial


def test_every_register_is_shown_with_its_bytes_and_what_they_mean(tmp_path: Path) -> None:
    there = line(tmp_path, bus("eastron_sdm120"))
    with served(there), SerialPort(str(there.link), 19200) as port:
        shown = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), CLOCK).read_all()
    profile = shipped("eastron_sdm120")
    assert [register.name for register in shown.registers] == [r.name for r in profile.registers]
    voltage = next(r for r in shown.registers if r.name == "voltage_l1")
    assert (voltage.address, voltage.words.hex(), voltage.unit) == (0, "43666666", "V")
    assert voltage.value == pytest.approx(230.4, abs=1e-4)
    assert all(register.note == "" for register in shown.registers)


def test_a_register_that_the_meter_refuses_is_shown_as_not_read(tmp_path: Path) -> None:
    there = line(tmp_path, Lacking(bus("carlo_gavazzi_em24_rs485"), range(92, 94)))
    with served(there), SerialPort(str(there.link), 19200) as port:
        shown = ModbusDriver.on_port(port, 1, shipped("carlo_gavazzi_em24_rs485"), CLOCK).read_all()
    notes = {register.name: register.note for register in shown.registers}
    assert notes.pop("active_energy_export") == "not read"
    assert "not read" not in notes.values()


def test_a_ratio_makes_primary_values_of_secondary_ones(tmp_path: Path) -> None:
    ratio = Ratio(current=Fraction(50), voltage=Fraction(100))
    there = line(tmp_path, bus("abb_b23_b24"))
    with served(there), SerialPort(str(there.link), 19200) as port:
        plain = ModbusDriver.on_port(port, 1, shipped("abb_b23_b24"), CLOCK)
        primary = ModbusDriver.on_port(port, 1, shipped("abb_b23_b24"), CLOCK, ratio=ratio)
        sample, limits = primary.sample(), primary.counter_limits
        # It counts in steps of 10 Wh.
        assert plain.sample().import_wh == 12_345_670
    assert sample.import_wh == 12_345_670 * 5000
    assert sample.power_w == 3000 * 5000
    assert (sample.voltage_dv, sample.current_ca) == (2304 * 100, 500 * 50)
    least = plain.counter_limits.most_per_hour
    assert limits.most_per_hour == (None if least is None else least * 5000)


def test_a_counter_that_is_not_a_number_is_no_value_and_flagged(tmp_path: Path) -> None:
    def not_a_number(request: bytes, answers: list[Answer]) -> list[Answer]:
        data = answers[0].data
        place = 3 + 2 * (72 - int.from_bytes(request[2:4]))
        body = data[:place] + bytes.fromhex("7fc00000") + data[place + 4 : -2]
        return [Answer(body + crc16_modbus(body).to_bytes(2, "little"))]

    there = line(tmp_path, Faulty(bus("eastron_sdm120"), [not_a_number]))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), CLOCK)
        assert len(driver.reads) == 1
        marked, well = driver.sample(), driver.sample()
    assert (marked.import_wh, marked.flags) == (None, int(Quality.NO_VALUE))
    assert marked.voltage_dv == 2304
    assert (well.import_wh, well.flags) == (12_345_678, 0)


class Short:
    """A bus whose meters do not answer a read of more than some registers."""

    def __init__(self, responder: ModbusBus, most: int) -> None:
        self.responder = responder
        self.most = most

    def receive(self, data: bytes) -> list[Answer]:
        return [] if int.from_bytes(data[4:6]) > self.most else self.responder.receive(data)


def test_a_meter_that_answers_short_reads_only_is_found_within_small_budgets(
    tmp_path: Path,
) -> None:
    there = line(tmp_path, Short(bus("eastron_sdm630"), 40))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), CLOCK)
        budget_s = ReadBudget(driver, shipped("eastron_sdm630")).longest_s
        samples: list[int | None] = []
        for _ in range(5):
            try:
                samples.append(driver.sample(deadline_s=time.monotonic() + budget_s).import_wh)
            except MeterSilent:
                samples.append(None)
    assert samples[-1] == 12_345_678
    assert max(read.count for read in driver.reads) <= 40


@pytest.mark.parametrize("model", models())
def test_the_time_that_the_schedule_gives_is_enough_for_a_sample(
    tmp_path: Path, model: str
) -> None:
    there = line(tmp_path, bus(model), paced=True)
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped(model), CLOCK)
        driver.sample(identify=True)
        deadline_s = time.monotonic() + ReadBudget(driver, shipped(model)).longest_s
        assert driver.sample(identify=True, deadline_s=deadline_s).import_wh is not None
        assert time.monotonic() < deadline_s


def test_a_sample_keeps_to_its_deadline(tmp_path: Path) -> None:
    there = line(tmp_path, bus("eastron_sdm120"))
    with served(there), SerialPort(str(there.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), CLOCK)
        driver.sample()
        began_s = time.monotonic()
        with pytest.raises(MeterSilent, match="time budget"):
            driver.sample(deadline_s=began_s + 0.05)
        assert time.monotonic() - began_s < 0.1
        assert driver.sample(deadline_s=began_s + 60).import_wh == 12_345_678
