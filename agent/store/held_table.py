"""Intervals that were stamped by a clock that nobody vouched for: held back until one is trusted.

Each is kept with the start of the machine and the time since then, so that its
right end can be told later. The rows themselves stand in `interval`, in no
batch and flagged; here is only what holds them back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from agent.store.sums import row_sum

NOT_HELD = (
    "NOT EXISTS (SELECT 1 FROM held_row WHERE held_row.end_utc_s = interval.end_utc_s "
    "AND held_row.epoch = interval.epoch)"
)
"""Condition on rows of `interval`."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One interval that is held back."""

    end_utc_s: int
    """As stamped by the clock that was not trusted."""
    epoch_id: int
    boot: bytes
    boottime_ms: int
    """When the interval ended, since the start `boot` of the machine."""


class HeldTable:
    """Part of the store; what writes must run inside the store's `transaction`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def add(self, rows: Iterable[HeldRow]) -> None:
        """Hold rows back that were just inserted in no batch."""
        self._db.executemany(
            "INSERT OR IGNORE INTO held_row (end_utc_s, epoch, boot, boottime_ms, crc32c) "
            "VALUES (?, ?, ?, ?, ?)",
            ((*fields, row_sum(*fields)) for row in rows for fields in [_fields(row)]),
        )

    def rows(self) -> list[HeldRow]:
        """All that are held back, oldest stamp first; of a damaged one the start is unknown."""
        return [
            HeldRow(end, epoch, boot if row_sum(end, epoch, boot, ms) == crc else b"", ms)
            for end, epoch, boot, ms, crc in self._db.execute(
                "SELECT end_utc_s, epoch, boot, boottime_ms, crc32c FROM held_row "
                "ORDER BY end_utc_s, epoch"
            )
        ]

    def extent(self) -> tuple[int, int]:
        """How many are held back, and the least `boottime_ms` of them (0 if there are none)."""
        count, first_ms = self._db.execute(
            "SELECT count(*), min(boottime_ms) FROM held_row"
        ).fetchone()
        return count, first_ms or 0

    def release(self) -> None:
        """Hold nothing back any more."""
        self._db.execute("DELETE FROM held_row")

    def take_out(self, uncut: int) -> None:
        """Remove the rows from `interval` and hold nothing back: they come again, stamped anew."""
        self._db.execute(
            "DELETE FROM interval WHERE batch = ? AND (end_utc_s, epoch) IN "
            "(SELECT end_utc_s, epoch FROM held_row)",
            (uncut,),
        )
        self.release()


def _fields(row: HeldRow) -> tuple[int, int, bytes, int]:
    return row.end_utc_s, row.epoch_id, row.boot, row.boottime_ms
