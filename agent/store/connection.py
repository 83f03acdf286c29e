"""How the database is opened: durable at every commit, bounded in size, checked, up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.store.migrations import MigrationFailed, migrate

PAGE_BYTES = 1024
"""Of a new database: a commit writes whole pages, and a day of them is what the flash bears."""


class StoreDamaged(Exception):
    """The database file is not one, or not what was written; it is put aside."""


class StoreFull(Exception):
    """The quota or the disk is full; `make_room` and try again."""


_PRAGMAS = (
    f"page_size = {PAGE_BYTES}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2000",
    "journal_size_limit = 4194304",
    "cache_size = -1024",
)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
_NO_SUCH_TABLE = sqlite3.SQLITE_ERROR
_NO_SHARED_MEMORY = sqlite3.SQLITE_IOERR_SHMSIZE
"""Its file could not grow: so it ends on a full disk."""


def open_database(path: Path, quota_mib: int) -> sqlite3.Connection:
    """Raises StoreDamaged, StoreFull, or OSError where the file cannot be used."""
    try:
        return _opened(path, quota_mib)
    except UnicodeDecodeError as error:
        # Python's sqlite3 cannot even pass on what SQLite says of damaged names.
        raise StoreDamaged(f"{path}: {error}; it is put aside") from error
    except sqlite3.Error as error:
        if is_full(error):
            raise StoreFull(f"{path}: {error}; free space on the disk") from error
        if is_damage(error, opening=True) or not path.is_file():
            raise StoreDamaged(f"{path}: {error}; it is put aside") from error
        raise OSError(f"{path}: {error}; see who else uses it, and its mode") from error
    except MigrationFailed as error:
        if "full" in str(error):
            raise StoreFull(str(error)) from error
        raise StoreDamaged(f"{error}; the database is put aside") from error


def _opened(path: Path, quota_mib: int) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        database.execute(f"PRAGMA max_page_count = {quota_mib * (1 << 20) // page_bytes}")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        migrate(path)
    except BaseException:
        database.close()
        raise
    return database


def is_damage(error: sqlite3.Error, *, opening: bool = False) -> bool:
    """Whether what SQLite says means that the file is not what was written.

    While `opening`, tables that do not have our form mean so too.
    """
    code = getattr(error, "sqlite_errorcode", None)
    # A verdict of quick_check and text that is none come without a code.
    return code is None or code & 0xFF in _DAMAGE or (opening and code & 0xFF == _NO_SUCH_TABLE)


def is_full(error: sqlite3.Error) -> bool:
    """Whether quota or disk is full."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF == sqlite3.SQLITE_FULL or code == _NO_SHARED_MEMORY)
