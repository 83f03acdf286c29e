"""A Modbus TCP gateway that other people wrote, with meters behind it and faults on demand."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def words(value: float) -> list[int]:
    """A float32 as two registers, high word first."""
    return list(struct.unpack(">2H", struct.pack(">f", value)))


def energy_kwh(unit: int) -> float:
    """What the counter of a unit shows unless a test says otherwise."""
    return 1000.0 + unit


class Server:
    """A pymodbus server with SDM120 meters at `units`; faults are set while it runs."""

    def __init__(self, units: range, import_kwh: Callable[[int], float] = energy_kwh) -> None:
        self.tamper: Callable[[bytes], bytes] = bytes
        """Changes what is sent."""
        self.delay_s: dict[int, float] = {}
        """Of one unit's next answer."""
        self.code: dict[int, ExcCodes] = {}
        """What a unit answers instead of its registers."""
        self.port = 0
        self._units = units
        self._import_kwh = import_kwh
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; on the same port as before after a stop."""
        ready = threading.Event()
        self._stop = asyncio.Event()

        async def serve() -> None:
            server = ModbusTcpServer(
                [self._device(unit) for unit in self._units],
                address=("127.0.0.1", self.port),
                trace_packet=lambda sending, data: self.tamper(data) if sending else data,
            )
            await server.serve_forever(background=True)
            self.port = server.transport.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            await server.shutdown()

        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(serve(),), daemon=True
        )
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Close every connection and listen no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(10)

    def _device(self, unit: int) -> SimDevice:
        registers = [0] * 80
        for address, value in ((0, 230.0), (6, 1.0), (12, 230.0), (72, self._import_kwh(unit))):
            registers[address : address + 2] = words(value)

        async def act(
            function: int, start: int, address: int, count: int, held: list[int], written: object
        ) -> ExcCodes | None:
            await asyncio.sleep(self.delay_s.pop(unit, 0.0))
            if start <= 72:
                held[72 - start : 74 - start] = words(self._import_kwh(unit))
            return self.code.get(unit)

        data = [SimData(0, values=registers, datatype=DataType.REGISTERS)]
        return SimDevice(unit, simdata=data, action=act)


@contextmanager
def served(units: range, import_kwh: Callable[[int], float] = energy_kwh) -> Iterator[Server]:
    """A server that listens inside the block."""
    server = Server(units, import_kwh)
    server.start()
    try:
        yield server
    finally:
        server.stop()
