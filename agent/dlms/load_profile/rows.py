"""Decodes the buffer of a load profile quickly: rows of one layout at a time, at C speed.

Rows of a profile nearly always repeat the layout of the row before them. So
one row is decoded by the general decoder, and all rows after it that have the
same tags at the same places are unpacked together. What does not fit goes to
the general decoder again: the result never depends on which path was taken.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.axdr import AxdrError
from agent.dlms.constants import Tag

Row = tuple[Any, ...]

_FORMATS: Final[dict[int, str]] = {
    Tag.I32: "i",
    Tag.U32: "I",
    Tag.I8: "b",
    Tag.I16: "h",
    Tag.U8: "B",
    Tag.U16: "H",
    Tag.I64: "q",
    Tag.U64: "Q",
    Tag.ENUM: "B",
    Tag.BOOLEAN: "?",
}
_FEWEST_AHEAD: Final = 4


def decode_rows(data: bytes) -> tuple[list[Row], int]:
    """Rows of an array of structures that begins `data`, and where it ends; raises AxdrError.

    A compact array holds one layout by its nature and is decoded as such.
    """
    if data[:1] == bytes([Tag.COMPACT_ARRAY]):
        return _of_compact_array(data)
    if data[:1] != bytes([Tag.ARRAY]):
        raise AxdrError(f"expected an array (tag 1) of rows, found {data[:1].hex() or 'no data'}")
    count, at = axdr.read_length(data, 1)
    if count > len(data) - at:
        raise AxdrError(f"{count} rows cannot fit {len(data) - at} bytes")
    rows: list[Row] = []
    ahead = _FEWEST_AHEAD
    while len(rows) < count:
        start = at
        row, at = axdr.decode(data, at)
        if not isinstance(row, tuple):
            raise AxdrError(f"expected row {len(rows) + 1} to be a structure, found {row!r}")
        rows.append(row)
        layout = _layout(data[start:at])
        while layout is not None and len(rows) < count:
            tried = min(ahead, count - len(rows))
            fitting = _fitting(data, at, tried, layout)
            rows += _unpacked(data, at, fitting, layout)
            at += fitting * layout.size
            ahead = tried * 2 if fitting == tried else _FEWEST_AHEAD
            if fitting < tried:
                break
    return rows, at


def _of_compact_array(data: bytes) -> tuple[list[Row], int]:
    rows, at = axdr.decode(data)
    if not all(isinstance(row, tuple) for row in rows):
        raise AxdrError("expected a compact array of structures, found one of single values")
    return rows, at


class _Layout:
    """Where in a row of `size` bytes which fixed bytes stand, and how to unpack the rest."""

    __slots__ = ("fixed", "nulls", "size", "unpacker")

    def __init__(
        self, fixed: tuple[tuple[int, bytes], ...], nulls: tuple[int, ...], form: str, size: int
    ) -> None:
        self.fixed = fixed
        self.nulls = nulls
        self.unpacker = struct.Struct(form)
        self.size = size


def _layout(row: bytes) -> _Layout | None:
    """The layout of an encoded row; None if it is nested, too wide or of no fixed size."""
    columns = row[1]
    if columns >= 0x80:
        return None
    shape = bytearray(row[:2])
    at = 2
    for _ in range(columns):
        tag = row[at]
        shape.append(tag)
        at += 1
        if tag == Tag.NULL:
            continue
        if tag in (Tag.OCTETS, Tag.DATE_TIME):
            size = 12 if tag == Tag.DATE_TIME else row[at]
            if size >= 0x80:
                return None
            if tag == Tag.OCTETS:
                at += 1
            shape.append(size)
            at += size
        elif tag in _FORMATS:
            at += struct.calcsize(">" + _FORMATS[tag])
        else:
            return None
    return _built(bytes(shape))


@lru_cache(maxsize=64)
def _built(shape: bytes) -> _Layout:
    fixed = [(0, shape[:1]), (1, shape[1:2])]
    nulls: list[int] = []
    form = ">2x"
    at, position = 2, 2
    for column in range(shape[1]):
        tag = shape[position]
        position += 1
        fixed.append((at, bytes([tag])))
        at += 1
        if tag == Tag.NULL:
            nulls.append(column)
            form += "B"
        elif tag in (Tag.OCTETS, Tag.DATE_TIME):
            size = shape[position]
            position += 1
            if tag == Tag.OCTETS:
                fixed.append((at, bytes([size])))
                at += 1
                form += "x"
            form += f"x{size}s"
            at += size
        else:
            form += "x" + _FORMATS[tag]
            at += struct.calcsize(">" + _FORMATS[tag])
    return _Layout(tuple(fixed), tuple(nulls), form, at)


def _fitting(data: bytes, at: int, tried: int, layout: _Layout) -> int:
    """How many of the next `tried` rows have this layout."""
    size = layout.size
    fitting = min(tried, (len(data) - at) // size)
    for offset, byte in layout.fixed:
        places = data[at + offset : at + fitting * size : size]
        if places != byte * fitting:
            fitting = len(places) - len(places.lstrip(byte))
    return fitting


def _unpacked(data: bytes, at: int, count: int, layout: _Layout) -> list[Row]:
    if not count:
        return []
    rows: list[Row] = list(
        layout.unpacker.iter_unpack(memoryview(data)[at : at + count * layout.size])
    )
    for column in layout.nulls:
        rows = [(*row[:column], None, *row[column + 1 :]) for row in rows]
    return rows
