"""Checksums of stored rows: what SQLite's own checks do not see, a flipped bit in a value.

Each row that the agent acts on carries the CRC-32C of its other columns. An
interval's is over a packed form (`agent/store/rows.py`), because there are
many of them; that of all other rows is over the text of their values.
"""

from __future__ import annotations

from ext.checksum import crc32c


def row_sum(*values: int | str | bytes | None) -> int:
    """CRC-32C of a row's values, each in its length, so that none can pass for two."""
    text = b"".join(_counted(repr(value).encode()) for value in values)
    return crc32c(text)


def _counted(part: bytes) -> bytes:
    return b"%d:%s" % (len(part), part)
