"""The units that are asked on one port: what one's exchange hears may concern another.

A question by another master makes its unit owe an answer that could be taken
for ours. Whichever exchange listens when it goes over the line tells the unit
that it was put to.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from agent.line.port import Port
from agent.modbus.request import READ_HOLDING, READ_INPUT, REQUEST_LENGTH, is_question
from agent.modbus.transaction import UnitTransactions


class Neighbours:
    """The units of one port. Used by the thread that owns the port."""

    def __init__(self) -> None:
        self._units: WeakValueDictionary[int, UnitTransactions] = WeakValueDictionary()
        self._tail = b""
        self._heard_by: list[int] = []
        """Which unit's exchange heard each byte of the tail."""

    def join(self, unit: UnitTransactions) -> None:
        """From now on `unit` is told what others are heard to ask it."""
        self._units[unit.unit] = unit

    def hear(self, data: bytes, now_s: float, listener: int) -> None:
        """Look for questions in bytes that are no answer to us, heard while `listener` is asked.

        A question may be cut in two by successive reads, each by another
        listener. One that the unit itself heard whole it knows already.
        """
        heard = self._tail + data
        heard_by = self._heard_by + [listener] * len(data)
        self._tail = heard[1 - REQUEST_LENGTH :]
        self._heard_by = heard_by[1 - REQUEST_LENGTH :]
        for at in range(len(heard) - REQUEST_LENGTH + 1):
            end = at + REQUEST_LENGTH
            if heard[at + 1] not in (READ_HOLDING, READ_INPUT):
                continue
            unit = self._units.get(heard[at])
            if unit is None or heard_by[at:end] == [heard[at]] * REQUEST_LENGTH:
                continue
            if is_question(heard[at:end]):
                unit.asked_by_another(heard[at:end], now_s)


_ON: Final[WeakKeyDictionary[Port, Neighbours]] = WeakKeyDictionary()


def neighbours_on(port: Port) -> Neighbours:
    """The one circle of the units that are asked on `port`."""
    return _ON.setdefault(port, Neighbours())
