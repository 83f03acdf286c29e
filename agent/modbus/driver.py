"""One Modbus meter as a `Driver`: a profile's values in as few reads as the line formula allows.

What the meter refuses is asked in smaller pieces, and a value that it refuses
alone is not asked again: it comes out as None. A meter that was silent is
asked once, not twice, until it answers again, so that it costs its neighbours
little.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from agent.driver import CounterLimits, MeterRefused, MeterSilent, ProfileRow, Sample
from agent.line.port import Port
from agent.modbus.exchange import AnswerRejected, UnitExchange
from agent.modbus.planner import Field, LineCost, Read, plan, split
from agent.modbus.profile import COUNTERS, Profile
from agent.modbus.transaction import EXCEPTIONS, Answered, ReadRequest
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.modbus.exchange import Exchange
    from agent.modbus.profile import Ratio

_ATTEMPTS: Final = 2
_NOT_THESE: Final = (1, 2, 3)
"""Exceptions that say "not these registers" rather than "not now"."""

log = logging.getLogger(__name__)


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
        ratio: Ratio | None = None,
    ) -> None:
        self.exchange = exchange
        self._unit = unit
        self._profile = profile
        self._clock = clock
        self._ratio = ratio
        self._name = f"{profile.model} at unit {unit}"
        wanted = {r.field for registers in profile.sample.values() for r in registers}
        self._counters = {r.field for name in COUNTERS for r in profile.sample.get(name, ())}
        cost = LineCost(exchange.char_s, max(profile.turnaround_s, profile.gap_s))
        self._planned = plan(wanted, cost, profile.limits)
        self._reads = list(self._planned)
        self._refused: set[Field] = set()
        self._was_silent = False

    @classmethod
    def on_port(cls, port: Port, unit: int, profile: Profile, clock: Clock) -> ModbusDriver:
        """The meter on a serial port, asked at the pace that its profile says."""
        exchange = UnitExchange(
            port,
            unit,
            gap_s=profile.gap_s,
            response_timeout_s=profile.response_timeout_s,
            name=f"{profile.model} at unit {unit}",
            clock=clock,
        )
        return cls(exchange, unit, profile, clock)

    @property
    def keeps_profile(self) -> bool:
        return False

    @property
    def reads(self) -> tuple[Read, ...]:
        """The requests of one sample, in order."""
        return tuple(self._reads)

    @property
    def refused(self) -> tuple[str, ...]:
        """Names of the registers that the meter refuses and that are asked no more."""
        return tuple(r.name for r in self._profile.registers if r.field in self._refused)

    @property
    def counter_limits(self) -> CounterLimits:
        """What is known about the meter's counters."""
        return CounterLimits()

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        try:
            sample = self._sample()
        except MeterSilent:
            self._was_silent = True
            raise
        self._was_silent = False
        return sample

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise MeterRefused(
            f"{self._name}: expected a load profile, this model keeps none; sample it instead"
        )

    def _sample(self) -> Sample:
        words: dict[int, bytes] = {}
        spans = [
            span
            for read in tuple(self._reads)
            for fields, span in self._fetch(read, words)
            if not self._counters.isdisjoint(fields)
        ]
        if any(r.field in self._refused for r in self._profile.sample["import_wh"]):
            refused = ", ".join(self.refused)
            self._reads = list(self._planned)
            self._refused.clear()
            raise MeterRefused(
                f"{self._name}: expected its counter of imported energy, it refused {refused}; "
                "this is another model than the configuration says: run scan"
            )
        values = self._profile.reading(words).values
        for name in COUNTERS:
            if (value := values.get(name)) is not None and value < 0:
                raise AnswerRejected(
                    f"{self._name}: {name}: expected a counter of 0 or more, got {value}; this is "
                    "another model than the configuration says: run scan"
                )
        middle_s = (min(sent_s for sent_s, _ in spans) + max(came_s for _, came_s in spans)) / 2
        return Sample(
            at_utc_ms=round(middle_s * 1000),
            import_wh=values.get("import_wh"),
            export_wh=values.get("export_wh"),
            import_varh=values.get("import_varh"),
            voltage_dv=values.get("voltage_dv"),
            current_ca=values.get("current_ca"),
            power_w=values.get("power_w"),
        )

    def _fetch(
        self, read: Read, words: dict[int, bytes]
    ) -> Iterator[tuple[tuple[Field, ...], tuple[float, float]]]:
        """Put the registers of `read` into `words`; split and remember what the meter refuses.

        Yields what was read, and when (UTC s) it was asked and answered.
        """
        request = ReadRequest(self._unit, self._profile.function, read.address, read.count)
        verdict = self.exchange.ask(request, 1 if self._was_silent else _ATTEMPTS)
        if isinstance(verdict, Answered):
            for offset in range(read.count):
                words[read.address + offset] = verdict.data[2 * offset : 2 * offset + 2]
            yield read.fields, self.exchange.span_utc_s
            return
        if verdict.code not in _NOT_THESE:
            raise MeterRefused(
                f"{self._name}: expected {read.count} registers from {read.address}, got exception "
                f"{verdict.code} ({EXCEPTIONS.get(verdict.code, 'unknown')}); if it persists, "
                "see the meter's display"
            )
        smaller = split(read, self._profile.limits)
        at = self._reads.index(read)
        if smaller == (read,):
            self._refused.update(read.fields)
            self._reads[at : at + 1] = []
            log.warning(
                "%s refuses registers from %d (exception %d): asked no more",
                self._name,
                read.address,
                verdict.code,
            )
            return
        self._reads[at : at + 1] = smaller
        for part in smaller:
            yield from self._fetch(part, words)
