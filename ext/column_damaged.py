"""The one error of the column codec, shared by the kernel and its twin."""

from __future__ import annotations


class ColumnDamaged(ValueError):
    """Bytes that no encoder wrote: they end too early, or a field is out of its range."""
