"""The store's tables, as named steps; each runs once, in a transaction with its own record.

A step is never changed after a release: add another one. A later version must
leave tables that an earlier one can still open, or an update could not be
taken back.
"""

from __future__ import annotations

import sqlite3
import time

_STEPS: tuple[tuple[str, str], ...] = (
    (
        "0001_intervals_and_batches",
        """
        CREATE TABLE meter (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE
        );
        CREATE TABLE epoch (
            id INTEGER PRIMARY KEY,
            meter INTEGER NOT NULL REFERENCES meter (id),
            serial TEXT NOT NULL,
            schema_id INTEGER NOT NULL,
            channels INTEGER NOT NULL,
            UNIQUE (meter, serial, schema_id)
        );
        CREATE TABLE interval (
            end_utc_s INTEGER NOT NULL,
            meter INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            batch INTEGER NOT NULL,
            flags INTEGER NOT NULL,
            packed BLOB NOT NULL,
            PRIMARY KEY (end_utc_s, meter)
        ) WITHOUT ROWID;
        CREATE TABLE batch (
            id INTEGER PRIMARY KEY,
            stream BLOB NOT NULL,
            seq INTEGER NOT NULL,
            schema_id INTEGER NOT NULL,
            first_end_utc_s INTEGER NOT NULL,
            last_end_utc_s INTEGER NOT NULL,
            hash BLOB NOT NULL,
            receipted_utc_s INTEGER,
            sealed BLOB,
            UNIQUE (stream, seq)
        );
        CREATE TABLE head (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            stream BLOB NOT NULL,
            next_seq INTEGER NOT NULL,
            hash BLOB NOT NULL,
            last_batch INTEGER NOT NULL
        );
        """,
    ),
    (
        "0002_events",
        """
        CREATE TABLE event (
            id INTEGER PRIMARY KEY,
            meter TEXT NOT NULL,
            serial TEXT NOT NULL,
            log TEXT NOT NULL,
            at_utc_s INTEGER NOT NULL,
            code INTEGER NOT NULL,
            detail TEXT NOT NULL,
            n INTEGER NOT NULL,
            batch INTEGER NOT NULL,
            UNIQUE (meter, serial, log, at_utc_s, code, detail, n)
        );
        CREATE INDEX event_by_batch ON event (batch);
        CREATE TABLE event_log (
            meter TEXT NOT NULL,
            serial TEXT NOT NULL,
            log TEXT NOT NULL,
            at_utc_s INTEGER NOT NULL,
            seen BLOB NOT NULL,
            PRIMARY KEY (meter, serial, log)
        ) WITHOUT ROWID;
        """,
    ),
)


def migrate(database: sqlite3.Connection) -> list[str]:
    """Bring the tables up to date; returns the names of the steps that were needed."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS migration "
        "(name TEXT PRIMARY KEY, applied_utc_s INTEGER NOT NULL)"
    )
    done = {name for (name,) in database.execute("SELECT name FROM migration")}
    applied = []
    for name, script in _STEPS:
        if name in done:
            continue
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in script.split(";"):
                if statement.strip():
                    database.execute(statement)
            database.execute("INSERT INTO migration VALUES (?, ?)", (name, int(time.time())))
        except sqlite3.Error:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        applied.append(name)
    return applied
