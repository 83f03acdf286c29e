"""One channel of an interval block: runs of integers, one per meter, as few bits as fit.

The form is told in `docs/wire-format.md`; `ext.column_pure` is the readable twin.
"""

from __future__ import annotations

from array import array
from typing import cast

from ext._load import kernel
from ext.column_form import ColumnDamaged, ColumnError, ColumnTooLarge

__all__ = ["ColumnDamaged", "ColumnError", "ColumnTooLarge", "decode", "encode"]

_kernel = kernel("column")


def encode(values: array[int], lengths: array[int]) -> bytes:
    """Bits of the column.

    `values`: array('q'), all runs one after the other; `lengths`: array('i'),
    values per run, each at least 1. Raises ColumnTooLarge if they do not fit.
    """
    return cast(bytes, _kernel.encode(values, lengths))


def decode(data: bytes, offset: int, lengths: array[int]) -> tuple[array[int], int]:
    """The values of the column that begins at `offset`, and where the next one begins.

    Takes 16 bytes per announced value at the most. Raises ColumnDamaged,
    ColumnTooLarge.
    """
    return cast("tuple[array[int], int]", _kernel.decode(data, offset, lengths))
