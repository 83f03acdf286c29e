"""How others would write the same intervals: the peers of the block's size, each at its best.

Every form carries what its reader needs to know the meters (an id or an alias
a row), but the block itself and the column forms, which name a roster once.
The Sparkplug B payload is written after its protobuf definition (Eclipse
Sparkplug 3.0, 6.4: metrics with alias, timestamp, datatype and value).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import cbor2
import numpy as np
import numpy.typing as npt
import zstandard
from pcodec import ChunkConfig, standalone

from wire.channels import PROFILE_SCHEMA

_CHANNELS: Final = tuple(channel.name for channel in PROFILE_SCHEMA.channels)
_ROSTER_BYTES: Final = 8
_VARINT, _MESSAGE = 0, 2
_INT64: Final = 4
"""Sparkplug's data type number of a signed 64-bit integer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some intervals of some meters: ends [interval], values [channel][meter][interval]."""

    end_utc_s: npt.NDArray[np.int64]
    channels: npt.NDArray[np.int64]

    def rows(self) -> Iterator[tuple[int, int, list[int]]]:
        """(end, meter, values in the schema's order)."""
        for step, end in enumerate(self.end_utc_s.tolist()):
            for meter in range(self.channels.shape[1]):
                yield end, meter, self.channels[:, meter, step].tolist()


def json_rows(sample: Sample) -> bytes:
    """An object a row, with the channels' names."""
    rows = [
        {"meter": f"m{meter:06d}", "end": end, **dict(zip(_CHANNELS, values, strict=True))}
        for end, meter, values in sample.rows()
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def sparkplug_b(sample: Sample) -> bytes:
    """A DDATA payload: one metric a value, by alias."""
    payload = _field(1, _VARINT) + _varint(int(sample.end_utc_s[-1]) * 1000)
    for end, meter, values in sample.rows():
        for channel, value in enumerate(values):
            metric = b"".join(
                (
                    _field(2, _VARINT) + _varint(meter * len(values) + channel),
                    _field(3, _VARINT) + _varint(end * 1000),
                    _field(4, _VARINT) + _varint(_INT64),
                    _field(11, _VARINT) + _varint(value % (1 << 64)),
                )
            )
            payload += _field(2, _MESSAGE) + _varint(len(metric)) + metric
    return payload + _field(3, _VARINT) + _varint(0)


def cbor_rows(sample: Sample) -> bytes:
    """An array a row: end, meter, values."""
    return bytes(cbor2.dumps([[end, meter, *values] for end, meter, values in sample.rows()]))


def cbor_columns(sample: Sample) -> bytes:
    """Per channel the first value of each meter, then differences along time."""
    columns = [
        [channel[:, 0].tolist(), np.diff(channel, axis=1).ravel().tolist()]
        for channel in sample.channels
    ]
    return bytes(cbor2.dumps([bytes(_ROSTER_BYTES), int(sample.end_utc_s[0]), columns]))


def pcodec(sample: Sample) -> bytes:
    """pcodec at level 8, per channel as values or as first values and differences."""
    config = ChunkConfig(compression_level=8)

    def packed(values: npt.NDArray[np.int64]) -> bytes:
        return bytes(standalone.simple_compress(np.ascontiguousarray(values.ravel()), config))

    parts = [bytes(_ROSTER_BYTES + 8)]
    for channel in sample.channels:
        whole = packed(channel)
        split = packed(channel[:, 0])
        if channel.shape[1] > 1:
            split += packed(np.diff(channel, axis=1))
        parts.append(min(whole, split, key=len))
    return b"".join(parts)


def _zstd(encoded: Callable[[Sample], bytes]) -> Callable[[Sample], bytes]:
    compressor = zstandard.ZstdCompressor(level=9)
    return lambda sample: compressor.compress(encoded(sample))


PEERS: Final[Mapping[str, Callable[[Sample], bytes]]] = {
    "JSON rows": json_rows,
    "JSON rows + zstd-9": _zstd(json_rows),
    "Sparkplug B, aliases": sparkplug_b,
    "Sparkplug B, aliases + zstd-9": _zstd(sparkplug_b),
    "CBOR rows": cbor_rows,
    "CBOR rows + zstd-9": _zstd(cbor_rows),
    "CBOR columns, differences + zstd-9": _zstd(cbor_columns),
    "pcodec level 8": pcodec,
}


def _field(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
