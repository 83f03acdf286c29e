"""The SQLite file: closed intervals, sealed batches, the stream's head.

Owned by one thread. WAL with synchronous=FULL, so what a commit has
acknowledged survives a power cut. The first true value of an interval wins;
only a row that reports "no data" gives way to a later one. A row that is not
what was written is reported, never used. Not promised: room. When quota or
disk are full, `StoreFull` is raised; `make_room` drops what has a receipt
first, then, counted and written to the device log, the oldest without one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.store.ballast import BALLAST_FILE, Ballast
from agent.store.connection import (
    StoreDamaged,
    StoreFull,
    is_damage,
    is_full,
    open_database,
)
from agent.store.epoch_table import EpochTable
from agent.store.event_table import EventTable
from agent.store.held_table import NOT_HELD, HeldTable
from agent.store.identity import StreamHead
from agent.store.log_table import LogTable
from agent.store.outline import CutBatch, Recalled, StoredRow
from agent.store.recalling import recall
from agent.store.room import UNCUT, Lost, Room
from agent.store.rows import (
    ALL_COLUMNS,
    WRITE_ROW,
    MeterEpoch,
    RowDamaged,
    Values,
    from_columns,
    no_data,
    to_columns,
)
from agent.store.salvage import Salvaged, salvage
from agent.store.scrub import Scrub, check_identity, is_whole
from agent.store.sums import row_sum

__all__ = [
    "UNCUT",
    "CutBatch",
    "Lost",
    "Recalled",
    "Store",
    "StoreDamaged",
    "StoreFull",
    "StoredRow",
]

_ORPHANS = 2000
_BATCH = "id, stream, seq, schema_id, first_end_utc_s, last_end_utc_s, hash, receipted_utc_s"


class Store:
    """The open database. Every public method that writes must run inside `transaction`."""

    def __init__(
        self, path: Path, quota_mib: int, damaged: Callable[[str], None] = lambda _: None
    ) -> None:
        """`damaged` is told of each row that is not what was written.

        Raises StoreDamaged, StoreFull, or OSError where the file cannot be used.
        """
        self._damaged = damaged
        self.ballast = Ballast(path.with_name(BALLAST_FILE))
        self._db = open_database(path, quota_mib)
        self.events = EventTable(self._db)
        self.log = LogTable(self._db)
        self.held = HeldTable(self._db)
        try:
            self._epochs = EpochTable(self._db)
            check_identity(self._db)
        except (StoreDamaged, sqlite3.Error, UnicodeDecodeError) as error:
            self._db.close()
            raise StoreDamaged(f"{path}: {error}; it is put aside") from error
        self._room = Room(self._db, self.ballast, self.events, self.log, self.transaction)
        self._scrub = Scrub(self._db, self._epochs)

    def close(self) -> None:
        """Close the file; the log is folded in."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; raises StoreFull or StoreDamaged."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if is_full(error):
                raise StoreFull(f"{error}; the oldest history makes room") from error
            if is_damage(error):
                raise StoreDamaged(f"{error}; the database is put aside at the next start") from (
                    error
                )
            raise
        except BaseException:
            self._roll_back()
            raise

    # --- meters and their epochs

    def epoch_id(self, epoch: MeterEpoch) -> int:
        """The number of an epoch; a new one, or one with more channels, is written down."""
        return self._epochs.number(epoch)

    def epochs(self) -> dict[int, MeterEpoch]:
        """All epochs by number, oldest first."""
        return self._epochs.known

    # --- intervals

    def insert(self, batch: int, rows: Iterable[StoredRow]) -> None:
        """Add rows to a batch (or UNCUT); a row that holds data already stays as it is."""
        self._db.executemany(WRITE_ROW + " WHERE interval.flags & 1", self._columns(batch, rows))

    def assign(self, batch: int, rows: Iterable[StoredRow]) -> None:
        """Say that rows that are in the store already are now in `batch`."""
        self._db.executemany(WRITE_ROW, self._columns(batch, rows))

    def rows_of(self, batch: int, first_end_utc_s: int, last_end_utc_s: int) -> list[StoredRow]:
        """The rows of one batch; a damaged one comes out as NO_DATA."""
        return self._rows(
            "WHERE end_utc_s BETWEEN ? AND ? AND batch = ?",
            (first_end_utc_s, last_end_utc_s, batch),
        )

    def oldest_uncut(self) -> int | None:
        """The oldest end that waits to be cut, None if there is none; scans the table."""
        (oldest,) = self._db.execute(
            f"SELECT min(end_utc_s) FROM interval WHERE batch = ? AND {NOT_HELD}", (UNCUT,)
        ).fetchone()
        return None if oldest is None else int(oldest)

    def uncut(self, since_utc_s: int, limit: int) -> list[StoredRow]:
        """Rows that wait to be cut, newest first, at most `limit`, none before `since_utc_s`."""
        return self._rows(
            f"WHERE batch = ? AND end_utc_s >= ? AND {NOT_HELD} ORDER BY end_utc_s DESC LIMIT ?",
            (UNCUT, since_utc_s, limit),
        )

    def recall(self, since_utc_s: int) -> dict[str, Recalled]:
        """What is known of every meter since `since_utc_s`."""
        recalled = recall(self._db, self._epochs, self._values, since_utc_s)
        for (name, serial, log), mark in self.events.marks().items():
            recalled.setdefault(name, Recalled()).marks[serial, log] = mark
        return recalled

    # --- batches

    def head(self) -> StreamHead | None:
        """The stream's head, None in a new database."""
        row = self._db.execute("SELECT stream, next_seq, hash FROM head").fetchone()
        return StreamHead(*row) if row else None

    def set_head(self, head: StreamHead) -> None:
        """Begin or continue a stream."""
        last = self._db.execute("SELECT last_batch FROM head").fetchone()
        self._write_head(head, last[0] if last else 0)

    def add_batch(self, batch: CutBatch) -> int:
        """Write a sealed batch and move the head; returns the batch's number."""
        # Numbers are never used twice: rows of a batch long gone still carry its number.
        last = self._db.execute("SELECT last_batch FROM head").fetchone()
        number = int(last[0]) + 1 if last else 1
        self._write_head(batch.head, number)
        fields = (
            number,
            batch.head.stream,
            batch.head.next_seq - 1,
            batch.schema_id,
            batch.first_end_utc_s,
            batch.last_end_utc_s,
            batch.head.hash,
            None,
        )
        self._db.execute(
            f"INSERT INTO batch ({_BATCH}, sealed, crc32c) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, batch.sealed, row_sum(*fields, 0)),
        )
        return number

    def sealed_after(self, stream: bytes, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """(seq, sealed) of batches without a receipt, ascending; raises StoreDamaged."""
        found = self._db.execute(
            "SELECT seq, sealed, hash FROM batch WHERE stream = ? AND seq > ? "
            "AND sealed IS NOT NULL ORDER BY seq LIMIT ?",
            (stream, seq, limit),
        ).fetchall()
        for number, sealed, hash_ in found:
            if not is_whole(sealed, hash_):
                raise StoreDamaged(
                    f"batch {number}: not what was sealed; the database is put aside at the next "
                    "start and its rows are cut again"
                )
        return [(number, sealed) for number, sealed, _ in found]

    def hash_at(self, stream: bytes, seq: int) -> bytes | None:
        """Chain hash of a batch, None if it is not (or no longer) known."""
        row = self._db.execute(
            "SELECT hash FROM batch WHERE stream = ? AND seq = ?", (stream, seq)
        ).fetchone()
        return row[0] if row else None

    def receipt(self, stream: bytes, upto: int, at_utc_s: int) -> int:
        """Drop the sealed bytes up to a receipt; the rows stay as history. Returns how many."""
        return self._alter_batches(
            f"sealed = NULL, receipted_utc_s = {at_utc_s:d}",
            "stream = ? AND seq <= ? AND sealed IS NOT NULL",
            (stream, upto),
        )

    def receipted_upto(self, stream: bytes) -> int:
        """Highest sequence number with a receipt, 0 if none."""
        (upto,) = self._db.execute(
            "SELECT max(seq) FROM batch WHERE stream = ? AND sealed IS NULL", (stream,)
        ).fetchone()
        return int(upto or 0)

    def newest_receipt_utc_s(self) -> int:
        """When central committed what its newest receipt tells of, 0 before the first."""
        newest = self._db.execute("SELECT max(receipted_utc_s) FROM batch").fetchone()[0]
        return int(newest or 0)

    def batch_at(self, stream: bytes, seq: int) -> int | None:
        """The number of a batch; None if it is not known, or holds nothing any more."""
        row = self._db.execute(
            "SELECT id FROM batch WHERE stream = ? AND seq = ? "
            "AND first_end_utc_s <= last_end_utc_s",
            (stream, seq),
        ).fetchone()
        return row[0] if row else None

    def span_of(self, number: int) -> tuple[int, int] | None:
        """(first end, last end) of a batch; None if it is not known, or holds nothing any more."""
        row = self._db.execute(
            "SELECT first_end_utc_s, last_end_utc_s FROM batch WHERE id = ? "
            "AND first_end_utc_s <= last_end_utc_s",
            (number,),
        ).fetchone()
        return tuple(row) if row else None

    def empty_batch(self, number: int) -> None:
        """What a batch held is in others now; its place in the chain stays."""
        self._alter_batches("first_end_utc_s = last_end_utc_s + 1", "id = ?", (number,))

    def withdraw_receipts(self, stream: bytes, after: int) -> None:
        """A stream that is being left has no receipt above `after`; its sealed bytes are gone."""
        self._alter_batches(
            "sealed = x'', receipted_utc_s = NULL",
            "stream = ? AND seq > ? AND sealed IS NULL",
            (stream, after),
        )

    def unreceipted(self, *, outside: bytes | None = None) -> list[tuple[int, int, int]]:
        """(number, first end, last end) without receipt, not of the stream `outside`."""
        return self._db.execute(
            "SELECT id, first_end_utc_s, last_end_utc_s FROM batch "
            "WHERE sealed IS NOT NULL AND stream IS NOT ? ORDER BY id",
            (outside,),
        ).fetchall()

    def forget_batch(self, number: int) -> None:
        """Drop a batch whose rows have been cut into another one."""
        self._db.execute("DELETE FROM batch WHERE id = ?", (number,))

    def outbox_depth(self) -> int:
        """How many batches wait for a receipt."""
        return int(
            self._db.execute("SELECT count(*) FROM batch WHERE sealed IS NOT NULL").fetchone()[0]
        )

    # --- room

    def prune(self, before_utc_s: int) -> int:
        """Drop some of the receipted history that ended before an instant; returns how much."""
        return self._room.prune(before_utc_s)

    def make_room(self, now_utc_s: int) -> Lost:
        """Free pages, in transactions of its own; what was lost without a receipt, if anything.

        Raises StoreFull if the disk is so full that nothing can even be deleted.
        """
        return self._room.make(now_utc_s)

    def restore_room(self) -> None:
        """Take the ballast's room again if there is plenty; raises OSError."""
        self._room.restore()

    # --- whether all is what was written

    def scrub(self, now_utc_s: float) -> bool:
        """Look at a piece of the store if it is time; whether all was seen. Or StoreDamaged."""
        if not self._scrub.due(now_utc_s):
            return False
        with self.transaction():
            return self._scrub.step(now_utc_s)

    def take_over(self, path: Path) -> Salvaged:
        """All sound rows of the damaged database `path`, into this new one.

        Raises StoreFull, and sqlite3.Error if there is no database to read.
        """
        salvaged = salvage(path, self._db, self.transaction)
        self._epochs.load()
        if not salvaged.batches_known:
            self._cut_orphans_again()
        tables = ("interval", "event", "log_entry")
        query = " UNION ".join(f"SELECT max(batch) FROM {name}" for name in tables)
        used = self._db.execute(f"{query} UNION SELECT max(id) FROM batch").fetchall()
        with self.transaction():
            # Numbers are never used twice, and the stream cannot be continued.
            self._write_head(StreamHead.fresh(), max(number or 0 for (number,) in used))
        return salvaged

    def _cut_orphans_again(self) -> None:
        """What names a batch of which there is no record may have no receipt."""
        orphan = f"batch != {UNCUT} AND batch NOT IN (SELECT id FROM batch)"
        while rows := self._rows(f"WHERE {orphan} LIMIT ?", (_ORPHANS,)):
            with self.transaction():
                self.assign(UNCUT, rows)
        with self.transaction():
            for batch in self._batches_of("event", orphan):
                self.events.assign(UNCUT, self.events.of_batch(batch))
            for batch in self._batches_of("log_entry", orphan):
                self.log.assign(UNCUT, self.log.of_batch(batch))

    def _batches_of(self, table: str, which: str) -> list[int]:
        found = self._db.execute(f"SELECT DISTINCT batch FROM {table} WHERE {which}")
        return [number for (number,) in found.fetchall()]

    # --- helpers

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._epochs.load()

    def _write_head(self, head: StreamHead, last_batch: int) -> None:
        fields = (head.stream, head.next_seq, head.hash, last_batch)
        self._db.execute(
            "INSERT OR REPLACE INTO head (one, stream, next_seq, hash, last_batch, crc32c) "
            "VALUES (1, ?, ?, ?, ?, ?)",
            (*fields, row_sum(*fields)),
        )

    def _alter_batches(self, change: str, where: str, values: Sequence[int | bytes]) -> int:
        """Change batches and their checksums with them; returns how many."""
        numbers = self._db.execute(f"SELECT id FROM batch WHERE {where}", values).fetchall()
        for number in numbers:
            self._db.execute(f"UPDATE batch SET {change} WHERE id = ?", number)
            fields = self._db.execute(
                f"SELECT {_BATCH}, sealed IS NULL FROM batch WHERE id = ?", number
            ).fetchone()
            self._db.execute(
                "UPDATE batch SET crc32c = ? WHERE id = ?", (row_sum(*fields), *number)
            )
        return len(numbers)

    def _columns(self, batch: int, rows: Iterable[StoredRow]) -> Iterator[tuple[int | None, ...]]:
        for row in rows:
            epoch = self._epochs.known[row.epoch_id]
            meter = self._epochs.meters[epoch.meter]
            yield to_columns(row.end_utc_s, meter, row.epoch_id, batch, epoch.schema_id, row.values)

    def _rows(self, which: str, values: Sequence[int]) -> list[StoredRow]:
        rows = self._db.execute(f"SELECT {ALL_COLUMNS} FROM interval {which}", values)
        return [
            StoredRow(row[0], row[2], self._values(row)) for row in rows if self._has_place(row)
        ]

    def _has_place(self, row: Sequence[int]) -> bool:
        """Whether a row names an epoch of its meter; without one nobody knows whose it is."""
        place = self._epochs.place(row[2])
        placed = place is not None and place[0] == row[1]
        if not placed:
            self._damaged(f"stored interval {row[0]} of meter number {row[1]}: of no known epoch")
        return placed

    def _values(self, row: Sequence[int]) -> Values:
        schema_id = self._epochs.known[row[2]].schema_id
        try:
            return from_columns(schema_id, row)
        except RowDamaged as error:
            self._damaged(str(error))
            return no_data(schema_id)
