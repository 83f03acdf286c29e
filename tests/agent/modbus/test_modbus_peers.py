"""The agent reads a server that other people wrote."""

import asyncio
import os
import struct
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.profile import shipped
from wire.clock import SystemClock


def words(value: float) -> list[int]:
    return list(struct.unpack(">2H", struct.pack(">f", value)))


@pytest.fixture
def pymodbus_meter(tmp_path: Path) -> Iterator[str]:
    """A pymodbus server that shows an SDM120's registers as unit 1; two PTYs joined by a thread."""
    ends = [os.openpty(), os.openpty()]
    for _, slave in ends:
        tty.setraw(slave)
    running = threading.Event()
    running.set()

    def join(source: int, sink: int) -> None:
        os.set_blocking(source, True)
        while data := os.read(source, 4096):
            if not running.is_set():
                return
            os.write(sink, data)

    for (source, _), (sink, _) in (ends, ends[::-1]):
        threading.Thread(target=join, args=(source, sink), daemon=True).start()

    registers = [0] * 80
    for address, value in ((0, 229.8), (6, 4.25), (12, -975.0), (72, 54321.5), (74, 12.0)):
        registers[address : address + 2] = words(value)
    device = SimDevice(1, simdata=[SimData(0, values=registers, datatype=DataType.REGISTERS)])
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        server = ModbusSerialServer(
            [device], framer=FramerType.RTU, port=os.ttyname(ends[0][1]), baudrate=19200
        )
        await server.serve_forever(background=True)
        ready.set()
        while running.is_set():
            await asyncio.sleep(0.05)
        await server.shutdown()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield os.ttyname(ends[1][1])
    running.clear()
    thread.join(5)
    loop.close()


def test_the_agent_reads_a_pymodbus_server(pymodbus_meter: str) -> None:
    with SerialPort(pymodbus_meter, 19200) as port:
        sample = ModbusDriver.on_port(port, 1, shipped("eastron_sdm120"), SystemClock()).sample()
    assert (sample.import_wh, sample.export_wh, sample.import_varh) == (54_321_500, 12_000, 0)
    assert (sample.voltage_dv, sample.current_ca, sample.power_w) == (2298, 425, -975)
