"""The concentrator's own log in the store: a hash chain that only grows, shipped as batches.

An entry is appended in the transaction of what it tells of, so what is lost
and that it is lost are known together or not at all. Entries that a batch with
a receipt holds make room as other history does; the chain's head stays.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from wire.log import CHAIN_BYTES, LARGEST_INSTANT, NO_PREV, Entry, Piece, cut_detail, entry_hash


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """One entry as the outbox needs it to cut (again)."""

    number: int
    entry: Entry
    prev: bytes


class LogTable:
    """Part of the store; what writes must run inside the store's `transaction`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def append(self, at_utc_s: int, code: str, detail: str, batch: int) -> int:
        """Add an entry to the chain, to be held by `batch` (or none yet); returns its number."""
        chain, number, prev = self._head()
        entry = Entry(min(max(0, at_utc_s), LARGEST_INSTANT), code, cut_detail(detail))
        number += 1
        self._db.execute(
            "INSERT INTO log_entry (number, at_utc_s, code, detail, prev, batch) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, *entry, prev, batch),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO log_head (one, chain, number, hash) VALUES (1, ?, ?, ?)",
            (chain, number, entry_hash(chain, prev, number, entry)),
        )
        return number

    def chain(self) -> bytes:
        """The chain's random name."""
        return self._head()[0]

    def of_batch(self, batch: int, limit: int = -1) -> list[LoggedEntry]:
        """The entries of one batch in their order."""
        return [
            LoggedEntry(number, Entry(at, code, detail), prev)
            for number, at, code, detail, prev in self._db.execute(
                "SELECT number, at_utc_s, code, detail, prev FROM log_entry WHERE batch = ? "
                "ORDER BY number LIMIT ?",
                (batch, limit),
            )
        ]

    def assign(self, batch: int, entries: Iterable[LoggedEntry]) -> None:
        """Say that entries are now in `batch`."""
        self._db.executemany(
            "UPDATE log_entry SET batch = ? WHERE number = ?",
            ((batch, logged.number) for logged in entries),
        )

    def prune(self, uncut: int, limit: int) -> int:
        """Drop entries whose batch is no longer known, a piece at a time; returns how many."""
        return self._db.execute(
            "DELETE FROM log_entry WHERE number IN (SELECT number FROM log_entry WHERE batch != ? "
            "AND batch NOT IN (SELECT id FROM batch) LIMIT ?)",
            (uncut, limit),
        ).rowcount

    def _head(self) -> tuple[bytes, int, bytes]:
        row = self._db.execute("SELECT chain, number, hash FROM log_head").fetchone()
        return tuple(row) if row else (os.urandom(CHAIN_BYTES), 0, NO_PREV)


def pieces(chain: bytes, logged: Iterable[LoggedEntry], most: int) -> Iterable[Piece]:
    """Entries in ascending order as pieces without holes, each of at most `most` entries."""
    run: list[LoggedEntry] = []
    for one in logged:
        if run and (len(run) == most or one.number != run[-1].number + 1):
            yield _piece(chain, run)
            run = []
        run.append(one)
    if run:
        yield _piece(chain, run)


def _piece(chain: bytes, run: list[LoggedEntry]) -> Piece:
    return Piece(chain, run[0].number, run[0].prev, tuple(one.entry for one in run))
