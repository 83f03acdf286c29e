"""Which reads fetch a meter's values in the least bus time: an exact dynamic programme.

Each read costs `T(R) = (8 + 5 + 2R) * char + 2 * t35 + turnaround`, and the
meter's own pause before the next one, so reading across a hole pays as long as
the hole is cheaper than another request. No value is split, no barrier read
across, no limit of the meter exceeded, no read repeated that it refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.modbus.transaction import MAX_REGISTERS

_T35_FLOOR_S = 0.00175


class UnplannableField(ValueError):
    """A value needs more registers than the meter sends at once."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value: `words` registers from wire address `address` on."""

    address: int
    words: int

    @property
    def end(self) -> int:
        return self.address + self.words


@dataclass(frozen=True, slots=True)
class Span:
    """Registers from wire address `address` up to but not including `end`."""

    address: int
    end: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one meter's requests must keep to."""

    max_registers: int = MAX_REGISTERS
    align: int = 1
    """Every count is a multiple of it."""
    barriers: tuple[int, ...] = ()
    """Wire addresses that are never read across nor read."""
    refused: tuple[Span, ...] = ()
    """What the meter refused to send at once: no merged read holds one of these whole."""


@dataclass(frozen=True, slots=True)
class LineCost:
    """What the line and the meter take; times in s."""

    char_s: float
    turnaround_s: float = 0.04
    """The meter's own delay between a request and its answer, t3.5 not included."""
    gap_s: float = 0.0
    """The pause that the meter needs between an answer and the next request to it."""

    @property
    def t35_s(self) -> float:
        """The silence around a frame: 3.5 characters, at least 1.75 ms."""
        return t35(self.char_s)

    @property
    def between_s(self) -> float:
        """What the meter's pause adds between two successive reads of it."""
        return max(0.0, self.gap_s - self.t35_s)

    def of(self, registers: int) -> float:
        """Bus time of one read of so many registers."""
        return (8 + 5 + 2 * registers) * self.char_s + 2 * self.t35_s + self.turnaround_s


@dataclass(frozen=True, slots=True)
class Read:
    """One request: `count` registers from `address` on, for the sake of `fields`."""

    address: int
    count: int
    fields: tuple[Field, ...]


def t35(char_s: float) -> float:
    """Silence that separates frames, s (Modbus over serial line 1.02, 2.5.1.1)."""
    return max(3.5 * char_s, _T35_FLOOR_S)


def plan(fields: Collection[Field], cost: LineCost, limits: Limits) -> tuple[Read, ...]:
    """The reads of least bus time that cover all `fields`; raises UnplannableField.

    Successive reads, and the last and the first of the next round, get
    different counts where that costs nothing: the count then tells their
    answers apart.
    """
    wanted = sorted(set(fields), key=lambda field: (field.address, field.words))
    # Per prefix of the fields: time spent, where its last read begins, that read.
    best: list[tuple[float, int, Read | None]] = [(0.0, 0, None)]
    for stop in range(1, len(wanted) + 1):
        chosen: tuple[float, int, Read | None] | None = None
        end = 0
        for start in range(stop - 1, -1, -1):
            end = max(end, wanted[start].end)
            if end - wanted[start].address > limits.max_registers:
                break
            read = _read(wanted[start:stop], end, limits)
            if read is None:
                continue
            spent_s = best[start][0] + cost.of(read.count) + cost.between_s
            if chosen is None or spent_s <= chosen[0]:
                chosen = (spent_s, start, read)
        if chosen is None:
            field = wanted[stop - 1]
            raise UnplannableField(
                f"{field.words} registers from {field.address}: expected at most "
                f"{limits.max_registers} and no barrier inside; correct the profile's limits"
            )
        best.append(chosen)
    reads = []
    stop = len(wanted)
    while stop:
        _, stop, last = best[stop]
        assert last is not None
        reads.append(last)
    return _tell_apart(reads)


def bus_time_s(reads: Sequence[Read], cost: LineCost) -> float:
    """What the line formula says for all `reads`, with the meter's pauses between them."""
    return sum(cost.of(read.count) for read in reads) + max(0, len(reads) - 1) * cost.between_s


def split(read: Read, limits: Limits) -> tuple[Read, ...]:
    """`read` in two halves, field by field; itself if it has a single field."""
    if len(read.fields) == 1:
        return (read,)
    middle = len(read.fields) // 2
    halves = (read.fields[:middle], read.fields[middle:])
    reads = (_read(half, max(field.end for field in half), limits) for half in halves)
    return tuple(half for half in reads if half is not None)


def _read(fields: Sequence[Field], end: int, limits: Limits) -> Read | None:
    """One read for all `fields` (sorted by address) up to `end`; None if the limits forbid it."""
    first = fields[0].address
    count = -(-(end - first) // limits.align) * limits.align
    if count > limits.max_registers:
        return None
    if len(fields) > 1 and any(
        first <= span.address and span.end <= end for span in limits.refused
    ):
        return None
    # What fills up to the alignment lies after the fields, or before them if it must.
    for start in range(first, end - count - 1, -1):
        if start < 0 or start + count > 65536:
            continue
        if not any(start <= barrier < start + count for barrier in limits.barriers):
            return Read(start, count, tuple(fields))
    return None


def _tell_apart(reads: Sequence[Read]) -> tuple[Read, ...]:
    """Order the reads so that as few neighbours as possible, in a circle, have the same count."""
    often = Counter(read.count for read in reads)
    waiting = sorted(reads, key=lambda read: (-often[read.count], -read.count, read.address))
    ordered: list[Read | None] = [None] * len(reads)
    # The most frequent counts take every other place, the others lie between them.
    places = [*range(0, len(reads), 2), *range(1, len(reads), 2)]
    for place, read in zip(places, waiting, strict=True):
        ordered[place] = read
    return tuple(read for read in ordered if read is not None)
