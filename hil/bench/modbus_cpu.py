"""CPU that one read of 80 registers costs its reader while the bytes come one by one.

The simulated meter lives in a process of its own, so that a thread's CPU is
its reader's alone: at 19200 Bd a byte comes every 0.52 ms, and a reader that
wakes for each of them wakes 165 times for one answer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import minimalmodbus
import serial
from pymodbus.client import AsyncModbusSerialClient, ModbusSerialClient

from agent.line.serial_port import SerialPort
from agent.modbus.exchange import UnitExchange
from agent.modbus.transaction import Answered, ReadRequest
from hil.bench.figure import Figure
from hil.line.pty import LineLoop, PtyLine
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from hil.site.installation import NotReady
from wire.clock import SystemClock

BAUD: Final = 19200
REGISTERS: Final = 80
UNIT: Final = 1
LIMIT_MS: Final = 0.5
_READS: Final = 10
_ROUNDS: Final = 5
"""The round that cost least counts: others use the machine too."""
_WARM_UP: Final = 3
_PATIENCE_S: Final = 20.0


def cpu_figures() -> Iterator[Figure]:
    """`modbus.cpu_ms_80reg_trickle`, ours, and beside it the peers' in the same run."""
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        link = Path(folder) / "line"
        with _trickling_line(link):
            ours_ms = ours_cpu_ms(str(link))
            peers = {
                "pymodbus async": pymodbus_async_cpu_ms(str(link)),
                "pymodbus sync": pymodbus_sync_cpu_ms(str(link)),
                "minimalmodbus": minimalmodbus_cpu_ms(str(link)),
            }
    name = "modbus.cpu_ms_80reg_trickle"
    best = min(peers, key=lambda peer: peers[peer])
    yield Figure(name, ours_ms, "ms CPU per read", LIMIT_MS, peer=best, peer_value=peers.pop(best))
    for peer, peer_ms in peers.items():
        yield Figure(f"{name}.{peer.replace(' ', '_')}", peer_ms, "ms CPU per read")


def ours_cpu_ms(path: str) -> float:
    """Of the agent's own transaction layer."""
    with SerialPort(path, BAUD) as port:
        exchange = UnitExchange(port, UNIT)
        request = ReadRequest(UNIT, 4, 0, REGISTERS)

        def read() -> bool:
            return isinstance(exchange.ask(request, 1), Answered)

        return _cpu_ms(read)


def pymodbus_sync_cpu_ms(path: str) -> float:
    client = ModbusSerialClient(path, baudrate=BAUD, timeout=1.0, retries=0)
    client.connect()
    try:
        return _cpu_ms(
            lambda: not client.read_input_registers(0, count=REGISTERS, device_id=UNIT).isError(),
        )
    finally:
        client.close()  # type: ignore[no-untyped-call]


def pymodbus_async_cpu_ms(path: str) -> float:
    return asyncio.run(_pymodbus_async_cpu_ms(path))


async def _pymodbus_async_cpu_ms(path: str) -> float:
    client = AsyncModbusSerialClient(path, baudrate=BAUD, timeout=1.0, retries=0)
    await client.connect()

    async def read(times: int) -> int:
        answers = [
            await client.read_input_registers(0, count=REGISTERS, device_id=UNIT)
            for _ in range(times)
        ]
        return sum(not answer.isError() for answer in answers)

    try:
        await read(_WARM_UP)
        rounds_ms = []
        for _ in range(_ROUNDS):
            begun_s = time.thread_time()
            rounds_ms.append(_per_read_ms(await read(_READS), begun_s))
        return min(rounds_ms)
    finally:
        client.close()


def minimalmodbus_cpu_ms(path: str) -> float:
    with serial.Serial(path, BAUD, timeout=1.0, write_timeout=1.0) as port:
        instrument = minimalmodbus.Instrument(port, UNIT)
        return _cpu_ms(
            lambda: len(instrument.read_registers(0, REGISTERS, functioncode=4)) == REGISTERS,
        )


def _cpu_ms(read: Callable[[], bool]) -> float:
    """CPU of this thread per read, ms, in the round that cost least; each read must succeed."""
    for _ in range(_WARM_UP):
        read()
    rounds_ms = []
    for _ in range(_ROUNDS):
        begun_s = time.thread_time()
        rounds_ms.append(_per_read_ms(sum(read() for _ in range(_READS)), begun_s))
    return min(rounds_ms)


def _per_read_ms(right: int, begun_s: float) -> float:
    spent_s = time.thread_time() - begun_s
    if right < _READS:
        raise NotReady(f"{_READS - right} of {_READS} reads failed: the figure is void")
    return 1000 * spent_s / _READS


@contextmanager
def _trickling_line(link: Path) -> Iterator[None]:
    """The meter's process, from when its line is there until the block ends."""
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(str(link),), daemon=True
    )
    process.start()
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while not link.exists():
            if time.monotonic() > until_s or not process.is_alive():
                raise NotReady(f"{link}: the simulated line did not come up")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.join()


def _serve(link: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bus = ModbusBus({UNIT: ModbusMeter("eastron_sdm120", Steady())}, SystemClock())
    LineLoop([PtyLine(Path(link), bus, baud=BAUD, singly=True)]).run(stop)
