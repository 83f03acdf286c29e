"""One channel of an interval block: runs of integers (one run a meter) to bits and back.

The bytes are described in docs/wire-format.md. Values are 64-bit and every
difference is taken modulo 2^64, so any value comes back as it went in. The
decoder allocates what `lengths` says and nothing else.
"""

from __future__ import annotations

from array import array

from ext._load import kernel
from ext.column_damaged import ColumnDamaged

__all__ = ["ColumnDamaged", "decode", "encode"]

_kernel = kernel("column")


def encode(values: array[int], lengths: array[int]) -> bytes:
    """Code `values` (typecode 'q'), the runs one after another, `lengths` ('i', each >= 1).

    Raises ValueError unless the lengths are positive and sum to the number of values.
    """
    data: bytes = _kernel.encode(values, lengths)
    return data


def decode(data: bytes, offset: int, lengths: array[int]) -> tuple[array[int], int]:
    """The values of the runs that begin at `offset`, and the offset behind them.

    Raises ColumnDamaged, or ValueError if a length is below 1.
    """
    decoded: tuple[array[int], int] = _kernel.decode(data, offset, lengths)
    return decoded
