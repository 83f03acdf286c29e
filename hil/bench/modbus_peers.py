"""Modbus masters side by side: ours, and those that others use, each as its documents say.

All ask unit 1 for input registers with the same timeout and without a repeat,
so that an outcome is one transaction's. A client that has lost its port is
connected again before its next read, as a caller would.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import minimalmodbus
import serial
from pymodbus import ModbusException
from pymodbus.client import AsyncModbusSerialClient, ModbusSerialClient
from pymodbus.pdu import ModbusPDU

from agent.driver import ReadError
from agent.line.port import PortLost
from agent.line.serial_port import SerialPort
from agent.modbus.exchange import UnitExchange
from agent.modbus.transaction import Answered, ReadRequest

# What it logs of every fault would drown the table.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())

UNIT: Final = 1
FUNCTION: Final = 4
BAUD: Final = 9600
TIMEOUT_S: Final = 0.3
CANCEL_S: Final = 0.05
"""When a caller that is to be cancelled goes away."""

Outcome = bytes | None
"""The registers' bytes as the caller got them; None if it got an error or a refusal."""


@dataclass(frozen=True, slots=True)
class Step:
    """One read of a case: `count` registers from `address`."""

    address: int
    count: int
    cancelled: bool = False
    """Whether the caller gives up before the answer can have come."""
    before: Callable[[], None] | None = None
    """What happens on the line before the read."""


class Master(Protocol):
    """A way to read registers over the port at `path`."""

    def __call__(self, path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
        """The outcome of each step, on one connection; `gap_s` is the pause the meter needs."""
        ...


class Cancelled(BaseException):
    """The caller went away, as by Ctrl-C."""


class _Interrupted(SerialPort):
    """A port whose reader is interrupted where it waits for the answer, if it is to be."""

    interrupt = False
    _sent = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self._sent = self.interrupt

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        if self._sent:
            self.interrupt = self._sent = False
            raise Cancelled
        return super().read(at_least, deadline_s, due_s)


def ours(path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
    """The agent's own transaction layer, one attempt."""
    with _Interrupted(path, BAUD) as port:
        exchange = UnitExchange(port, UNIT, gap_s=gap_s, response_timeout_s=TIMEOUT_S)

        def read(step: Step) -> Outcome:
            port.interrupt = step.cancelled
            try:
                verdict = exchange.ask(ReadRequest(UNIT, FUNCTION, step.address, step.count), 1)
            except (ReadError, PortLost, Cancelled):
                return None
            return verdict.data if isinstance(verdict, Answered) else None

        return [_read(step, read) for step in steps]


def pymodbus_sync(path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
    """pymodbus' blocking client."""
    client = ModbusSerialClient(path, baudrate=BAUD, timeout=TIMEOUT_S, retries=0)

    def read(step: Step) -> Outcome:
        if not client.connected and not client.connect():
            return None
        try:
            answer = client.read_input_registers(step.address, count=step.count, device_id=UNIT)
        except ModbusException:
            return None
        return _words(answer)

    try:
        client.connect()
        return [_read(step, read) for step in steps]
    finally:
        client.close()  # type: ignore[no-untyped-call]


def pymodbus_async(path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
    """pymodbus' asyncio client; a cancelled read is one in `asyncio.wait_for`."""
    return asyncio.run(_pymodbus_async(path, steps, gap_s))


async def _pymodbus_async(path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
    client = AsyncModbusSerialClient(
        path, baudrate=BAUD, timeout=TIMEOUT_S, retries=0, reconnect_delay_max=5.0
    )
    outcomes: list[Outcome] = []
    try:
        await client.connect()
        for step in steps:
            if step.before is not None:
                step.before()
            if not client.connected:
                await client.connect()
            reading = client.read_input_registers(step.address, count=step.count, device_id=UNIT)
            try:
                answer = await asyncio.wait_for(reading, CANCEL_S if step.cancelled else None)
            except (ModbusException, TimeoutError):
                outcomes.append(None)
                continue
            outcomes.append(_words(answer))
    finally:
        client.close()
    return outcomes


def minimalmodbus_rtu(path: str, steps: Sequence[Step], gap_s: float) -> list[Outcome]:
    """minimalmodbus, which gives up a port only when it is told to."""
    opened: list[minimalmodbus.Instrument] = []

    def read(step: Step) -> Outcome:
        try:
            if not opened:
                opened.append(_instrument(path))
            words = opened[0].read_registers(step.address, step.count, functioncode=FUNCTION)
        except minimalmodbus.ModbusException:
            return None
        except (serial.SerialException, OSError):
            while opened:
                opened.pop().serial.close()
            return None
        return struct.pack(f">{len(words)}H", *words)

    try:
        return [_read(step, read) for step in steps]
    finally:
        for instrument in opened:
            instrument.serial.close()


def _instrument(path: str) -> minimalmodbus.Instrument:
    instrument = minimalmodbus.Instrument(
        serial.Serial(path, BAUD, timeout=TIMEOUT_S, write_timeout=TIMEOUT_S), UNIT
    )
    instrument.serial.timeout = TIMEOUT_S
    return instrument


def _read(step: Step, read: Callable[[Step], Outcome]) -> Outcome:
    if step.before is not None:
        step.before()
    return read(step)


def _words(answer: ModbusPDU) -> Outcome:
    if answer.isError():
        return None
    return struct.pack(f">{len(answer.registers)}H", *answer.registers)


OURS: Final = "ours"
MASTERS: Final[dict[str, Master]] = {
    OURS: ours,
    "pymodbus sync": pymodbus_sync,
    "pymodbus async": pymodbus_async,
    "minimalmodbus": minimalmodbus_rtu,
}
CANCELLABLE: Final = (OURS, "pymodbus async")
"""Whose reads a caller can abandon and then read on with the same client."""
