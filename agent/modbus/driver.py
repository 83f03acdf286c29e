"""One Modbus meter as a `SampledDriver`: its values in as few reads as the line formula allows.

What the meter refuses is asked in smaller pieces, and a value that it refuses
alone is not asked again: it comes out as None. A meter that was silent is
mostly asked once, not twice, until it answers again, so that it costs its
neighbours little.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.driver import CounterLimits, MeterRefused, MeterSilent, ProfileRow, Sample
from agent.line.port import Port
from agent.modbus.exchange import AnswerRejected, UnitExchange
from agent.modbus.identity import NoSerialRegister, read_serial
from agent.modbus.meter_plan import MeterPlan
from agent.modbus.planner import Field, LineCost, Read
from agent.modbus.profile import COUNTERS, Profile, Ratio, ShownRegister
from agent.modbus.transaction import EXCEPTIONS, Answered, ReadRequest, Refused
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.modbus.exchange import Exchange
    from agent.modbus.frame import Observer
    from agent.modbus.gateway import TcpGateway

_ATTEMPTS: Final = 2
_TRY_OTHERWISE: Final = 4
"""Of so many rounds with a silent meter one asks twice and one asks for a single value first."""
_NAMELESS_ROUNDS: Final = 3
"""A meter that tells its values and so many times no serial number is taken to have none."""
_ILLEGAL_FUNCTION: Final = 1
_NOT_THESE: Final = (_ILLEGAL_FUNCTION, 2, 3)
"""Exceptions that say "not these registers" rather than "not now"."""
_NO_RATIO: Final = Ratio()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that the profile knows of, as the meter shows it at one instant."""

    at_utc_ms: int
    serial: str | None
    registers: tuple[ShownRegister, ...]


@dataclass(slots=True)
class _Round:
    """What one round of reads brought, and when each of them was asked and answered (UTC s)."""

    deadline_s: float
    words: dict[int, bytes]
    spans: list[tuple[Read, tuple[float, float]]]
    unasked: bool = False
    """Whether the round ended because there was no time to ask at all."""

    def middle_utc_ms(self, fields: Collection[Field]) -> int:
        """The middle of the transactions that read one of `fields`, or of all of them."""
        spans = [span for read, span in self.spans if not set(fields).isdisjoint(read.fields)]
        spans = spans or [span for _, span in self.spans]
        sent_s, came_s = min(span[0] for span in spans), max(span[1] for span in spans)
        return round((sent_s + came_s) / 2 * 1000)


class ModbusDriver:
    """The meter of `profile` at `unit`, asked through `exchange`.

    `clock` stamps; deadlines are real time. `ratio` makes primary values of a
    meter that counts on the secondary side of its transformers.
    """

    def __init__(
        self,
        exchange: Exchange,
        unit: int,
        profile: Profile,
        clock: Clock,
        *,
        ratio: Ratio = _NO_RATIO,
    ) -> None:
        self.exchange = exchange
        self._unit = unit
        self._profile = profile
        self._clock = clock
        self._ratio = ratio
        self._name = f"{profile.model} at unit {unit}"
        self._fields = frozenset(r.field for rs in profile.sample.values() for r in rs)
        self._counters = frozenset(r.field for n in COUNTERS for r in profile.sample.get(n, ()))
        self._plan = self._new_plan()
        self._serial_register = profile.serial
        self._told: str | None = None
        """The serial number that the meter told last."""
        self._silent_rounds = 0
        self._nameless_rounds = 0

    @classmethod
    def on_port(
        cls,
        port: Port,
        unit: int,
        profile: Profile,
        clock: Clock,
        *,
        ratio: Ratio = _NO_RATIO,
        observe: Observer | None = None,
    ) -> ModbusDriver:
        """The meter on a serial port, asked at the pace that its profile says."""
        exchange = UnitExchange(
            port,
            unit,
            gap_s=profile.gap_s,
            response_timeout_s=profile.response_timeout_s,
            name=f"{profile.model} at unit {unit}",
            clock=clock,
            observe=observe,
        )
        return cls(exchange, unit, profile, clock, ratio=ratio)

    @classmethod
    def behind_gateway(
        cls,
        gateway: TcpGateway,
        unit: int,
        profile: Profile,
        clock: Clock,
        *,
        ratio: Ratio = _NO_RATIO,
        observe: Observer | None = None,
    ) -> ModbusDriver:
        """The meter behind a Modbus TCP gateway, at the same pace and with the same checks."""
        from agent.modbus.tcp import TcpExchange

        exchange = TcpExchange(
            gateway,
            unit,
            gap_s=profile.gap_s,
            response_timeout_s=profile.response_timeout_s,
            name=f"{profile.model} at unit {unit}",
            clock=clock,
            observe=observe,
        )
        return cls(exchange, unit, profile, clock, ratio=ratio)

    @property
    def keeps_profile(self) -> bool:
        return False

    @property
    def counter_limits(self) -> CounterLimits:
        """What is known about the meter's counters, on the primary side."""
        return self._profile.counter_limits(self._ratio)

    @property
    def reads(self) -> tuple[Read, ...]:
        """The requests of one sample, in order."""
        return self._plan.reads(self._fields)

    @property
    def cost(self) -> LineCost:
        """What the requests are planned for; the turnaround is the meter's once it is known."""
        return self._plan.cost

    @property
    def refused(self) -> tuple[str, ...]:
        """Names of the registers that the meter refuses and that are asked no more."""
        return tuple(r.name for r in self._profile.registers if r.field in self._plan.refused)

    @property
    def tells_serial(self) -> bool:
        """Whether a source names its serial register, and the meter did not refuse it."""
        return self._serial_register is not None

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        """Read registers and gauges now, with `identify` the serial number after them.

        Begins no transaction that could end after `deadline_s` (monotonic).
        Raises ReadError, PortLost.
        """
        done = self._read(self._fields, deadline_s)
        reading = self._profile.reading(done.words, self._ratio)
        values = reading.values
        for name in COUNTERS:
            if (value := values.get(name)) is not None and value < 0:
                raise AnswerRejected(
                    f"{self._name}: {name}: expected a counter of 0 or more, got {value}; this is "
                    "another model than the configuration says: run scan"
                )
        return Sample(
            at_utc_ms=done.middle_utc_ms(self._counters),
            import_wh=values.get("import_wh"),
            export_wh=values.get("export_wh"),
            import_varh=values.get("import_varh"),
            voltage_dv=values.get("voltage_dv"),
            current_ca=values.get("current_ca"),
            power_w=values.get("power_w"),
            serial=self.serial(deadline_s) if identify else None,
            flags=reading.flags,
        )

    def serial(self, deadline_s: float = math.inf) -> str | None:
        """The serial number, None where the meter does not tell it; raises ReadError, PortLost."""
        if self._serial_register is None:
            return None
        try:
            serial = read_serial(
                self.exchange,
                self._unit,
                self._serial_register,
                self._profile.word_order,
                deadline_s,
            )
        except (NoSerialRegister, MeterSilent, AnswerRejected) as error:
            # Some meters do not answer at all where they have no such register.
            self._nameless_rounds += 1
            known_not_to = isinstance(error, NoSerialRegister) and self._told is None
            if not known_not_to and self._nameless_rounds < _NAMELESS_ROUNDS:
                raise
            self._serial_register = None
            log.warning("%s: %s; the serial number is not asked again", self._name, error)
            return None
        self._nameless_rounds = 0
        if serial is not None and self._told not in (None, serial):
            # Another meter may have what this one refused, and refuse what it took.
            self._plan = self._new_plan()
        self._told = serial or self._told
        return serial

    def read_all(self) -> Shown:
        """Every register of the profile, and the serial number; raises ReadError, PortLost."""
        done = self._read(frozenset(r.field for r in self._profile.registers), math.inf)
        return Shown(
            at_utc_ms=done.middle_utc_ms(self._counters),
            serial=self.serial(),
            registers=self._profile.shown(done.words, self._ratio),
        )

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise MeterRefused(
            f"{self._name}: expected a load profile, this model keeps none; sample it instead"
        )

    # --- one round of reads -----------------------------------------------------------------

    def _read(self, fields: frozenset[Field], deadline_s: float) -> _Round:
        self._plan.begin(self.exchange.turnaround_s)
        done = _Round(deadline_s, {}, [])
        try:
            first = self._plan.reads(fields)[0]
            if self._silent_rounds % _TRY_OTHERWISE == 2 and self._plan.is_new(first):
                # A meter that was never heard may take short reads only.
                self._fetch(self._short(first), done)
            for read in self._plan.reads(fields):
                self._fetch(read, done)
        except MeterSilent:
            self._silent_rounds += not done.unasked
            if self._told is not None and self._serial_register is None:
                # Another meter may stand there when it answers again.
                self._serial_register, self._nameless_rounds = self._profile.serial, 0
            raise
        self._silent_rounds = 0
        self._plan.end()
        return done

    def _fetch(self, read: Read, done: _Round) -> None:
        """Put the registers of `read` into `done`; split and remember what the meter refuses."""
        request = ReadRequest(self._unit, self._profile.function, read.address, read.count)
        attempts = self._attempts(done)
        began_s = time.monotonic()
        try:
            verdict = self.exchange.ask(request, attempts, done.deadline_s)
        except (MeterSilent, AnswerRejected) as error:
            made = self._attempts_made(attempts, began_s, done)
            done.unasked = not made
            # What the deadline cut short says nothing about the meter.
            parts = self._plan.silent(read) if made == attempts else ()
            if not parts:
                raise
            log.warning("%s: %s; asked in shorter reads from now on", self._name, error)
        else:
            if isinstance(verdict, Answered):
                for offset in range(read.count):
                    done.words[read.address + offset] = verdict.data[2 * offset : 2 * offset + 2]
                done.spans.append((read, self.exchange.span_utc_s))
                self._plan.answered(read)
                return
            parts = self._refused(read, verdict)
        for part in parts:
            self._fetch(part, done)

    def _refused(self, read: Read, verdict: Refused) -> tuple[Read, ...]:
        """What to ask instead of a refused read; raises MeterRefused where nothing helps."""
        text = f"exception {verdict.code} ({EXCEPTIONS.get(verdict.code, 'unknown')})"
        what = f"{self._name}: expected {read.count} registers from {read.address}, got {text}; "
        if verdict.code not in _NOT_THESE:
            raise MeterRefused(what + "if it persists, see the meter's display")
        if verdict.code == _ILLEGAL_FUNCTION and self._plan.is_new(Read(0, 1, ())):
            raise MeterRefused(what + _OTHER_MODEL)
        parts = self._plan.refuse(read)
        if not parts:
            log.warning(
                "%s refuses registers from %d, %s: asked no more", self._name, read.address, text
            )
            if any(r.field in self._plan.refused for r in self._profile.sample["import_wh"]):
                # Asked anew next time: a meter that is starting refuses what it has later on.
                self._plan = self._new_plan()
                raise MeterRefused(what + "it is its counter of imported energy; " + _OTHER_MODEL)
        return parts

    def _attempts_made(self, attempts: int, began_s: float, done: _Round) -> int:
        """How many attempts the deadline left time for: each lasted the whole response timeout."""
        if done.deadline_s == math.inf:
            return attempts
        spent_s = time.monotonic() - began_s
        return min(attempts, int(spent_s / self._profile.response_timeout_s))

    def _attempts(self, done: _Round) -> int:
        if done.spans or self._silent_rounds % _TRY_OTHERWISE == 0:
            return _ATTEMPTS
        return 1

    def _short(self, read: Read) -> Read:
        """The first value of `read` alone."""
        return self._plan.reads(frozenset(read.fields[:1]))[0]

    def _new_plan(self) -> MeterPlan:
        profile = self._profile
        cost = LineCost(self.exchange.char_s, profile.turnaround_s, profile.gap_s)
        return MeterPlan(profile.limits, cost)


_OTHER_MODEL: Final = "this is another model than the configuration says: run scan"
