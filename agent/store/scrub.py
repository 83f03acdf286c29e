"""Looks, in idle and once a week, whether everything in the database is still what was written.

SQLite's own check finds a broken tree, not a flipped bit in a value: so every
row's checksum is compared, every sealed batch with its hash, a piece at a
time, and then SQLite checks its trees and indexes table by table. What is found
raises StoreDamaged: the agent ends, and its next start puts the database aside
and takes over all that is sound.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.store.connection import StoreDamaged
from agent.store.epoch_table import EpochTable
from agent.store.rows import COLUMNS, RowDamaged, from_columns
from agent.store.sums import row_sum
from wire.log import Entry, entry_hash

EVERY_S = 7 * 86_400
_PIECE_ROWS = 500
_PIECE_BATCHES = 20
_GRANULE_S = 300

Row = Sequence[Any]
"""As SQLite gives it: in a damaged database anything may stand anywhere."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A table whose rows can be told from damaged ones."""

    name: str
    columns: tuple[str, ...]
    keys: int
    """The first so many columns are its key."""
    sound: Callable[[Row], bool]
    rows: int = _PIECE_ROWS
    """So many are looked at together."""
    granule: int = 1
    """The first column is a multiple of it in nearly all rows; 0 where it is no number."""


def _summed(row: Row) -> bool:
    *fields, crc = row
    return bool(row_sum(*fields) == crc)


def _batch_is_sound(row: Row) -> bool:
    *fields, sealed, crc = row
    if row_sum(*fields, int(sealed is None)) != crc:
        return False
    return sealed is None or is_whole(sealed, fields[6])


def is_whole(sealed: object, hash_: object) -> bool:
    """Whether sealed bytes are those of their place in the chain, or have been withdrawn."""
    if not isinstance(sealed, bytes) or not isinstance(hash_, bytes):
        return False
    return not sealed or hashlib.sha256(sealed).digest()[: len(hash_)] == hash_


BATCH = Checked(
    "batch",
    (
        "id",
        "stream",
        "seq",
        "schema_id",
        "first_end_utc_s",
        "last_end_utc_s",
        "hash",
        "receipted_utc_s",
        "sealed",
        "crc32c",
    ),
    1,
    _batch_is_sound,
    _PIECE_BATCHES,
)
EVENT = Checked(
    "event",
    ("id", "meter", "serial", "log", "at_utc_s", "code", "detail", "n", "batch", "crc32c"),
    1,
    _summed,
)
EVENT_LOG = Checked(
    "event_log", ("meter", "serial", "log", "at_utc_s", "seen", "crc32c"), 3, _summed, granule=0
)
HELD_ROW = Checked(
    "held_row",
    ("end_utc_s", "epoch", "boot", "boottime_ms", "crc32c"),
    2,
    _summed,
    granule=_GRANULE_S,
)


LOG_HEAD = Checked("log_head", ("one", "chain", "number", "hash"), 1, lambda _: True, granule=0)
LOG_ENTRY = Checked(
    "log_entry", ("number", "at_utc_s", "code", "detail", "prev", "batch"), 1, lambda _: True
)
"""Of the device log the chain tells, here and at central."""


def intervals(place_of: Callable[[int], tuple[int, int] | None]) -> Checked:
    """The table of intervals; `place_of` tells an epoch's meter and schema."""

    def sound(row: Row) -> bool:
        _, meter, epoch, *_ = row
        place = place_of(epoch)
        if place is None or place[0] != meter:
            return False
        try:
            from_columns(place[1], row)
        except RowDamaged:
            return False
        return True

    return Checked("interval", COLUMNS, 2, sound, granule=_GRANULE_S)


def _nowhere(_: int) -> None:
    return None


class Scrub:
    """`step` looks at the next piece; the whole is done again when a week has passed."""

    def __init__(self, database: sqlite3.Connection, epochs: EpochTable) -> None:
        self._db = database
        self._epochs = epochs
        self._pieces: Iterator[list[str]] | None = None

    def due(self, now_utc_s: float) -> bool:
        """Whether there is something to look at now."""
        if self._pieces is not None:
            return True
        row = self._db.execute("SELECT done_utc_s FROM care WHERE what = 'scrub'").fetchone()
        # A clock that was set back must not put it off for ever.
        return row is None or abs(now_utc_s - row[0]) >= EVERY_S

    def step(self, now_utc_s: float) -> bool:
        """Look at one piece, inside a transaction; whether that was the last. Or StoreDamaged."""
        if self._pieces is None:
            check_identity(self._db)
            self._pieces = flaws(self._db, self._epochs)
        for found in self._pieces:
            if found:
                raise StoreDamaged(found[0])
            return False
        self._pieces = None
        self._db.execute(
            "INSERT OR REPLACE INTO care (what, done_utc_s) VALUES ('scrub', ?)", (int(now_utc_s),)
        )
        return True


def flaws(database: sqlite3.Connection, epochs: EpochTable) -> Iterator[list[str]]:
    """A piece at a time, what is not what was written; raises sqlite3.Error where none can read."""
    for table in (intervals(epochs.place), BATCH, EVENT, EVENT_LOG, HELD_ROW):
        yield from _in_rows(database, table)
    yield _in_log(database)
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    for (name,) in database.execute(query).fetchall():
        (verdict,) = database.execute(f"PRAGMA integrity_check('{name}')").fetchone()
        yield [] if verdict == "ok" else [f"table {name}: {verdict}"]


def _in_rows(database: sqlite3.Connection, table: Checked) -> Iterator[list[str]]:
    key = ", ".join(table.columns[: table.keys])
    query = f"SELECT {', '.join(table.columns)} FROM {table.name}"
    beyond = f"WHERE ({key}) > ({', '.join('?' * table.keys)})"
    order = f"ORDER BY {key} LIMIT {table.rows}"
    found = database.execute(f"{query} {order}").fetchall()
    while found:
        yield [
            f"{table.name} {'/'.join(map(str, row[: table.keys]))}: not what was written"
            for row in found
            if not table.sound(row)
        ]
        after = found[-1][: table.keys]
        found = database.execute(f"{query} {beyond} {order}", after).fetchall()


def _in_log(database: sqlite3.Connection) -> list[str]:
    """Every entry of the device log must be what the next one names as its predecessor."""
    head = database.execute("SELECT chain, number, hash FROM log_head").fetchone()
    if head is None:
        return []
    found = []
    chain, last, hash_ = head
    rows = database.execute(
        "SELECT number, at_utc_s, code, detail, prev FROM log_entry ORDER BY number DESC"
    )
    for number, at_utc_s, code, detail, prev in rows:
        known = number == last
        if known and entry_hash(chain, prev, number, Entry(at_utc_s, code, detail)) != hash_:
            found.append(f"entry {number} of the device log: not what was written")
        last, hash_ = number - 1, prev
    return found


def check_identity(database: sqlite3.Connection) -> None:
    """What must be sound before anything is added: who is meant, where the chain ends.

    Raises StoreDamaged, or sqlite3.Error where tables do not have their columns.
    """
    EpochTable(database)
    for table in (BATCH, EVENT, EVENT_LOG, HELD_ROW, LOG_HEAD, LOG_ENTRY, intervals(_nowhere)):
        database.execute(f"SELECT {', '.join(table.columns)} FROM {table.name} LIMIT 0")
    for row in database.execute(
        "SELECT id, stream, seq, schema_id, first_end_utc_s, last_end_utc_s, hash, "
        "receipted_utc_s, sealed IS NULL, crc32c FROM batch"
    ):
        if not _summed(row):
            raise StoreDamaged(f"batch {row[0]}: not what was written")
    for row in database.execute("SELECT stream, next_seq, hash, last_batch, crc32c FROM head"):
        if not _summed(row):
            raise StoreDamaged("the stream's head: not what was written")
