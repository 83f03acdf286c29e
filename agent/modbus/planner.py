"""Which reads fetch a meter's values in the least bus time: an exact dynamic programme.

Each read costs `T(R) = (8 + 5 + 2R) * char + 2 * t35 + turnaround`, so reading
across a hole pays as long as the hole is cheaper than another request. No
value is split, no barrier read across, no limit of the meter exceeded.
"""

from __future__ import annotations

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
class Limits:
    """What one meter's requests must keep to."""

    max_registers: int = MAX_REGISTERS
    align: int = 1
    """Every count is a multiple of it."""
    barriers: tuple[int, ...] = ()
    """Wire addresses that are never read across nor read."""


@dataclass(frozen=True, slots=True)
class LineCost:
    """What the line and the meter take; times in s."""

    char_s: float
    turnaround_s: float = 0.04

    @property
    def t35_s(self) -> float:
        """The silence around a frame: 3.5 characters, at least 1.75 ms."""
        return t35(self.char_s)

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

    Two successive reads get different counts where known fields allow it:
    the count then tells their answers apart.
    """
    wanted = sorted(set(fields), key=lambda field: (field.address, field.words))
    best: list[tuple[float, int, tuple[Read, ...]]] = [(0.0, 0, ())]
    for stop in range(1, len(wanted) + 1):
        options = []
        for start in range(stop):
            read = _read(wanted[start:stop], limits)
            if read is not None:
                spent_s, requests, reads = best[start]
                options.append((spent_s + cost.of(read.count), requests + 1, (*reads, read)))
        if not options:
            field = wanted[stop - 1]
            raise UnplannableField(
                f"{field.words} registers from {field.address}: expected at most "
                f"{limits.max_registers} and no barrier inside; correct the profile's limits"
            )
        best.append(min(options, key=lambda option: option[:2]))
    return _tell_apart(best[-1][2], limits)


def bus_time_s(reads: Sequence[Read], cost: LineCost) -> float:
    """What the line formula says for all `reads`."""
    return sum(cost.of(read.count) for read in reads)


def split(read: Read, limits: Limits) -> tuple[Read, ...]:
    """`read` in two halves, field by field; itself if it has a single field."""
    if len(read.fields) == 1:
        return (read,)
    middle = len(read.fields) // 2
    halves = (_read(read.fields[:middle], limits), _read(read.fields[middle:], limits))
    return tuple(half for half in halves if half is not None)


def _read(fields: Sequence[Field], limits: Limits) -> Read | None:
    """One read for all `fields` (sorted by address); None if the limits forbid it."""
    start = fields[0].address
    end = max(field.end for field in fields)
    count = -(-(end - start) // limits.align) * limits.align
    if count > limits.max_registers or start + count > 65536:
        return None
    if any(start <= barrier < start + count for barrier in limits.barriers):
        return None
    return Read(start, count, tuple(fields))


def _tell_apart(reads: tuple[Read, ...], limits: Limits) -> tuple[Read, ...]:
    """Order the reads so that as few neighbours as possible have the same count."""
    waiting = sorted(reads, key=lambda read: (-read.count, read.address))
    ordered: list[Read] = []
    while waiting:
        other = [read for read in waiting if not ordered or read.count != ordered[-1].count]
        chosen = max(
            other or waiting, key=lambda read: sum(read.count == rest.count for rest in waiting)
        )
        waiting.remove(chosen)
        ordered.append(chosen)
    return tuple(ordered)
