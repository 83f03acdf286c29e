"""An interval block: rows of one schema, packed by channel, small and bounded.

Rows may come in any order and any meter may lack any interval; what is not in
the block costs at most a bit. Registers are absolute in each block, so any
block can be read without another one, given its roster. There is no
decompressor: the header bounds the memory before anything is decoded.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ext import checksum, column
from wire.channels import SCHEMAS, Schema
from wire.quality import Quality
from wire.roster import (
    MOST_METERS,
    Roster,
    RosterDamaged,
    RosterEntry,
    decode_roster,
    read_varint,
    varint,
)
from wire.unknown import NotKnownYet

__all__ = [
    "Block",
    "BlockDamaged",
    "BlockError",
    "BlockRow",
    "BlockTooLarge",
    "Roster",
    "RosterEntry",
    "UnknownRoster",
    "UnknownSchema",
    "decode_block",
    "encode_block",
]

BlockRow: TypeAlias = tuple[int, int, Sequence[int]]
"""(end_utc_s, roster index, values in the schema's order)."""

MOST_INTERVALS: Final = 1024
MOST_VALUES: Final = 8 * 1024 * 1024
"""Rows times channels; 64 MiB when decoded."""

_MOST_VALUE: Final = 1 << 63
_VERSION: Final = 1
_CARRIES_ROSTER: Final = 1
_ALL_METERS: Final = 2
_ALL_INTERVALS: Final = 4
_RECEIPTED_BASE: Final = 8
"""Reserved: first values as differences to the last batch that was receipted."""
_HEAD: Final = struct.Struct(">BBHHIH8s")


class BlockError(ValueError):
    """A block cannot be written or read."""


class UnknownSchema(BlockError, NotKnownYet):
    """The block's schema, version or mode is not in this program: keep it sealed, update."""


class UnknownRoster(BlockError):
    """The block names a roster that has not been told: the batch that carried it is missing."""


class BlockTooLarge(BlockError):
    """More meters, intervals or values than a block may hold."""


class BlockDamaged(BlockError):
    """The bytes are not what the encoder writes."""


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block as columns; row i is (end_utc_s[i], meter[i], columns[c][i] …)."""

    schema: Schema
    interval_s: int
    roster: Roster
    carries_roster: bool
    end_utc_s: array[int]
    """array('q')"""
    meter: array[int]
    """array('H'), roster index; rows are sorted by meter, then end."""
    columns: tuple[array[int], ...]
    """One array('q') per channel of the schema."""


def encode_block(
    schema: Schema,
    roster: Roster,
    rows: Iterable[BlockRow],
    *,
    interval_s: int = 900,
    with_roster: bool,
) -> bytes:
    """Pack `rows`, at least one; raises BlockTooLarge, or BlockError for rows that do not fit.

    Values of a row flagged NO_DATA, and gauges of one flagged NO_GAUGES, mean
    nothing: they are replaced by those before and cost next to nothing.
    """
    ordered = sorted(rows, key=lambda row: (row[1], row[0]))
    check_rows(schema, roster, ordered, interval_s)
    first_end = min(row[0] for row in ordered)
    intervals = (max(row[0] for row in ordered) - first_end) // interval_s + 1
    if intervals > MOST_INTERVALS:
        raise BlockTooLarge(f"{intervals} intervals, expected at most {MOST_INTERVALS}")
    meters = sorted({row[1] for row in ordered})
    flags = _CARRIES_ROSTER if with_roster else 0
    body = b""
    if len(meters) == len(roster.entries):
        flags |= _ALL_METERS
    else:
        body += _bitmap(meters, len(roster.entries))
    if len(ordered) == len(meters) * intervals:
        flags |= _ALL_INTERVALS
    else:
        body += _presence(ordered, meters, first_end, intervals, interval_s)
    lengths = array("i", _run_lengths(ordered))
    for values in _columns(schema, ordered):
        body += column.encode(values, lengths)
    head = _HEAD.pack(
        _VERSION, flags, schema.id, interval_s, first_end // interval_s, intervals, roster.hash
    )
    carried = varint(len(roster.encoded)) + roster.encoded if with_roster else b""
    block = head + carried + body
    return block + checksum.crc32c(block).to_bytes(4, "big")


def decode_block(data: bytes, roster_by_hash: Callable[[bytes], Roster | None]) -> Block:
    """Unpack a block; raises a BlockError that says why not."""
    # All behind the first byte is the version's own, the checksum too.
    if data and data[0] != _VERSION:
        raise UnknownSchema(f"block version {data[0]}, this program reads {_VERSION}")
    if len(data) < _HEAD.size + 4:
        raise BlockDamaged(f"{len(data)} bytes, expected at least {_HEAD.size + 4}")
    data, crc = data[:-4], int.from_bytes(data[-4:], "big")
    if checksum.crc32c(data) != crc:
        raise BlockDamaged("the checksum does not fit the bytes")
    _, flags, schema_id, interval_s, first, intervals, roster_hash = _HEAD.unpack_from(data)
    schema = SCHEMAS.get(schema_id)
    if schema is None:
        raise UnknownSchema(f"schema {schema_id}, this program knows {sorted(SCHEMAS)}")
    if flags & _RECEIPTED_BASE:
        raise UnknownSchema("differences to the last receipted batch, this program has none")
    unused = flags & ~(_CARRIES_ROSTER | _ALL_METERS | _ALL_INTERVALS)
    if unused or not interval_s or not 1 <= intervals <= MOST_INTERVALS:
        raise BlockDamaged(f"flags {flags}, interval {interval_s} s, {intervals} intervals")
    try:
        roster, at = _roster(data, flags, roster_hash, roster_by_hash)
        meters, at = _meters(data, at, flags, len(roster.entries))
        present, at = _present(data, at, flags, len(meters), intervals)
        lengths = array("i", (len(of_meter) for of_meter in present))
        if not lengths:
            raise BlockDamaged("no meter of the roster occurs, expected at least one")
        if sum(lengths) * len(schema.channels) > MOST_VALUES:
            raise BlockTooLarge(f"{sum(lengths)} rows of {len(schema.channels)} channels")
        columns = []
        for _ in schema.channels:
            values, at = column.decode(data, at, lengths)
            columns.append(values)
    except (RosterDamaged, column.ColumnError) as error:
        raise BlockDamaged(str(error)) from error
    if at != len(data):
        raise BlockDamaged(f"{len(data) - at} bytes follow the last column")
    ends = array("q")
    meter = array("H")
    edges = range(first * interval_s, (first + intervals) * interval_s, interval_s)
    for index, of_meter in zip(meters, present, strict=True):
        ends.extend(map(edges.__getitem__, of_meter))
        meter.extend([index] * len(of_meter))
    carries = bool(flags & _CARRIES_ROSTER)
    return Block(schema, interval_s, roster, carries, ends, meter, tuple(columns))


def check_rows(
    schema: Schema, roster: Roster, ordered: Sequence[BlockRow], interval_s: int
) -> None:
    """Raises BlockError for rows, sorted by meter and end, that no block can hold."""
    if not ordered:
        raise BlockError("no rows, expected at least one")
    if len(roster.entries) > MOST_METERS:
        raise BlockTooLarge(f"{len(roster.entries)} meters, expected at most {MOST_METERS}")
    if len(ordered) * len(schema.channels) > MOST_VALUES:
        raise BlockTooLarge(f"{len(ordered)} rows of {len(schema.channels)} channels")
    if not 0 < interval_s <= 0xFFFF:
        raise BlockError(f"interval of {interval_s} s, expected 1 to 65535")
    before = (-1, -1)
    for end_utc_s, meter, values in ordered:
        if (meter, end_utc_s) == before:
            raise BlockError(f"meter {meter} has two rows for the interval ending {end_utc_s}")
        before = (meter, end_utc_s)
        if not 0 <= meter < len(roster.entries):
            raise BlockError(f"meter index {meter}, the roster has {len(roster.entries)} meters")
        if end_utc_s % interval_s or not 0 <= end_utc_s // interval_s < 1 << 32:
            raise BlockError(f"end {end_utc_s} s is not on an edge of {interval_s} s")
        if len(values) != len(schema.channels):
            raise BlockError(f"{len(values)} values, schema {schema.id} has {len(schema.channels)}")
        if not all(-_MOST_VALUE <= value < _MOST_VALUE for value in values):
            raise BlockError(f"meter {meter}, ending {end_utc_s}: a value does not fit 64 bits")


def _run_lengths(ordered: Sequence[BlockRow]) -> list[int]:
    lengths: list[int] = []
    before = -1
    for _, meter, _ in ordered:
        if meter == before:
            lengths[-1] += 1
        else:
            lengths.append(1)
            before = meter
    return lengths


def _columns(schema: Schema, ordered: Sequence[BlockRow]) -> list[array[int]]:
    """Columns of the rows, with what means nothing replaced by the predecessor."""
    position = schema.index("flags")
    columns = [array("q", values) for values in zip(*(row[2] for row in ordered), strict=True)]
    empty = int(Quality.NO_DATA | Quality.NO_GAUGES)
    holes = [i for i, flags in enumerate(columns[position]) if flags & empty]
    for channel, values in zip(schema.channels, columns, strict=True):
        if channel.kind == "flags":
            continue
        fills = int(Quality.NO_DATA) if channel.kind == "register" else empty
        _fill(values, [i for i in holes if columns[position][i] & fills], ordered)
    return columns


def _fill(values: array[int], holes: Sequence[int], ordered: Sequence[BlockRow]) -> None:
    """Replace what means nothing by the next known value of its run, or the last one."""
    unknown = set(holes)
    for i in reversed(holes):
        follows = i + 1 < len(ordered) and ordered[i + 1][1] == ordered[i][1]
        if follows and i + 1 not in unknown:
            values[i] = values[i + 1]
            unknown.discard(i)
    for i in holes:
        if i in unknown:
            follows = i > 0 and ordered[i - 1][1] == ordered[i][1]
            values[i] = values[i - 1] if follows else 0


def _bitmap(set_bits: Iterable[int], count: int) -> bytes:
    out = bytearray((count + 7) // 8)
    for position in set_bits:
        out[position >> 3] |= 0x80 >> (position & 7)
    return bytes(out)


def _presence(
    ordered: Sequence[BlockRow],
    meters: Sequence[int],
    first_end: int,
    intervals: int,
    interval_s: int,
) -> bytes:
    place = {meter: at * intervals for at, meter in enumerate(meters)}
    bits = (place[meter] + (end - first_end) // interval_s for end, meter, _ in ordered)
    return _bitmap(bits, len(meters) * intervals)


def _read_bitmap(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    size = (count + 7) // 8
    bits = data[at : at + size]
    if len(bits) < size:
        raise BlockDamaged("the data end inside a bitmap")
    found = [i for i in range(count) if bits[i >> 3] & (0x80 >> (i & 7))]
    if bits != _bitmap(found, count):
        raise BlockDamaged("a bitmap has bits set past its end")
    return found, at + size


def _roster(
    data: bytes, flags: int, wanted: bytes, roster_by_hash: Callable[[bytes], Roster | None]
) -> tuple[Roster, int]:
    at = _HEAD.size
    if not flags & _CARRIES_ROSTER:
        roster = roster_by_hash(wanted)
        if roster is None:
            raise UnknownRoster(f"roster {wanted.hex()} has not been told")
        return roster, at
    size, at = read_varint(data, at)
    if size > len(data) - at:
        raise BlockDamaged(f"roster of {size} bytes, only {len(data) - at} left")
    roster = decode_roster(data[at : at + size])
    if roster.hash != wanted:
        raise BlockDamaged("the carried roster is not the one that the header names")
    return roster, at + size


def _meters(data: bytes, at: int, flags: int, count: int) -> tuple[list[int], int]:
    if flags & _ALL_METERS:
        return list(range(count)), at
    return _read_bitmap(data, at, count)


def _present(
    data: bytes, at: int, flags: int, meters: int, intervals: int
) -> tuple[list[Sequence[int]], int]:
    """Per meter of the block the positions of its intervals."""
    if flags & _ALL_INTERVALS:
        return [range(intervals)] * meters, at
    found, at = _read_bitmap(data, at, meters * intervals)
    present: list[list[int]] = [[] for _ in range(meters)]
    for bit in found:
        present[bit // intervals].append(bit % intervals)
    if not all(present):
        raise BlockDamaged("a meter of the block has no interval")
    return list(present), at
