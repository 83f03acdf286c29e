"""Closed intervals on their way from a line to the store, and their form on disk.

On disk every channel of every schema is a column under its own name, so that
anyone can read the table as it stands; a channel that a row's schema lacks is
NULL. Beside them stands the CRC-32C of the row: half of all flipped bits pass
SQLite's own check.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ext.checksum import crc32c
from wire.channels import SCHEMAS
from wire.quality import Quality

Values = Sequence[int]
"""One interval's values in the order of its schema; the last one is the flags."""

CHANNELS: tuple[str, ...] = tuple(
    dict.fromkeys(
        channel.name
        for schema in SCHEMAS.values()
        for channel in schema.channels
        if channel.kind != "flags"
    )
)
"""Columns of `interval` that hold values, in their order."""
COLUMNS: tuple[str, ...] = ("end_utc_s", "meter", "epoch", "batch", "flags", "crc32c", *CHANNELS)
"""All columns of `interval`."""
ALL_COLUMNS = ", ".join(COLUMNS)
WRITE_ROW = (
    f"INSERT INTO interval ({ALL_COLUMNS}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (end_utc_s, meter) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])
)
"""Writes a row as `to_columns` gives it over whatever stands there."""

_FORM = {"register": "q", "gauge": "i", "flags": "I"}
_PACKED = {
    schema.id: struct.Struct("<qIIQ" + "".join(_FORM[channel.kind] for channel in schema.channels))
    for schema in SCHEMAS.values()
}
"""What the checksum is over: the row's key, epoch and batch, then its values."""
_AT = {
    schema.id: tuple(CHANNELS.index(channel.name) for channel in schema.channels[:-1])
    for schema in SCHEMAS.values()
}
_NO_DATA = {
    schema.id: (*(0 for _ in schema.channels[1:]), int(Quality.NO_DATA))
    for schema in SCHEMAS.values()
}
_GAUGE_LIMIT = 1 << 31


class RowDamaged(ValueError):
    """A stored row does not match its checksum; it is reported missing, never used."""


@dataclass(frozen=True, slots=True)
class MeterEpoch:
    """One meter with one serial number: no difference is ever taken across two of them.

    `channels` is the bit mask of the schema's channels that the meter has.
    """

    meter: str
    serial: str
    schema_id: int
    channels: int


@dataclass(frozen=True, slots=True)
class MeterRows:
    """Closed intervals of one meter epoch: (end in UTC seconds, values)."""

    epoch: MeterEpoch
    rows: list[tuple[int, Values]]


@dataclass(frozen=True, slots=True)
class EdgeRows:
    """What one line knows when it has finished with the edge `end_utc_s`.

    `rows` may hold older intervals too; they are committed with the edge.
    """

    line: str
    end_utc_s: int
    rows: list[MeterRows]


def no_data(schema_id: int) -> Values:
    """The values of an interval that is reported missing."""
    return _NO_DATA[schema_id]


def to_columns(
    end_utc_s: int, meter: int, epoch_id: int, batch: int, schema_id: int, values: Values
) -> tuple[int | None, ...]:
    """One row of `interval`, in the order of COLUMNS.

    A gauge outside 32 bits is no reading of a power meter: the gauges are
    then dropped and said to be out of range.
    """
    key = (end_utc_s, meter, epoch_id, batch)
    try:
        packed = _PACKED[schema_id].pack(*key, *values)
    except struct.error:
        values = _without_gauges(schema_id, values)
        packed = _PACKED[schema_id].pack(*key, *values)
    channels: list[int | None] = [None] * len(CHANNELS)
    for at, value in zip(_AT[schema_id], values, strict=False):
        channels[at] = value
    return (*key, values[-1], crc32c(packed), *channels)


def from_columns(schema_id: int, row: Sequence[Any]) -> tuple[int, ...]:
    """The values of a row of `interval`, as the database gave it; raises RowDamaged."""
    end_utc_s, meter, epoch_id, batch, flags, crc, *channels = row
    try:
        values = (*(channels[at] for at in _AT[schema_id]), flags)
        packed = _PACKED[schema_id].pack(end_utc_s, meter, epoch_id, batch, *values)
        lacking = channels.count(None)
        if crc32c(packed) == crc and lacking == len(CHANNELS) - len(_AT[schema_id]):
            return values
    except (KeyError, struct.error):
        pass  # A schema or a value that none of our rows has: damaged all the same.
    raise RowDamaged(
        f"stored interval {end_utc_s} of meter number {meter}: its checksum is not that of its "
        "values; it is reported missing; if there are more, the disk is failing: replace it"
    )


def _without_gauges(schema_id: int, values: Values) -> list[int]:
    kept = []
    for channel, value in zip(SCHEMAS[schema_id].channels, values, strict=True):
        outside = channel.kind == "gauge" and not -_GAUGE_LIMIT <= value < _GAUGE_LIMIT
        kept.append(0 if outside else value)
    kept[-1] |= Quality.NO_GAUGES | Quality.OUT_OF_RANGE
    return kept
