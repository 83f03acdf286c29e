"""Finds the meters of a line: asks unit after unit, and tries which profiles fit.

Only reads; nothing is written to a meter. An exception answer proves a unit
as well as a value does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.driver import ReadError
from agent.line.port import Port
from agent.modbus.driver import ModbusDriver
from agent.modbus.exchange import UnitExchange
from agent.modbus.profile import Profile, models, shipped
from agent.modbus.transaction import READ_HOLDING, READ_INPUT, ReadRequest
from wire.clock import Clock, SystemClock

UNITS = range(1, 248)
_VOLTAGE_DV = range(500, 3500)
"""A low-voltage phase to neutral; a wrong map seldom shows such a value."""


@dataclass(frozen=True, slots=True)
class FoundUnit:
    """One unit that answers, and the models whose profile yields a plausible voltage there."""

    unit: int
    fits: tuple[str, ...]


def scan(
    port: Port,
    units: Iterable[int] = UNITS,
    *,
    response_timeout_s: float = 0.2,
    clock: Clock | None = None,
) -> Iterator[FoundUnit]:
    """Units that answer, as they are found; an absent one costs `response_timeout_s` twice.

    Raises the port's PortLost.
    """
    for unit in units:
        if answers(port, unit, response_timeout_s):
            yield FoundUnit(unit, tuple(_fitting(port, unit, clock or SystemClock())))


def answers(port: Port, unit: int, response_timeout_s: float = 0.2) -> bool:
    """Whether anything at `unit` answers a read of two registers, be it with an exception."""
    exchange = UnitExchange(port, unit, response_timeout_s=response_timeout_s)
    for function in (READ_INPUT, READ_HOLDING):
        try:
            exchange.ask(ReadRequest(unit, function, 0, 2), 1)
        except ReadError:
            continue
        return True
    return False


def _fitting(port: Port, unit: int, clock: Clock) -> Iterator[str]:
    for model in models():
        profile = shipped(model)
        if _fits(port, unit, profile, clock):
            yield model


def _fits(port: Port, unit: int, profile: Profile, clock: Clock) -> bool:
    try:
        sample = ModbusDriver.on_port(port, unit, profile, clock).sample()
    except ReadError:
        return False
    return sample.voltage_dv in _VOLTAGE_DV
