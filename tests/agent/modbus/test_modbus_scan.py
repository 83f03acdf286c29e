"""Scanning a Modbus line: who answers, which model it is, which serial number it tells."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.line.port import Port
from agent.line.serial_port import SerialPort
from agent.modbus.profile import models, shipped
from agent.modbus.scan import FoundUnit, Identified, LineSettings, identify, scan
from agent.modbus.transaction import Answered, ReadRequest, Refused
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer, Responder
from hil.line.uart import Uart
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

CLOCK = SystemClock()
FAST = LineSettings(19200)
SLOW = LineSettings(9600, "E")
NAMED = [model for model in models() if shipped(model).identify]
TELLS = [model for model in models() if shipped(model).serial]


class DirectExchange:
    """An exchange with a simulated meter, without a line; remembers what was asked."""

    def __init__(self, meter: ModbusMeter) -> None:
        self._meter = meter
        self.asked: list[ReadRequest] = []

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        self.asked.append(request)
        told = self._meter.read(request.function, request.address, request.count, 0.0)
        return Refused(told) if isinstance(told, int) else Answered(told)


def identified(meter: ModbusMeter) -> Identified:
    return identify(DirectExchange(meter), 1)  # type: ignore[arg-type]


def told(serial: str, model: str) -> str:
    """The serial number as the model's register can hold it."""
    return serial[-7:] if model in ("carlo_gavazzi_em111", "carlo_gavazzi_em340") else serial


class OnLines:
    """Opens one PTY for each of the settings, and closes what it opened before."""

    def __init__(self, folder: Path, responders: dict[LineSettings, Responder]) -> None:
        self._lines = {
            settings: PtyLine(folder / f"line-{settings.baud}", responder, baud=settings.baud)
            for settings, responder in responders.items()
        }
        self._port: SerialPort | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Callable[[LineSettings], Port]:
        for line in self._lines.values():
            self._stack.enter_context(served(line))
        return self._open

    def __exit__(self, *_: object) -> None:
        if self._port is not None:
            self._port.close()
        self._stack.close()

    def _open(self, settings: LineSettings) -> Port:
        if self._port is not None:
            self._port.close()
        self._port = SerialPort(str(self._lines[settings].link), settings.baud)
        self._port.open()
        return self._port


def bus(meters: dict[int, ModbusMeter]) -> ModbusBus:
    return ModbusBus(meters, CLOCK)


@pytest.mark.parametrize("model", NAMED)
def test_a_meter_that_tells_its_model_is_named_with_its_serial_number(model: str) -> None:
    found = identified(ModbusMeter(model, Steady(serial="21000035")))
    serial = told("21000035", model) if model in TELLS else None
    assert found == Identified(model, (model,), serial)


@pytest.mark.parametrize("model", models())
def test_a_meter_that_tells_nothing_still_fits_its_model(model: str) -> None:
    found = identified(ModbusMeter(model, Steady(), tells_identity=False))
    assert found.model is None
    assert model in found.fits
    assert found.serial is None


def test_a_meter_whose_maker_names_no_rule_is_not_named() -> None:
    found = identified(ModbusMeter("eastron_sdm230", Steady(serial="21000035")))
    assert found.model is None
    assert "eastron_sdm230" in found.fits


def test_a_meter_without_a_plausible_voltage_keeps_its_name_but_does_not_fit() -> None:
    dead = Steady(voltage_v=0.0, current_a=0.0, power_w=0.0)
    assert identified(ModbusMeter("eastron_sdm630", dead)) == Identified(
        "eastron_sdm630", (), "21000035"
    )


def test_a_scan_finds_who_answers_and_names_who_it_can(tmp_path: Path) -> None:
    meters = {
        1: ModbusMeter("eastron_sdm630", Steady(serial="21000007")),
        2: ModbusMeter("carlo_gavazzi_em340", Steady(serial="1000014")),
        4: ModbusMeter("abb_b23_b24", Steady(serial="21000021"), tells_identity=False),
    }
    with OnLines(tmp_path, {FAST: bus(meters)}) as open_port:
        found = list(scan(open_port, [FAST], range(1, 6), response_timeout_s=0.1))
    assert found[0] == FoundUnit(1, FAST, "eastron_sdm630", ("eastron_sdm630",), "21000007")
    assert found[1] == FoundUnit(
        2, FAST, "carlo_gavazzi_em340", ("carlo_gavazzi_em340",), "1000014"
    )
    assert found[2] == FoundUnit(4, FAST, None, ("abb_b23_b24",), None)
    assert len(found) == 3


def test_settings_are_tried_in_order_and_a_unit_is_found_once(tmp_path: Path) -> None:
    meter = ModbusMeter("eastron_sdm120", Steady())
    asked: list[tuple[int, LineSettings]] = []
    with OnLines(tmp_path, {SLOW: bus({1: meter}), FAST: bus({1: meter, 2: meter})}) as open_port:
        found = list(
            scan(
                open_port,
                [SLOW, FAST],
                [1, 2],
                response_timeout_s=0.1,
                asking=lambda unit, settings: asked.append((unit, settings)),
            )
        )
    assert [(unit.unit, unit.settings) for unit in found] == [(1, SLOW), (2, FAST)]
    assert (1, FAST) not in asked


def test_a_meter_that_answers_too_late_is_heard_and_asked_again(tmp_path: Path) -> None:
    slow = ModbusMeter("eastron_sdm120", Steady(), turnaround_s=0.3)
    with OnLines(tmp_path, {FAST: bus({1: slow})}) as open_port:
        found = list(scan(open_port, [FAST], [1, 2], response_timeout_s=0.1))
    assert [(unit.unit, unit.model) for unit in found] == [(1, "eastron_sdm120")]


def test_a_line_with_another_baud_rate_is_found_by_trying(tmp_path: Path) -> None:
    link = tmp_path / "line"
    meters = bus({3: ModbusMeter("eastron_sdm630", Steady())})
    ports: list[SerialPort] = []

    def open_port(settings: LineSettings) -> SerialPort:
        for port in ports:
            port.close()
        ports.append(SerialPort(str(link), settings.baud))
        ports[-1].open()
        return ports[-1]

    with served(PtyLine(link, meters, baud=9600, uart=Uart(9600))):
        found = list(scan(open_port, [FAST, LineSettings(9600)], [3, 4], response_timeout_s=0.1))
        ports[-1].close()
    assert [(unit.unit, unit.settings.baud, unit.model) for unit in found] == [
        (3, 9600, "eastron_sdm630")
    ]


class OnlyFunction4(ModbusBus):
    """Stays silent at any other function, as some meters do instead of refusing."""

    def receive(self, data: bytes) -> list[Answer]:
        return [answer for answer in super().receive(data) if answer.data[1] & 0x7F == 4]


def test_a_meter_that_ignores_one_function_is_found_by_the_other(tmp_path: Path) -> None:
    meter = ModbusMeter("eastron_sdm120", Steady())
    with OnLines(tmp_path, {FAST: OnlyFunction4({1: meter}, CLOCK)}) as open_port:
        found = list(scan(open_port, [FAST], [1], response_timeout_s=0.1))
    assert [(unit.unit, unit.model) for unit in found] == [(1, None)]
    assert "eastron_sdm120" in found[0].fits


class Watching(ModbusBus):
    """Keeps the function of every request."""

    def __init__(self, meters: dict[int, ModbusMeter]) -> None:
        super().__init__(meters, CLOCK)
        self.functions: set[int] = set()

    def receive(self, data: bytes) -> list[Answer]:
        if len(data) == 8:
            self.functions.add(data[1])
        return super().receive(data)


def test_a_scan_only_reads(tmp_path: Path) -> None:
    watching = Watching({1: ModbusMeter("chint_dtsu666", Steady())})
    with OnLines(tmp_path, {FAST: watching}) as open_port:
        list(scan(open_port, [FAST], [1, 2], response_timeout_s=0.1))
    assert watching.functions == {3, 4}


def test_absent_units_cost_two_timeouts_and_no_more(tmp_path: Path) -> None:
    with OnLines(tmp_path, {FAST: bus({})}) as open_port:
        start_s = time.monotonic()
        assert list(scan(open_port, [FAST], range(1, 11), response_timeout_s=0.05)) == []
        spent_s = time.monotonic() - start_s
    # 20 requests of 10 ms with 50 ms of waiting each, after 0.6 s of listening to the opened line.
    assert spent_s < 0.6 + 20 * 0.1
