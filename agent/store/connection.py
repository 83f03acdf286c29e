"""How the database is opened: durable at every commit, bounded in size, checked, up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.store.migrations import migrate

PAGE_BYTES = 4096


class StoreDamaged(Exception):
    """The database file is not one, or not what was written; it is put aside."""


class StoreFull(Exception):
    """The quota or the disk is full; `make_room` and try again."""


_PRAGMAS = (
    f"page_size = {PAGE_BYTES}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 500",
    "journal_size_limit = 4194304",
    "cache_size = -1024",
)


def open_database(path: Path, quota_mib: int) -> sqlite3.Connection:
    """Raises sqlite3.Error if there is no sound database, MigrationFailed if a step fails."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        database.execute(f"PRAGMA max_page_count = {quota_mib * (1 << 20) // PAGE_BYTES}")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        migrate(path)
    except BaseException:
        database.close()
        raise
    return database


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what SQLite says means that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    # A verdict of quick_check and text that is none come without a code.
    return code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: sqlite3.Error) -> bool:
    """Whether quota or disk is full."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_FULL
