"""Rows as plain CBOR: what a third party's device may send in the place of an interval block.

Larger than a block, written with any CBOR library, and read into the same
`Block`. Deterministic CBOR: `[1, schema, interval_s, [[meter, serial,
channels, [[end_utc_s, value …, flags] …]] …]]`; a row has the values of those
channels alone that the mask names, in the schema's order. Meters ascend by
name and serial, rows by end, so that a set of rows has one encoding.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from wire import cbor
from wire.block import (
    MOST_INTERVALS,
    Block,
    BlockDamaged,
    BlockError,
    BlockRow,
    BlockTooLarge,
    UnknownSchema,
    check_rows,
)
from wire.channels import SCHEMAS, Schema
from wire.roster import MOST_METERS, Roster, RosterEntry

MOST_BYTES: Final = 128 * 1024
_VERSION: Final = 1
_MOST_NAME_BYTES: Final = 255
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1
_LAST_END: Final = (1 << 32) - 1


def encode_rows(
    schema: Schema, roster: Roster, rows: Iterable[BlockRow], *, interval_s: int = 900
) -> bytes:
    """The one encoding of a set of rows, at least one; raises BlockError for what none holds."""
    ordered = sorted(rows, key=lambda row: (row[1], row[0]))
    check_rows(schema, roster, ordered, interval_s)
    told: dict[int, list[cbor.Value]] = {}
    for end_utc_s, meter, values in ordered:
        entry = roster.entries[meter]
        kept = [values[i] for i in _positions(schema, entry.channels)]
        told.setdefault(meter, []).append([end_utc_s, *kept, values[-1]])
    meters: list[cbor.Value] = []
    for index in sorted(told, key=lambda index: _name(roster.entries[index])):
        entry = roster.entries[index]
        channels = entry.channels & _all_channels(schema)
        meters.append([entry.meter, entry.serial, channels, told[index]])
    try:
        data = cbor.encode([_VERSION, schema.id, interval_s, meters])
    except cbor.CborError as error:
        raise BlockError(f"rows that no CBOR holds: {error}") from error
    decode_rows(data)
    return data


def decode_rows(data: bytes) -> Block:
    """The rows in `data` as a block; raises a BlockError.

    It carries no roster for others to name: each of these messages names its meters itself.
    """
    if len(data) > MOST_BYTES:
        raise BlockTooLarge(f"{len(data)} bytes, allowed are {MOST_BYTES}")
    try:
        value = cbor.decode(data)
    except cbor.CborError as error:
        raise BlockDamaged(f"not deterministic CBOR: {error}") from error
    match value:
        case [int(version), *_] if version != _VERSION:
            raise UnknownSchema(f"rows version {version}, this program reads {_VERSION}")
        case [int(), int(schema_id), int(interval_s), [*meters]]:
            pass
        case _:
            raise BlockDamaged("expected version, schema, interval, meters")
    schema = SCHEMAS.get(schema_id)
    if schema is None:
        raise UnknownSchema(f"schema {schema_id}, this program knows {sorted(SCHEMAS)}")
    if not 1 <= interval_s <= 0xFFFF or not 1 <= len(meters) <= MOST_METERS:
        raise BlockDamaged(
            f"interval of {interval_s} s, {len(meters)} meters: expected 1 to 65535 s and 1 to "
            f"{MOST_METERS} meters"
        )
    return _block(schema, interval_s, meters)


def _block(schema: Schema, interval_s: int, meters: Sequence[cbor.Value]) -> Block:
    entries: list[RosterEntry] = []
    ends, of_meter = array("q"), array("H")
    columns = tuple(array("q") for _ in schema.channels)
    for index, told in enumerate(meters):
        entry, rows = _meter(schema, told)
        entries.append(entry)
        positions = _positions(schema, entry.channels)
        for row in rows:
            end_utc_s, values = _row(row, len(positions), interval_s)
            ends.append(end_utc_s)
            of_meter.append(index)
            for column in columns:
                column.append(0)
            for position, value in zip(positions, values, strict=False):
                columns[position][-1] = value
            columns[-1][-1] = values[-1]
        of_this = ends[len(ends) - len(rows) :]
        if any(later <= earlier for earlier, later in pairwise(of_this)):
            raise BlockDamaged(f"meter {index}: the rows do not ascend by their end, each once")
    if any(_name(later) <= _name(earlier) for earlier, later in pairwise(entries)):
        raise BlockDamaged("the meters do not ascend by name and serial, each once")
    intervals = (max(ends) - min(ends)) // interval_s + 1
    if intervals > MOST_INTERVALS:
        raise BlockTooLarge(f"{intervals} intervals, expected at most {MOST_INTERVALS}")
    return Block(schema, interval_s, Roster(tuple(entries)), False, ends, of_meter, columns)


def _meter(schema: Schema, value: cbor.Value) -> tuple[RosterEntry, Sequence[cbor.Value]]:
    match value:
        case [str(meter), str(serial), int(channels), [*rows]] if rows:
            pass
        case _:
            raise BlockDamaged("meter: expected name, serial number, channels, at least one row")
    sizes = len(meter.encode()), len(serial.encode())
    if not 1 <= sizes[0] <= _MOST_NAME_BYTES or sizes[1] > _MOST_NAME_BYTES:
        raise BlockDamaged(f"name and serial number of {sizes} bytes, expected 1 and 0 to 255")
    if channels & ~_all_channels(schema) or channels < 0:
        raise BlockDamaged(f"channels {channels:#x}: schema {schema.id} has others")
    return RosterEntry(meter, serial, channels), rows


def _row(value: cbor.Value, channels: int, interval_s: int) -> tuple[int, list[int]]:
    told = value if isinstance(value, list) else []
    numbers = [number for number in told if isinstance(number, int)]
    if len(numbers) != len(told) or len(numbers) != channels + 2:
        raise BlockDamaged(f"row: expected an end, {channels} values and flags, all integers")
    end_utc_s, *values = numbers
    if end_utc_s % interval_s or not 0 <= end_utc_s // interval_s <= _LAST_END:
        raise BlockDamaged(f"end {end_utc_s} s is not on an edge of {interval_s} s")
    if not all(_SMALLEST <= number <= _LARGEST for number in values):
        raise BlockDamaged(f"ending {end_utc_s}: a value does not fit 64 bits")
    return end_utc_s, values


def _all_channels(schema: Schema) -> int:
    """Mask of all channels but the last one, `flags`, which every row has."""
    return (1 << len(schema.channels) - 1) - 1


def _positions(schema: Schema, channels: int) -> list[int]:
    return [i for i in range(len(schema.channels) - 1) if channels >> i & 1]


def _name(entry: RosterEntry) -> tuple[bytes, bytes]:
    return entry.meter.encode(), entry.serial.encode()
