"""Constants and errors of the column form, shared by the kernel and its twin."""

from __future__ import annotations

from typing import Final

ALL_ZERO: Final = 63
"""Parameter of a run whose residuals are all zero: no further bits."""
MOST_K: Final = 40
"""Largest Rice parameter."""
ESCAPE: Final = 24
"""So many ones announce a residual as 64 plain bits."""

ORDER: Final = 3
UNSIGNED_TAILS: Final = 4
ADAPTIVE: Final = 8
HEAD_DIFFERENCES: Final = 16
UNSIGNED_HEADS: Final = 32
SPARSE_HEADS: Final = 64
"""A bit per run says whether its head is other than zero; only those heads are written."""
ONE_GROUP: Final = 128
"""All tails are one group: runs too short to be worth a parameter each."""


class ColumnError(ValueError):
    """A column cannot be written or read."""


class ColumnTooLarge(ColumnError):
    """The runs do not describe the values."""


class ColumnDamaged(ColumnError):
    """The bits are not what the encoder writes."""
