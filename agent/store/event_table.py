"""Event log entries in the store: what waits for a batch, and how far each log was read.

How far a log was read outlives its entries: history that makes room is never
read and sent a second time.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.store.sums import row_sum
from wire.events import Event

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class LogMark:
    """How far one log of one meter was read: all before `at_utc_s`, and `seen` from there on."""

    at_utc_s: int = 0
    seen: frozenset[bytes] = frozenset()
    """Fingerprints of entries at or after `at_utc_s`."""


@dataclass(frozen=True, slots=True)
class EventRows:
    """New entries of one log of one meter, and how far it is read with them."""

    events: Sequence[Event]
    meter: str
    serial: str
    log: str
    mark: LogMark


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as the outbox needs it to cut (again)."""

    number: int
    event: Event


def fingerprint(event: Event) -> bytes:
    """Tells entries of one log apart."""
    text = f"{event.at_utc_s} {event.code} {event.n} {event.detail}"
    return hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]


class EventTable:
    """Part of the store; what writes must run inside the store's `transaction`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def add(self, batch: int, rows: EventRows) -> int:
        """Take up entries that are not there yet, and the log's mark; returns how many."""
        number = self._db.execute("SELECT max(id) FROM event").fetchone()[0] or 0
        added = 0
        for event in rows.events:
            fields = (number + 1, *event, batch)
            new = self._db.execute(
                "INSERT OR IGNORE INTO event (id, meter, serial, log, at_utc_s, code, detail, n, "
                "batch, crc32c) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*fields, row_sum(*fields)),
            ).rowcount
            number, added = number + new, added + new
        mark = (
            rows.meter,
            rows.serial,
            rows.log,
            rows.mark.at_utc_s,
            b"".join(sorted(rows.mark.seen)),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO event_log (meter, serial, log, at_utc_s, seen, crc32c) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*mark, row_sum(*mark)),
        )
        return added

    def assign(self, batch: int, events: Iterable[StoredEvent]) -> None:
        """Say that events are now in `batch`."""
        self._db.executemany(
            "UPDATE event SET batch = ?, crc32c = ? WHERE id = ?",
            (
                (batch, row_sum(stored.number, *stored.event, batch), stored.number)
                for stored in events
            ),
        )

    def of_batch(self, batch: int, limit: int = -1) -> list[StoredEvent]:
        """The events of one batch, oldest number first; damaged ones are left out."""
        return [
            StoredEvent(number, Event(*fields))
            for number, *fields, crc in self._db.execute(
                "SELECT id, meter, serial, log, at_utc_s, code, detail, n, crc32c FROM event "
                "WHERE batch = ? ORDER BY id LIMIT ?",
                (batch, limit),
            )
            if row_sum(number, *fields, batch) == crc
        ]

    def drop_oldest(self, batch: int, limit: int) -> int:
        """Drop the oldest events of one batch; returns how many."""
        return self._db.execute(
            "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE batch = ? "
            "ORDER BY id LIMIT ?)",
            (batch, limit),
        ).rowcount

    def prune(self, uncut: int, limit: int) -> int:
        """Drop events whose batch is no longer known, a piece at a time."""
        return self._db.execute(
            "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE batch != ? "
            "AND batch NOT IN (SELECT id FROM batch) LIMIT ?)",
            (uncut, limit),
        ).rowcount

    def marks(self) -> dict[tuple[str, str, str], LogMark]:
        """How far every log was read; one whose mark is damaged is read from its beginning."""
        return {
            (meter, serial, log): LogMark(at_utc_s, _split(seen))
            for meter, serial, log, at_utc_s, seen, crc in self._db.execute(
                "SELECT meter, serial, log, at_utc_s, seen, crc32c FROM event_log"
            )
            if row_sum(meter, serial, log, at_utc_s, seen) == crc
        }


def _split(seen: bytes) -> frozenset[bytes]:
    return frozenset(seen[at : at + _HASH_BYTES] for at in range(0, len(seen), _HASH_BYTES))
