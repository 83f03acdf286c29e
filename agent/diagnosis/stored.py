"""How full the agent's store is and what waits in it, without a single reading."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.store.opening import DATABASE_FILE
from wire.quality import Quality

_QUESTIONS: Final = {
    "meters": "SELECT count(*) FROM meter",
    "epochs": "SELECT count(*) FROM epoch",
    "intervals": "SELECT count(*) FROM interval",
    "first_end_utc_s": "SELECT min(end_utc_s) FROM interval",
    "last_end_utc_s": "SELECT max(end_utc_s) FROM interval",
    "intervals_in_no_batch": "SELECT count(*) FROM interval WHERE batch = 0",
    "batches": "SELECT count(*) FROM batch",
    "batches_without_receipt": "SELECT count(*) FROM batch WHERE sealed IS NOT NULL",
    "newest_receipt_utc_s": "SELECT max(receipted_utc_s) FROM batch",
    "next_batch": "SELECT next_seq FROM head",
}
_EPOCHS: Final = "SELECT name, serial FROM epoch JOIN meter ON meter.id = epoch.meter"
_BUSY_S: Final = 2.0


def stored(data_dir: Path) -> dict[str, Any]:
    """Counts of the store's tables and sizes of the files beside it."""
    return {"files": _files(data_dir), **_counts(data_dir / DATABASE_FILE)}


def names_in_store(data_dir: Path) -> list[tuple[str, str]]:
    """Meter and serial number of every epoch, for keeping them out; none if there is no store."""
    path = data_dir / DATABASE_FILE
    if not path.exists():
        return []
    try:
        with closing(_read_only(path)) as database:
            return list(database.execute(_EPOCHS))
    except sqlite3.Error:
        # A store that cannot be read is told of by `stored`, and gives no name away.
        return []


def _counts(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"problem": "there is no database yet"}
    try:
        with closing(_read_only(path)) as database:
            counts: dict[str, Any] = {
                what: _first(database, question) for what, question in _QUESTIONS.items()
            }
            counts["intervals_by_flag"] = _by_flag(database)
            migrations = database.execute("SELECT name FROM _sqlite_migrations")
            counts["migrations"] = [name for (name,) in migrations]
            counts["quick_check"] = _first(database, "PRAGMA quick_check(1)")
            return counts
    except sqlite3.Error as error:
        return {"problem": str(error)}


def _read_only(path: Path) -> sqlite3.Connection:
    """A running agent is not disturbed and nothing is repaired; raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", _BUSY_S, uri=True)


def _by_flag(database: sqlite3.Connection) -> dict[str, int]:
    """How many intervals carry each flag, in one pass over the table."""
    sums = ", ".join(f"total(flags & {int(flag)} <> 0)" for flag in Quality)
    row = database.execute(f"SELECT {sums} FROM interval").fetchone()
    return {str(flag.name): int(count) for flag, count in zip(Quality, row, strict=True)}


def _first(database: sqlite3.Connection, question: str, *values: int) -> Any:
    row = database.execute(question, values).fetchone()
    return None if row is None else row[0]


def _files(data_dir: Path) -> dict[str, int]:
    """Size of each file in the folder, bytes."""
    try:
        return {
            file.relative_to(data_dir).as_posix(): file.stat().st_size
            for file in sorted(data_dir.rglob("*"))
            if file.is_file()
        }
    except OSError:
        return {}
