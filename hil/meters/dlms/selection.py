"""Selective access to a profile's buffer: by range (1) and by entry (2); IEC 62056-6-2, class 7."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.clock import Zone
from hil.meters.dlms.names import CLOCK

Captured = tuple[tuple[int, bytes], ...]
"""Class and logical name of each column; attribute 2 of it is captured."""
Row = TypeVar("Row")
_FIFO, _LIFO = 1, 2
_FAR_S: Final = 1 << 40
_BY: Final = {1: "range", 2: "entry"}


class Malformed(ValueError):
    """A selection that makes no sense, or one that the meter does not offer."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows whose stamp lies in [first, last], UTC seconds as the meter shows them."""

    first_s: int
    last_s: int
    columns: tuple[int, ...]

    def bounds(self, quirks: frozenset[str]) -> tuple[int, int]:
        """First and last stamp as a meter with these habits takes them."""
        if "range empty" in quirks:
            return 1, 0
        if "range ignored" in quirks:
            return 0, _FAR_S
        first_s, last_s = self.first_s, self.last_s
        if "whole hours" in quirks:
            first_s, last_s = first_s + -first_s % 3600, last_s - last_s % 3600
        return first_s + ("start excluded" in quirks), last_s


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows by number from 1; `last` 0 is the last one."""

    first: int
    last: int
    columns: tuple[int, ...]

    def of(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are meant."""
        return list(rows[max(0, self.first - 1) : self.last or None])


def parse(
    selection: bytes, zone: Zone, captured: Captured, quirks: frozenset[str]
) -> Range | Entries:
    """What a client asks for; without selection all entries. Raises Malformed."""
    every = tuple(range(len(captured)))
    if not selection:
        return Entries(1, 0, every)
    by = _BY.get(selection[0])
    if by is None or f"{by} refused" in quirks:
        raise Malformed(f"selector {selection[0]} is not offered")
    try:
        value, _ = axdr.decode(selection, 1)
        if by == "entry":
            first, last, first_column, last_column = value
            return Entries(first, last, every[first_column - 1 : last_column or None])
        restricting, first, last, wanted = value
        if tuple(restricting) != (8, CLOCK, 2, 0):
            raise Malformed(f"rows are selected by the clock, not by {restricting}")
        columns = tuple(_position(one, captured) for one in wanted)
        return Range(zone.instant(first), zone.instant(last), columns or every)
    except (axdr.AxdrError, ValueError, TypeError, IndexError, struct.error) as error:
        raise Malformed(str(error)) from error


def _position(wanted: Any, captured: Captured) -> int:
    class_id, name, index, _ = wanted
    if index != 2:
        raise Malformed(f"attribute {index} is not captured")
    return captured.index((class_id, name))


def capture_objects(captured: Captured) -> bytes:
    """Attribute 3 of the profile."""
    return axdr.array(
        axdr.structure(
            axdr.number(18, class_id), axdr.octets(name), axdr.number(15, 2), axdr.number(18, 0)
        )
        for class_id, name in captured
    )


def sort_method(quirks: frozenset[str]) -> bytes:
    """Attribute 5 of the profile: first in, first out; or last in, first out."""
    return axdr.number(Tag.ENUM, _LIFO if "newest first" in quirks else _FIFO)
