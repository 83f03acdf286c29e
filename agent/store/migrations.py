"""The store's tables, as named steps of sqlite-utils: each in one transaction, with its record.

A step is never changed after a release: add another one. A later version must
leave tables that an earlier one can still open, or an update could not be
taken back: first a step that adds (expand), versions later one that takes away
(contract). sqlite-utils takes 20 MiB, which a running agent does not need: when
steps are pending they run in a process of their own.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from agent.store.steps import readable_intervals

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

SET = "loadscape-agent"
"""The steps' name in the table of sqlite-utils."""
_LONGEST_S = 600


class MigrationFailed(Exception):
    """A step did not run; the database is as it was before that step."""


def migrate(path: Path) -> list[str]:
    """Bring the tables up to date; returns the names of the steps that were needed.

    Raises sqlite3.Error if the file cannot be read, MigrationFailed if a step does not run.
    """
    needed = pending(path)
    if not needed:
        return []
    if "sqlite_utils" in sys.modules:
        apply(path)
        return needed
    command = [sys.executable, "-m", "agent.store.migrations", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    if done.returncode:
        raise MigrationFailed(
            f"{path}: the steps {', '.join(needed)} did not run; make room on the disk or go back "
            f"to the version before; it said: {done.stderr.strip()[-500:]}"
        )
    return needed


def pending(path: Path) -> list[str]:
    """Names of the steps that have not run; raises sqlite3.Error."""
    with closing(sqlite3.connect(path)) as database:
        done = steps_done(database)
    return [name for name in STEPS if name not in done]


def steps_done(database: sqlite3.Connection) -> set[str]:
    """Names of the steps that have run, also those of a later version; raises sqlite3.Error."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if "_sqlite_migrations" not in tables:
        return set()
    query = "SELECT name FROM _sqlite_migrations WHERE migration_set = ?"
    return {name for (name,) in database.execute(query, (SET,))}


def apply(path: Path) -> None:
    """Run the pending steps in this process; raises sqlite3.Error."""
    from sqlite_utils import Database, Migrations

    with closing(sqlite3.connect(path)) as connection:
        migrations = Migrations(SET)
        for name, step in STEPS.items():
            migrations(name=name)(lambda db, step=step: step(db.conn))
        database = Database(connection)
        _adopt(database, migrations)
        migrations.apply(database)


def _adopt(database: Database, migrations: Migrations) -> None:
    """Take over the records of versions that kept them in a table of their own."""
    if not database["migration"].exists():
        return
    migrations.ensure_migrations_table(database)
    with database.atomic():
        database.conn.execute(
            "INSERT OR IGNORE INTO _sqlite_migrations (migration_set, name, applied_at) "
            "SELECT ?, name, datetime(applied_utc_s, 'unixepoch') FROM migration",
            (SET,),
        )


def _run(script: str) -> Callable[[sqlite3.Connection], None]:
    """A step of plain SQL statements; `executescript` would end the transaction."""

    def step(database: sqlite3.Connection) -> None:
        for statement in script.split(";"):
            if statement.strip():
                database.execute(statement)

    return step


STEPS: dict[str, Callable[[sqlite3.Connection], None]] = {
    "0001_intervals_and_batches": _run(
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
        """
    ),
    "0002_events": _run(
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
        """
    ),
    "0003_device_log": _run(
        """
        CREATE TABLE log_entry (
            number INTEGER PRIMARY KEY,
            at_utc_s INTEGER NOT NULL,
            code TEXT NOT NULL,
            detail TEXT NOT NULL,
            prev BLOB NOT NULL,
            batch INTEGER NOT NULL
        );
        CREATE INDEX log_entry_by_batch ON log_entry (batch);
        CREATE TABLE log_head (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            chain BLOB NOT NULL,
            number INTEGER NOT NULL,
            hash BLOB NOT NULL
        );
        """
    ),
    "0004_held_rows": _run(
        """
        CREATE TABLE held_row (
            end_utc_s INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            boot BLOB NOT NULL,
            boottime_ms INTEGER NOT NULL,
            PRIMARY KEY (end_utc_s, epoch)
        ) WITHOUT ROWID;
        """
    ),
    "0005_readable_intervals": readable_intervals,
}
"""Named steps in their order; each gets the connection inside its transaction."""


if __name__ == "__main__":
    apply(Path(sys.argv[1]))
