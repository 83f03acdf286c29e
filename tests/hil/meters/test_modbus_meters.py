"""Simulated Modbus meters: what they answer, and that other people's masters read it."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient

from ext.checksum import crc16_modbus
from hil.line.pty import PtyLine, served
from hil.meters.modbus import ModbusBus, ModbusMeter, UnknownModel, models
from hil.meters.steady import Steady
from wire.clock import SystemClock


def sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")


def request(unit: int, function: int, address: int, count: int) -> bytes:
    return sealed(struct.pack(">BBHH", unit, function, address, count))


def bus() -> ModbusBus:
    names = {3: "eastron_sdm630", 5: "abb_b23_b24", 7: "carlo_gavazzi_em340"}
    return ModbusBus({u: ModbusMeter(name, Steady()) for u, name in names.items()}, SystemClock())


def answered(data: bytes) -> list[bytes]:
    return [answer.data for answer in bus().receive(data)]


def test_a_request_is_answered_with_the_registers_it_asks_for() -> None:
    (answer,) = answered(request(3, 4, 0, 2))
    assert answer == sealed(b"\x03\x04\x04" + struct.pack(">f", 230.4))


def test_an_absent_unit_a_broadcast_and_a_damaged_request_stay_unanswered() -> None:
    assert answered(request(4, 4, 0, 2)) == []
    assert answered(request(0, 4, 0, 2)) == []
    assert answered(request(3, 4, 0, 2)[:-1] + b"\0") == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(3, 3, 0, 2), 1),
        (request(3, 6, 0, 2), 1),
        (request(3, 4, 5000, 2), 2),
        (request(3, 4, 0, 82), 3),
        (request(3, 4, 0, 3), 3),
        (request(7, 4, 0, 51), 3),
    ],
)
def test_what_the_real_meter_refuses_is_refused(asked: bytes, code: int) -> None:
    assert answered(asked) == [sealed(bytes([asked[0], asked[1] | 0x80, code]))]


@given(st.lists(st.integers(1, 20), max_size=6), st.binary(max_size=12))
def test_requests_are_found_in_any_pieces_and_after_noise(cuts: list[int], noise: bytes) -> None:
    responder = bus()
    data = noise + request(3, 4, 0, 2) + request(7, 3, 52, 2)
    answers = []
    for cut in [*cuts, len(data)]:
        answers += responder.receive(data[:cut])
        data = data[cut:]
    assert [answer.data[0] for answer in answers[-2:]] == [3, 7]


@pytest.mark.parametrize("model", models())
def test_every_register_of_every_model_can_be_read(model: str) -> None:
    meter = ModbusMeter(model, Steady())
    for register in meter.map.registers:
        answer = meter.read(meter.map.functions[0], register.address, register.words, 0.0)
        assert isinstance(answer, bytes)
        assert len(answer) == 2 * register.words


def test_a_model_without_a_map_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownModel, match="it has: eastron_sdm120"):
        ModbusMeter("eastron_sdm121", Steady())


def test_mbpoll_reads_the_simulated_line(tmp_path: Path) -> None:
    if shutil.which("mbpoll") is None:
        pytest.skip("mbpoll is not installed")
    line = PtyLine(tmp_path / "line", bus(), baud=19200)
    with served(line):
        master = ["mbpoll", "-m", "rtu", "-b", "19200", "-P", "none", "-0", "-1", "-q"]
        told = [
            subprocess.run(
                [*master, *asked.split(), str(line.link)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for asked in (
                "-a 3 -r 72 -c 1 -t 3:float -B",
                "-a 7 -r 52 -c 1 -t 4:int",
                "-a 5 -r 23296 -c 1 -t 4:int -B",
            )
        ]
    values = [re.findall(r"\[\d+\]:\s+(\S+)", text)[0] for text in told]
    assert float(values[0]) == pytest.approx(12345.678, abs=0.05)
    assert values[1:] == ["123456", "2304"]


def test_pymodbus_reads_the_simulated_line(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", bus(), baud=19200)
    with served(line):
        client = ModbusSerialClient(str(line.link), framer=FramerType.RTU, baudrate=19200)
        assert client.connect()
        answer = client.read_input_registers(72, count=2, device_id=3)
        low_first = client.read_holding_registers(52, count=2, device_id=7)
        client.close()
    assert client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32) == (
        pytest.approx(12345.678, abs=0.001)
    )
    assert low_first.registers == [123456 % 65536, 123456 // 65536]
