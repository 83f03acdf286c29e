"""The block of one layer and one day: a 64-byte header, then uint16 values [step][cell].

Little-endian throughout. A value is raw x scale + offset; raw 65535 means no
data. The same values always give the same bytes, so that the SHA-256 of a
block can name it.

    0  4s   magic "LSB1"          16  f64  scale
    4  u16  header version, 1     24  f64  offset
    6  u16  bits per value, 16    32  u16  raw value that means no data, 65535
    8  u32  cells                 34  30s  unit, UTF-8, zero padded
    12 u32  steps
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<4sHHIIddH30s")
_MAGIC = b"LSB1"
_VERSION = 1
_BITS = 16
NO_DATA = 65535
_HIGHEST = NO_DATA - 1


class MapBlockError(ValueError):
    """The bytes are not a block that this version can read."""


@dataclass(frozen=True, slots=True, eq=False)
class MapBlock:
    """A decoded block; `raw` is [step][cell]."""

    scale: float
    offset: float
    unit: str
    raw: NDArray[np.uint16]

    def values(self) -> NDArray[np.float64]:
        """[step][cell] in `unit`; NaN where there is no data."""
        values = self.raw.astype(np.float64) * self.scale + self.offset
        values[self.raw == NO_DATA] = np.nan
        return values


def encode_map_block(values: NDArray[np.float64], unit: str, resolution: float) -> bytes:
    """Write non-negative `values` [step][cell] in `unit`, NaN meaning no data.

    The step between raw values is `resolution`, or what the largest value needs.
    """
    steps, cells = values.shape
    known = ~np.isnan(values)
    if np.any(values[known] < 0):
        raise ValueError(f"expected values >= 0 {unit}, came {values[known].min()}")
    highest = float(values[known].max()) if known.any() else 0.0
    scale = max(resolution, highest / _HIGHEST)
    raw = np.full(values.shape, NO_DATA, dtype="<u2")
    raw[known] = np.minimum(np.rint(values[known] / scale), _HIGHEST)
    header = _HEADER.pack(
        _MAGIC, _VERSION, _BITS, cells, steps, scale, 0.0, NO_DATA, unit.encode("utf-8")
    )
    return header + raw.tobytes()


def decode_map_block(data: bytes) -> MapBlock:
    """Read a block; raises MapBlockError."""
    if len(data) < _HEADER.size:
        raise MapBlockError(f"expected a header of {_HEADER.size} bytes, came {len(data)} in all")
    magic, version, bits, cells, steps, scale, offset, no_data, unit = _HEADER.unpack_from(data)
    if (magic, version, bits, no_data) != (_MAGIC, _VERSION, _BITS, NO_DATA):
        raise MapBlockError(
            f"expected {_MAGIC!r} version {_VERSION} with {_BITS} bits, "
            f"came {magic!r} version {version} with {bits} bits"
        )
    expected = _HEADER.size + 2 * cells * steps
    if len(data) != expected:
        raise MapBlockError(
            f"expected {expected} bytes for {steps} steps of {cells} cells, came {len(data)}"
        )
    raw = np.frombuffer(data, dtype="<u2", offset=_HEADER.size).reshape(steps, cells)
    return MapBlock(scale, offset, unit.rstrip(b"\0").decode("utf-8"), raw)
