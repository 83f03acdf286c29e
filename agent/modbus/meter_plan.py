"""Which reads one meter is asked, remade as the meter shows what it takes.

A refused read is asked in smaller pieces and never again whole; a value that
is refused alone is asked no more. A meter that refuses long reads, or does not
answer them, gets shorter ones. What was learned holds until the program ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.modbus.planner import Field, Limits, LineCost, Read, Span, plan, split

_OTHER_SHARE: Final = 0.25
"""A turnaround that differs by more than this share may be worth another plan."""
_OTHER_S: Final = 0.001
"""And by more than this: the clock of a busy machine differs by as much."""


class MeterPlan:
    """Reads for sets of fields of one meter, within its limits and at least cost."""

    def __init__(self, limits: Limits, cost: LineCost) -> None:
        self.limits = limits
        self.cost = cost
        """What the plans are made for."""
        self.refused: frozenset[Field] = frozenset()
        """Values that the meter refuses and that are asked no more."""
        self._longest = 0
        self._heard = False
        self._cut: list[Read] = []
        self._plans: dict[frozenset[Field], tuple[Read, ...]] = {}

    def reads(self, fields: frozenset[Field]) -> tuple[Read, ...]:
        """The requests for `fields`, in order; without those that the meter refuses."""
        if fields not in self._plans:
            self._plans[fields] = plan(fields - self.refused, self.cost, self.limits)
        return self._plans[fields]

    def begin(self, turnaround_s: float | None) -> None:
        """A round of reads begins; `turnaround_s` is the meter's, request's end to answer's begin.

        None while it is not known.
        """
        self._heard = False
        if turnaround_s is None:
            return
        own_s = max(0.0, turnaround_s - self.cost.t35_s)
        planned_s = self.cost.turnaround_s
        if abs(own_s - planned_s) > max(_OTHER_S, _OTHER_SHARE * planned_s):
            self.cost = replace(self.cost, turnaround_s=own_s)
            self._plans.clear()

    def is_new(self, read: Read) -> bool:
        """Whether the meter never answered a read of so many registers."""
        return read.count > self._longest

    def answered(self, read: Read) -> None:
        """The meter sent all of `read`."""
        self._heard = True
        self._longest = max(self._longest, read.count)

    def refuse(self, read: Read) -> tuple[Read, ...]:
        """What to ask instead of a refused read; nothing if it was a single value."""
        self._heard = True
        self._plans.clear()
        parts = split(read, self.limits)
        if parts == (read,):
            self.refused |= set(read.fields)
            return ()
        span = Span(read.fields[0].address, max(field.end for field in read.fields))
        others = [
            known
            for known in self.limits.refused
            if not (known.address <= span.address and span.end <= known.end)
        ]
        self.limits = replace(self.limits, refused=(*others, span))
        self._cut.append(read)
        return parts

    def silent(self, read: Read) -> tuple[Read, ...]:
        """What to ask instead of a read that was not answered; nothing if its length is innocent.

        Its length is to blame if the meter said something in this round and
        never answered a read as long.
        """
        if not self._heard or not self.is_new(read) or len(read.fields) == 1:
            return ()
        return self.refuse(read)

    def end(self) -> None:
        """The round is over and each of its values was read or refused: draw the conclusion.

        A read that was refused whole and could be had in pieces was too long,
        unless longer ones are answered.
        """
        cut, self._cut = self._cut, []
        whole = [read.count for read in cut if self.refused.isdisjoint(read.fields)]
        shortest = min(whole, default=0)
        if shortest <= self._longest:
            return
        most = max(self._longest, shortest // 2)
        if most < self.limits.max_registers:
            self.limits = replace(self.limits, max_registers=most)
            self._plans.clear()
