"""Finds the meters of a line: tries its settings, asks unit after unit, names what answers.

Only reads; nothing is written to a meter. An exception answer proves a unit
as well as a value does. A meter is named by the register in which it tells
its model; where no profile knows one, the profiles whose values are plausible
there are told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from agent.driver import ReadError
from agent.line.port import Port
from agent.modbus.exchange import UnitExchange
from agent.modbus.frame import Frame
from agent.modbus.identity import read_serial
from agent.modbus.profile import COUNTERS, Profile, models, shipped
from agent.modbus.register import Register
from agent.modbus.transaction import (
    LATE_WINDOW_S,
    READ_HOLDING,
    READ_INPUT,
    Answered,
    ReadRequest,
    Reason,
    Refused,
)
from wire.clock import Clock, SystemClock

if TYPE_CHECKING:
    from agent.modbus.exchange import Exchange

UNITS: Final = range(1, 248)
VOLTAGE_DV: Final = range(500, 3500)
"""A low-voltage phase to neutral; a wrong map seldom shows such a value."""
_PATIENCE_S: Final = 0.6
"""Response timeout for a unit that is known to be there, s (Carlo Gavazzi name 0.5 s as most)."""
_GAP_S: Final = 0.1
"""Pause between two requests to a unit whose model is not known yet, s (an SDM72D restarts when
it is hurried: reaper7/SDM_Energy_Meter issue 50)."""
_FROM_A_UNIT: Final[tuple[Reason, ...]] = ("other_unit", "other_function", "other_count", "late")
"""What is rejected so is a sound frame of the unit that it names."""

Asking = Callable[[int, "LineSettings"], None]
"""Called with the unit that is asked next and the settings, for whoever shows progress."""


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How a serial line is set: baud rate (Bd), parity, stop bits; 8 data bits."""

    baud: int
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1

    def __str__(self) -> str:
        return f"{self.baud} Bd 8{self.parity}{self.stopbits}"


@dataclass(frozen=True, slots=True)
class FoundUnit:
    """One unit that answers, and what can be said of it."""

    unit: int
    settings: LineSettings
    model: str | None
    """The shipped model that the unit itself names; None where it names none that is known."""
    fits: tuple[str, ...]
    """Shipped models whose counter and voltage are plausible there; of a named one only itself."""
    serial: str | None


@dataclass(frozen=True, slots=True)
class Identified:
    """What one unit says of itself, and which shipped models fit."""

    model: str | None
    fits: tuple[str, ...]
    serial: str | None


def scan(
    open_port: Callable[[LineSettings], Port],
    settings: Sequence[LineSettings],
    units: Iterable[int] = UNITS,
    *,
    response_timeout_s: float = 0.2,
    clock: Clock | None = None,
    asking: Asking | None = None,
) -> Iterator[FoundUnit]:
    """Units that answer, as they are found; each once, with the first settings that reach it.

    `open_port` opens the line anew with other settings and closes what it
    opened before. An absent unit costs `response_timeout_s` twice for each of
    the settings; a unit that answers only after that is heard all the same
    and asked again with more patience. Raises the port's PortLost.
    """
    left = list(units)
    for how in settings:
        if not left:
            return
        line = _ScannedLine(open_port(how), how, clock or SystemClock(), asking)
        for unit, exchange in line.answering(tuple(left), response_timeout_s):
            left.remove(unit)
            who = identify(exchange, unit)
            yield FoundUnit(unit, how, who.model, who.fits, who.serial)


def identify(exchange: Exchange, unit: int) -> Identified:
    """Which meter answers at `unit`: its model, and its serial number. Raises PortLost."""
    reader = _Reader(exchange, unit)
    profiles = [shipped(model) for model in models()]
    named = [profile for profile in profiles if reader.is_named(profile)]
    if len(named) == 1 and reader.has_counter(named[0]):
        fits = (named[0].model,) if reader.fits(named[0]) else ()
        return Identified(named[0].model, fits, reader.serial(named))
    fitting = [profile for profile in profiles if reader.fits(profile)]
    among_named = [profile for profile in fitting if profile in named]
    fitting = among_named or fitting
    return Identified(None, tuple(profile.model for profile in fitting), reader.serial(fitting))


class _ScannedLine:
    """One line with one setting: who answers, and who was heard too late."""

    def __init__(
        self, port: Port, settings: LineSettings, clock: Clock, asking: Asking | None
    ) -> None:
        self._port = port
        self._settings = settings
        self._clock = clock
        self._asking = asking
        self._late: set[int] = set()

    def answering(
        self, units: Sequence[int], response_timeout_s: float
    ) -> Iterator[tuple[int, UnitExchange]]:
        """Those of `units` that answer, as they are found, each with a patient exchange.

        All are asked with one function before any is with the other: a unit
        that stays silent owes an answer, and the wait for that is spent on
        the others.
        """
        asked = {unit: self._exchange(unit, response_timeout_s) for unit in units}
        for unit in units:
            if self._answers(asked[unit], unit, READ_HOLDING):
                del asked[unit]
                yield unit, self._exchange(unit, _PATIENCE_S)
        for unit in tuple(asked):
            if self._answers(asked[unit], unit, READ_INPUT):
                del asked[unit]
                yield unit, self._settled(unit)
        for unit in tuple(asked):
            if unit in self._late:
                exchange = self._settled(unit)
                if self._answers(exchange, unit, READ_HOLDING):
                    yield unit, exchange

    def _exchange(self, unit: int, response_timeout_s: float) -> UnitExchange:
        return UnitExchange(
            self._port,
            unit,
            gap_s=_GAP_S,
            response_timeout_s=response_timeout_s,
            clock=self._clock,
            observe=self._overhear,
        )

    def _settled(self, unit: int) -> UnitExchange:
        """A new exchange with a unit that may still owe the old one an answer."""
        until_s = time.monotonic() + LATE_WINDOW_S
        while time.monotonic() < until_s:
            self._port.read(1, until_s)
        return self._exchange(unit, _PATIENCE_S)

    def _answers(self, exchange: UnitExchange, unit: int, function: int) -> bool:
        if self._asking is not None:
            self._asking(unit, self._settings)
        try:
            exchange.ask(_probe(unit, function), 1)
        except ReadError:
            return False
        return True

    def _overhear(self, frame: Frame) -> None:
        if frame.direction == "heard" and frame.verdict in _FROM_A_UNIT:
            self._late.add(frame.data[0])


class _Reader:
    """Reads of one unit whose model is not known; each is asked once."""

    def __init__(self, exchange: Exchange, unit: int) -> None:
        self._exchange = exchange
        self._unit = unit
        self._heard: dict[ReadRequest, bytes | None] = {}
        self._served: dict[int, bool] = {}

    def is_named(self, profile: Profile) -> bool:
        """Whether the unit holds the model that one of the profile's rules wants."""
        for rule in profile.identify:
            data = self._read(rule.register.request(self._unit))
            if data is not None and rule.matches(data, profile.word_order):
                return True
        return False

    def has_counter(self, profile: Profile) -> bool:
        """Whether the profile's counters of imported energy can be read there."""
        return self._values(profile, profile.sample["import_wh"]).get("import_wh") is not None

    def fits(self, profile: Profile) -> bool:
        """Whether a first voltage and the imported energy are plausible as the profile reads them.

        A profile without voltages is judged by its power.
        """
        gauge = "voltage_dv" if "voltage_dv" in profile.sample else "power_w"
        values = self._values(
            profile, (*profile.sample["import_wh"], *profile.sample.get(gauge, ())[:1])
        )
        if any((values.get(name) or 0) < 0 for name in COUNTERS) or values.get("import_wh") is None:
            return False
        shown = values.get(gauge)
        return shown in VOLTAGE_DV if gauge == "voltage_dv" else shown is not None

    def serial(self, profiles: Sequence[Profile]) -> str | None:
        """The serial number that the unit tells; None if it tells none.

        Nor is there one where the profiles disagree about its register: a
        number that is read there means nothing.
        """
        told = {
            (replace(profile.serial, sources=()), profile.word_order)
            for profile in profiles
            if profile.serial is not None
        }
        if len(told) != 1:
            return None
        ((register, word_order),) = told
        try:
            return read_serial(self._exchange, self._unit, register, word_order, float("inf"))
        except ReadError:
            return None

    def _values(self, profile: Profile, registers: Iterable[Register]) -> dict[str, int | None]:
        """Sample fields as far as `registers` can be read, each alone; flagged ones are None."""
        words: dict[int, bytes] = {}
        for register in registers:
            field = register.field
            data = self._read(ReadRequest(self._unit, profile.function, field.address, field.words))
            if data is None:
                return {}
            for offset in range(field.words):
                words[field.address + offset] = data[2 * offset : 2 * offset + 2]
        return profile.reading(words).values

    def _read(self, request: ReadRequest) -> bytes | None:
        """The answer's registers; None if the unit has none to give."""
        if request not in self._heard:
            verdict = self._ask(request) if self._serves(request.function) else None
            self._heard[request] = verdict.data if isinstance(verdict, Answered) else None
        return self._heard[request]

    def _serves(self, function: int) -> bool:
        """Whether the unit answers this function at all; one that ignores it costs its silence."""
        if function not in self._served:
            probe = _probe(self._unit, function)
            self._served[function] = self._ask(probe) is not None
        return self._served[function]

    def _ask(self, request: ReadRequest) -> Answered | Refused | None:
        try:
            return self._exchange.ask(request, 1)
        except ReadError:
            return None


def _probe(unit: int, function: int) -> ReadRequest:
    """What every meter answers that knows the function, be it with an exception."""
    return ReadRequest(unit, function, 0, 2)
