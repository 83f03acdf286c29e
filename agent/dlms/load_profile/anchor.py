"""Counters at interval ends, for a meter whose profile holds each interval's energy instead.

A register read between two ends lies between the counters at those ends, and
the row of that interval says how far these are apart: so each read bounds the
counter. Rows in between carry the bounds from one end to the next; when one
value is left, it is the counter, exactly. A meter with much load may never
leave one: after a day of reads the highest that is left is taken, which is
off by what flowed between an end and the read after it, always by the same,
so that energies stay exact. Until then, and beyond a row that is missing,
nothing is said: such an interval stays absent and may be asked for again. What
the store has of the meter is gone on from, so that a restart changes nothing.
Where a clock that was set back struck an end twice, nothing is counted across
it. Bounds that contradict each other, or what was taken, are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from agent.dlms.errors import AnswerMalformed, MeterDiffers
from agent.dlms.load_profile.columns import REGISTERS
from agent.dlms.load_profile.scaling import Scalings, Transformers, common, scaled
from agent.dlms.meter_class import EXPONENTS
from wire.quality import Quality

if TYPE_CHECKING:
    from agent.dlms.client import Client
    from agent.dlms.load_profile.columns import ProfileAnswer
    from agent.dlms.load_profile.meter_time import MeterTime
    from agent.dlms.meter_class import LoadProfile, Quantity
    from agent.driver import ProfileRow

log = logging.getLogger(__name__)

_DOUBTFUL: Final = int(Quality.PARTIAL | Quality.CLOCK_UNTRUSTED)
"""Rows that may lack energy, or that a clock set may have doubled: none is counted across them."""
_MOST_ENDS: Final = 10_000
"""Ends remembered: 104 days of quarters."""
_MOST_PENDING: Final = 96
_ENOUGH: Final = 96
"""Intervals with a read, a day of quarters, after which waiting for one value is in vain."""
_ENOUGH_AGAIN: Final = 4
"""The same after a row that was missing or lacked energy: the hour counts for more by then."""
_ANY: Final = 1 << 64


class Anchor:
    """One energy; all numbers in the unit of the profile's column."""

    def __init__(self, period_s: int) -> None:
        self._period_s = period_s
        self._deltas: dict[int, int] = {}
        self._pending: dict[int, tuple[int, int]] = {}
        self._twice: set[int] = set()
        self._reference: tuple[int, int, int] | None = None
        """(end, lowest, highest counter there)."""
        self._taken: tuple[int, int] | None = None
        """(end, counter there) from which all counters are told, once there is one."""
        self._bounded = 0
        self._enough = _ENOUGH

    def learn(self, deltas: Mapping[int, int]) -> None:
        """Energies of the intervals with these ends."""
        self._deltas |= {end: gained for end, gained in deltas.items() if not self._barred(end)}
        for end in sorted(self._deltas)[: max(0, len(self._deltas) - _MOST_ENDS)]:
            del self._deltas[end]
        for end in sorted(self._pending):
            gained = self._deltas.get(end + self._period_s)
            if gained is not None:
                lowest, highest = self._pending.pop(end)
                self._bound(end, lowest - gained, highest)

    def forget(self, end_utc_s: int) -> None:
        """The row of this end does not hold the energy of a whole interval."""
        self._deltas.pop(end_utc_s, None)

    def struck_twice(self, end_utc_s: int) -> None:
        """The clock struck this end twice: it has no counter, and its rows join no others."""
        self._twice = {*sorted(self._twice)[-_MOST_ENDS:], end_utc_s}
        self.forget(end_utc_s)
        self.forget(end_utc_s + self._period_s)
        self._pending.pop(end_utc_s, None)
        if self._reference is not None and self._reference[0] == end_utc_s:
            self._reference = self._taken = None

    def saw(self, end_utc_s: int, lowest: int, highest: int) -> None:
        """Between this end and the next the counter was read, and lay in [lowest, highest]."""
        if end_utc_s in self._twice:
            return
        known = self._pending.get(end_utc_s)
        # Several reads of one interval: the first bounds its beginning, the last its end.
        self._pending[end_utc_s] = (
            (lowest, highest) if known is None else (max(lowest, known[0]), min(highest, known[1]))
        )
        for end in sorted(self._pending)[:-_MOST_PENDING]:
            del self._pending[end]

    def resume(self, end_utc_s: int, counter: int) -> None:
        """Go on from a counter that was told before; nothing is known yet of the true one."""
        self._reference, self._taken = (end_utc_s, 0, _ANY), (end_utc_s, counter)
        self._enough = _ENOUGH_AGAIN

    def counters(self) -> dict[int, int]:
        """The counter at each end to which it is known."""
        if self._taken is None and self._reference is not None:
            end, least, most = self._reference
            if least == most or self._bounded >= self._enough:
                self._taken, self._enough = (end, most), _ENOUGH_AGAIN
        if self._taken is None:
            return {}
        counters = self._joined(*self._taken)
        return {end: counter for end, counter in counters.items() if counter >= 0}

    @property
    def reference_utc_s(self) -> int | None:
        """The end from which counters are told; None before there is one."""
        return None if self._taken is None else self._taken[0]

    @property
    def newest_end_utc_s(self) -> int | None:
        """The end up to which rows are wanted, so that they join what is known."""
        ends = [*self._pending, *((self._reference[0],) if self._reference else ())]
        return max(ends, default=None)

    def unknown(self, first_utc_s: int, last_utc_s: int) -> list[int]:
        """Ends in [first, last] whose energies are not known, ascending."""
        period_s = self._period_s
        first = first_utc_s + -first_utc_s % period_s
        ends = range(first, last_utc_s + 1, period_s)
        return [end for end in ends if end not in self._deltas and not self._barred(end)]

    def _barred(self, end: int) -> bool:
        return end in self._twice or end - self._period_s in self._twice

    def _bound(self, end: int, lowest: int, highest: int) -> None:
        if self._reference is not None:
            at, least, most = self._reference
            offset = self._joined(at, 0).get(end)
            if offset is not None:
                least, most = max(least, lowest - offset), min(most, highest - offset)
                if least <= most and self._agrees(at, least, most):
                    self._reference = (at, least, most)
                    self._bounded += 1
                    return
                log.warning("the profile's energies do not add up to the register; begun anew")
            elif end < at:
                return
        self._reference, self._taken, self._bounded = (end, lowest, highest), None, 1

    def _agrees(self, end: int, least: int, most: int) -> bool:
        """Whether what was taken is as near to the bounds as it was to those it was taken from."""
        if self._taken is None:
            return True
        counter = self._joined(*self._taken).get(end)
        off = max(self._deltas.values(), default=0)
        return counter is None or least - off <= counter <= most + off

    def _joined(self, reference: int, counter: int) -> dict[int, int]:
        """The counter at all ends that unbroken rows join to one where it is given."""
        period_s = self._period_s
        counters = {reference: counter}
        at = reference
        while (gained := self._deltas.get(at + period_s)) is not None:
            at += period_s
            counters[at] = counters[at - period_s] + gained
        at = reference
        while (gained := self._deltas.get(at)) is not None:
            counters[at - period_s] = counters[at] - gained
            at -= period_s
        return counters


class Anchored:
    """The energies of one meter: reads the registers, and turns rows of energies into counters."""

    def __init__(
        self,
        profile: LoadProfile,
        registers: Mapping[str, Quantity],
        scalings: Scalings,
        transformers: Transformers,
        time: MeterTime,
        period_s: int,
        meter: str,
    ) -> None:
        self._profile = profile
        self._names = [name for name in REGISTERS if name in profile.columns]
        bare = [name for name in self._names if name not in registers]
        if bare:
            raise MeterDiffers(
                f"{meter}: the profile holds the energy of each interval, and [objects] of its "
                f"class has no register for {', '.join(bare)}; add it, or remove the column"
            )
        uneven = [
            name
            for name in self._names
            if len(registers[name].attributes) != len(profile.columns[name].attributes)
        ]
        if uneven:
            raise MeterDiffers(
                f"{meter}: the profile holds the energy of each interval, and its class adds up "
                f"another number of registers than of columns for {', '.join(uneven)}; name each "
                "column's own register, in the same order"
            )
        self._registers = {name: registers[name] for name in self._names}
        self._scalings = scalings
        self._transformers = transformers
        self._time = time
        self._period_s = period_s
        self._meter = meter
        self._anchors = {name: Anchor(period_s) for name in self._names}

    def read_registers(self, client: Client) -> None:
        """Read all registers once; between two looks at the meter's clock, to know the interval."""
        self._scalings.learn(client, self._registers.values())
        clock = self._profile.clock
        attributes = [at for quantity in self._registers.values() for at in quantity.attributes]
        began, *values, ended = client.get_many([clock, *attributes, clock])
        edges = {self._edge(octets) for octets in (began, ended)}
        if len(edges) > 1:
            return
        shown = dict(zip(attributes, values, strict=True))
        for name, quantity in self._registers.items():
            lowest, highest = self._shown(name, [shown[at] for at in quantity.attributes])
            self._anchors[name].saw(min(edges), lowest, highest)

    def resume(self, end_utc_s: int, registers: Mapping[str, int]) -> None:
        """Go on from the counters of an interval that was told before; raises KeyError."""
        for name, anchor in self._anchors.items():
            # The lowest of the column's values that are told as this one.
            value = ceil((registers[name] - Fraction(1, 2)) / self._factor(name))
            anchor.resume(end_utc_s, value)

    def range_to_read(self, first_utc_s: int, last_utc_s: int) -> tuple[int, int]:
        """The range that joins [first, last] to the end that counters are told from.

        Also to the newest that was bounded; either only if it is not too far.
        """
        most = self._profile.slice_rows
        known = [anchor.reference_utc_s for anchor in self._anchors.values()]
        since = min((end for end in known if end is not None), default=first_utc_s)
        earlier = [
            end
            for anchor in self._anchors.values()
            for end in anchor.unknown(since + 1, first_utc_s - 1)
        ]
        if earlier and len(earlier) <= most * len(self._anchors):
            first_utc_s = min(earlier)
        newest = [anchor.newest_end_utc_s for anchor in self._anchors.values()]
        upto = max((end for end in newest if end is not None), default=last_utc_s)
        unknown = [
            end for anchor in self._anchors.values() for end in anchor.unknown(last_utc_s + 1, upto)
        ]
        if len(unknown) > most * len(self._anchors):
            return first_utc_s, last_utc_s
        return first_utc_s, max([last_utc_s, *unknown])

    def rows(self, answer: ProfileAnswer) -> list[ProfileRow]:
        """Rows with counters; absent where one of them is not known for certain."""
        broken = {stamp + -stamp % self._period_s for stamp in answer.off_utc_s}
        for name, anchor in self._anchors.items():
            for end in broken:
                anchor.forget(end)
            for end in broken.intersection(answer.off_utc_s):
                anchor.struck_twice(end)
            deltas = {}
            for row in answer.rows:
                delta = getattr(row, name)
                whole = delta is not None and not row.flags & _DOUBTFUL
                if whole and row.end_utc_s not in broken:
                    deltas[row.end_utc_s] = delta
            anchor.learn(deltas)
        counters = {name: anchor.counters() for name, anchor in self._anchors.items()}
        return [
            replace(
                row,
                **{
                    name: scaled(counters[name][row.end_utc_s], self._factor(name))
                    for name in self._names
                },
            )
            for row in answer.rows
            if all(row.end_utc_s in counters[name] for name in self._names)
        ]

    def _factor(self, name: str) -> Fraction:
        scaling, _ = common([self._scalings[at] for at in self._profile.columns[name].attributes])
        return scaling.factor(EXPONENTS[name], self._transformers)

    def _shown(self, name: str, values: Sequence[Any]) -> tuple[int, int]:
        """What registers say of the counter in the columns' finest unit: lowest, highest."""
        columns = [self._scalings[at] for at in self._profile.columns[name].attributes]
        lowest = highest = 0
        for value, register, column, weight in zip(
            values, self._registers[name].attributes, columns, common(columns)[1], strict=True
        ):
            if not isinstance(value, int):
                raise AnswerMalformed(f"{self._meter}: expected {name} as integer, came {value!r}")
            finer = column.scaler - self._scalings[register].scaler
            step = 10 ** max(0, -finer)
            least = value // 10 ** max(0, finer) * step
            lowest += least * weight
            highest += (least + step - 1) * weight
        return lowest, highest

    def _edge(self, octets: Any) -> int:
        if not isinstance(octets, bytes):
            raise AnswerMalformed(f"{self._meter}: expected its clock, came {octets!r}")
        return self._time.utc_s(octets) // self._period_s * self._period_s
