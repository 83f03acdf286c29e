"""Closed intervals on their way from a line to the store, and their packed form on disk."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ext.checksum import crc32c
from wire.channels import SCHEMAS
from wire.quality import Quality

Values = Sequence[int]
"""One interval's values in the order of its schema; the last one is the flags."""

_FORM = {"register": "q", "gauge": "i", "flags": "I"}
_PACKED = {
    schema.id: struct.Struct("<" + "".join(_FORM[channel.kind] for channel in schema.channels))
    for schema in SCHEMAS.values()
}
_NO_DATA = {
    schema.id: (*(0 for _ in schema.channels[1:]), int(Quality.NO_DATA))
    for schema in SCHEMAS.values()
}
_KEY = struct.Struct("<qII")
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


def pack(end_utc_s: int, meter: int, epoch: MeterEpoch, epoch_id: int, values: Values) -> bytes:
    """Values with their CRC-32C, which also covers the key.

    A gauge outside 32 bits is no reading of a power meter: the gauges are
    then dropped and said to be out of range.
    """
    form = _PACKED[epoch.schema_id]
    try:
        packed = form.pack(*values)
    except struct.error:
        packed = form.pack(*_without_gauges(epoch.schema_id, values))
    return packed + crc32c(_KEY.pack(end_utc_s, meter, epoch_id) + packed).to_bytes(4, "little")


def unpack(
    end_utc_s: int, meter: int, schema_id: int, epoch_id: int, stored: bytes
) -> tuple[int, ...]:
    """The values of a stored row; raises RowDamaged."""
    form = _PACKED[schema_id]
    packed, crc = stored[:-4], int.from_bytes(stored[-4:], "little")
    if len(packed) != form.size or crc32c(_KEY.pack(end_utc_s, meter, epoch_id) + packed) != crc:
        raise RowDamaged(
            f"stored interval {end_utc_s} of meter number {meter}: expected {form.size} bytes with "
            "their checksum, came something else; the disk is failing, replace it"
        )
    return form.unpack(packed)


def _without_gauges(schema_id: int, values: Values) -> list[int]:
    kept = []
    for channel, value in zip(SCHEMAS[schema_id].channels, values, strict=True):
        outside = channel.kind == "gauge" and not -_GAUGE_LIMIT <= value < _GAUGE_LIMIT
        kept.append(0 if outside else value)
    kept[-1] |= Quality.NO_GAUGES | Quality.OUT_OF_RANGE
    return kept
