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
_READS: Final = 40
_READS_OF_PEERS: Final = 15
_WARM_UP: Final = 3
_PATIENCE_S: Final = 20.0


def cpu_figures() -> Iterator[Figure]:
    """`modbus.cpu_ms_80reg_trickle`, ours, and beside it the peers' in the same run."""
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        link = Path(folder) / "line"
        with _trickling_line(link):
            ours_ms = ours_cpu_ms(str(link), _READS)
            peers = {
                "pymodbus async": pymodbus_async_cpu_ms(str(link), _READS_OF_PEERS),
                "pymodbus sync": pymodbus_sync_cpu_ms(str(link), _READS_OF_PEERS),
                "minimalmodbus": minimalmodbus_cpu_ms(str(link), _READS_OF_PEERS),
            }
    name = "modbus.cpu_ms_80reg_trickle"
    best = min(peers, key=lambda peer: peers[peer])
    yield Figure(name, ours_ms, "ms CPU per read", LIMIT_MS, peer=best, peer_value=peers.pop(best))
    for peer, peer_ms in peers.items():
        yield Figure(f"{name}.{peer.replace(' ', '_')}", peer_ms, "ms CPU per read")


def ours_cpu_ms(path: str, reads: int) -> float:
    """Of the agent's own transaction layer."""
    with SerialPort(path, BAUD) as port:
        exchange = UnitExchange(port, UNIT)
        request = ReadRequest(UNIT, 4, 0, REGISTERS)

        def read() -> bool:
            return isinstance(exchange.ask(request, 1), Answered)

        return _cpu_ms(read, reads)


def pymodbus_sync_cpu_ms(path: str, reads: int) -> float:
    client = ModbusSerialClient(path, baudrate=BAUD, timeout=1.0, retries=0)
    client.connect()
    try:
        return _cpu_ms(
            lambda: not client.read_input_registers(0, count=REGISTERS, device_id=UNIT).isError(),
            reads,
        )
    finally:
        client.close()  # type: ignore[no-untyped-call]


def pymodbus_async_cpu_ms(path: str, reads: int) -> float:
    return asyncio.run(_pymodbus_async_cpu_ms(path, reads))


async def _pymodbus_async_cpu_ms(path: str, reads: int) -> float:
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
        begun_s = time.thread_time()
        return _per_read_ms(reads, await read(reads), time.thread_time() - begun_s)
    finally:
        client.close()


def minimalmodbus_cpu_ms(path: str, reads: int) -> float:
    with serial.Serial(path, BAUD, timeout=1.0, write_timeout=1.0) as port:
        instrument = minimalmodbus.Instrument(port, UNIT)
        return _cpu_ms(
            lambda: len(instrument.read_registers(0, REGISTERS, functioncode=4)) == REGISTERS,
            reads,
        )


def _cpu_ms(read: Callable[[], bool], reads: int) -> float:
    """CPU of this thread per read, ms; each read must succeed."""
    for _ in range(_WARM_UP):
        read()
    begun_s = time.thread_time()
    right = sum(read() for _ in range(reads))
    return _per_read_ms(reads, right, time.thread_time() - begun_s)


def _per_read_ms(reads: int, right: int, spent_s: float) -> float:
    if right < reads:
        raise NotReady(f"{reads - right} of {reads} reads failed: the figure is void")
    return 1000 * spent_s / reads


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
