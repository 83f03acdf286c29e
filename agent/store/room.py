"""What goes first when there is no room: a little at a time, so that its log fits the ballast.

In this order: entries of event logs and of the device log whose batch has a
receipt, intervals whose batch has one, oldest first; only when there is
nothing of these left, the oldest batch without a receipt, or what no batch
holds. Such a loss is written to the device log in the same transaction, and
goes to central sealed and signed like everything else. While the ballast is
given up the database grows only as far as that leaves its room free: or the
next deletion could not be written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agent.store.ballast import Ballast
from agent.store.connection import StoreFull, is_full
from agent.store.event_table import EventTable
from agent.store.log_table import LogTable

UNCUT = 0
"""The batch number of rows that no batch holds yet."""

PRUNED_ROWS = 2000
"""Intervals that one transaction deletes at most: 200 KiB."""
_ENOUGH_PAGES = 256
_FEWEST_PAGES = 1024
"""Which the database may have on however small a disk."""
_EVER_UTC_S = 1 << 62
_AT_ONCE_S = 7200
"""So much history goes together: fewer pages are written that are half empty."""
PRUNED_ENTRIES = 50
"""Events and entries of the device log: each may touch pages of its own."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What had no receipt and made room."""

    rows: int = 0
    events: int = 0


class Room:
    """Part of the store; `prune` must run inside its `transaction`, `make` begins its own."""

    def __init__(
        self,
        database: sqlite3.Connection,
        ballast: Ballast,
        events: EventTable,
        log: LogTable,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db = database
        self._ballast = ballast
        self._events = events
        self._log = log
        self._transaction = transaction
        self._most_pages = self._pragma("max_page_count")
        self._bound()

    def make(self, now_utc_s: int) -> Lost:
        """Free some pages; what was lost without a receipt, if anything. Raises StoreFull."""
        self._ballast.release()
        self._bound()
        lost, before = Lost(), self._free_pages()
        while self._free_pages() < before + _ENOUGH_PAGES:
            self._fold_in()
            with self._transaction():
                if self.prune(_EVER_UTC_S):
                    continue
                if lost == Lost() and self._free_pages() > before:
                    break  # Little, but it may do; nothing is lost before that was tried.
                more = self._unreceipted(now_utc_s)
            if more is None:
                break
            lost = Lost(lost.rows + more.rows, lost.events + more.events)
        return lost

    def restore(self) -> None:
        """Let ballast and database grow again as the disk allows; raises OSError."""
        self._ballast.restore()
        self._bound()

    def prune(self, before_utc_s: int) -> int:
        """Drop a little of the history that ended, and has a receipt, since before an instant.

        Returns how much. The receipt counts too: a forged one deletes nothing at once.
        """
        before_utc_s -= before_utc_s % _AT_ONCE_S
        dropped = self._events.prune(UNCUT, PRUNED_ENTRIES)
        dropped += self._log.prune(UNCUT, PRUNED_ENTRIES)
        dropped += self._db.execute(
            "DELETE FROM interval WHERE (end_utc_s, meter) IN (SELECT end_utc_s, meter "
            "FROM interval WHERE end_utc_s < ? AND batch != ? AND batch NOT IN "
            "(SELECT id FROM batch WHERE sealed IS NOT NULL OR receipted_utc_s >= ?) LIMIT ?)",
            (before_utc_s, UNCUT, before_utc_s, PRUNED_ROWS),
        ).rowcount
        dropped += self._db.execute(
            "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE sealed IS NULL AND "
            "max(last_end_utc_s, receipted_utc_s) < ? AND "
            "seq < (SELECT max(seq) FROM batch AS later "
            "WHERE later.stream = batch.stream AND later.sealed IS NULL) LIMIT ?)",
            (before_utc_s, PRUNED_ROWS),
        ).rowcount
        return dropped

    def _unreceipted(self, now_utc_s: int) -> Lost | None:
        """Drop the oldest that has no receipt, and write that down; None if there is nothing."""
        oldest = self._db.execute(
            "SELECT id, first_end_utc_s, last_end_utc_s FROM batch "
            "WHERE sealed IS NOT NULL ORDER BY last_end_utc_s LIMIT 1"
        ).fetchone()
        lost = self._uncut() if oldest is None else self._batch(*oldest)
        if lost is not None and lost != Lost():
            detail = f"intervals={lost.rows} events={lost.events} reason=no_room"
            self._log.append(now_utc_s, "lost", detail, UNCUT)
        return lost

    def _batch(self, number: int, first_end_utc_s: int, last_end_utc_s: int) -> Lost:
        """Its sealed bytes go; its rows have become history, entries of our own log wait again."""
        self._log.assign(UNCUT, self._log.of_batch(number))
        self._db.execute("DELETE FROM batch WHERE id = ?", (number,))
        (rows,) = self._db.execute(
            "SELECT count(*) FROM interval WHERE batch = ? AND end_utc_s BETWEEN ? AND ?",
            (number, first_end_utc_s, last_end_utc_s),
        ).fetchone()
        return Lost(rows, len(self._events.of_batch(number)))

    def _uncut(self) -> Lost | None:
        keys: Iterable[tuple[int, int]] = self._db.execute(
            "SELECT end_utc_s, meter FROM interval WHERE batch = ? ORDER BY end_utc_s LIMIT ?",
            (UNCUT, PRUNED_ROWS),
        ).fetchall()
        rows = self._db.executemany(
            "DELETE FROM interval WHERE end_utc_s = ? AND meter = ?", keys
        ).rowcount
        if rows > 0:
            return Lost(rows)
        events = self._events.drop_oldest(UNCUT, PRUNED_ENTRIES)
        return Lost(0, events) if events else None

    def _bound(self) -> None:
        pages, beside_bytes = self._most_pages, self._ballast.room_beside_bytes()
        if beside_bytes is not None:
            more = beside_bytes // self._pragma("page_size")
            pages = min(pages, max(_FEWEST_PAGES, self._pragma("page_count") + more))
        self._db.execute(f"PRAGMA max_page_count = {pages}")

    def _free_pages(self) -> int:
        return self._pragma("freelist_count")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _fold_in(self) -> None:
        """Let the log begin anew: on a full disk it must not grow."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            raise StoreFull(f"{error}; free space on the disk") from error
