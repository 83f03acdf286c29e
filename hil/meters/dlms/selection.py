"""Selective access to a profile's buffer: by range (1) and by entry (2); IEC 62056-6-2, class 7."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.dlms import axdr
from hil.meters.dlms.clock import Zone

Captured = Sequence[tuple[int, bytes]]
"""Class and logical name of each column; attribute 2 of it is captured."""


class Malformed(ValueError):
    """A selection that makes no sense."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows whose stamp lies in [first, last], UTC seconds as the meter shows them."""

    first_s: int
    last_s: int
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows by number from 1; `last` 0 is the last one."""

    first: int
    last: int
    columns: tuple[int, ...]


def parse(selection: bytes, zone: Zone, captured: Captured) -> Range | Entries:
    """What a client asks for; raises Malformed."""
    try:
        value, _ = axdr.decode(selection, 1)
        if selection[0] == 1:
            _, first, last, wanted = value
            columns = tuple(_position(one, captured) for one in wanted)
            return Range(
                zone.instant(first), zone.instant(last), columns or tuple(range(len(captured)))
            )
        if selection[0] == 2:
            first, last, first_column, last_column = value
            columns = tuple(range(len(captured)))[first_column - 1 : last_column or None]
            return Entries(first, last, columns)
    except (axdr.AxdrError, ValueError, TypeError, IndexError, struct.error) as error:
        raise Malformed(str(error)) from error
    raise Malformed(f"no selector {selection[0]}")


def _position(wanted: Any, captured: Captured) -> int:
    class_id, name, index, _ = wanted
    if index != 2:
        raise Malformed(f"attribute {index} is not captured")
    return list(captured).index((class_id, name))


def capture_objects(captured: Captured) -> bytes:
    """Attribute 3 of the profile."""
    return axdr.array(
        axdr.structure(
            axdr.number(18, class_id), axdr.octets(name), axdr.number(15, 2), axdr.number(18, 0)
        )
        for class_id, name in captured
    )
