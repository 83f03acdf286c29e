"""The SQLite file: closed intervals, sealed batches, the stream's head.

Owned by one thread. WAL with synchronous=FULL, so what a commit has
acknowledged survives a power cut. The first true value of an interval wins;
only a row that reports "no data" gives way to a later one. Not promised: room.
When the quota is reached, `StoreFull` is raised and `make_room` drops receipted
history first, then, counted, the oldest batches without a receipt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.store.event_table import EventTable
from agent.store.held_table import NOT_HELD, HeldTable
from agent.store.identity import StreamHead
from agent.store.log_table import LogTable
from agent.store.migrations import migrate
from agent.store.outline import CutBatch, Recalled, StoredRow
from agent.store.rows import MeterEpoch, RowDamaged, Values, no_data, pack, unpack
from wire.quality import Quality

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

UNCUT = 0
"""The batch number of rows that no batch holds yet."""

_PAGE_BYTES = 4096
_PRUNE_ROWS = 2000
_ROOM_ROWS = 10_000


class StoreDamaged(Exception):
    """The database file is not one, or fails its own check; it is put aside."""


class StoreFull(Exception):
    """The quota or the disk is full; `make_room` and try again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What had no receipt and made room."""

    rows: int = 0
    events: int = 0


class Store:
    """The open database. Every public method that writes must run inside `transaction`."""

    def __init__(self, path: Path, quota_mib: int) -> None:
        try:
            self._db = _open(path, quota_mib)
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(
                f"{path}: {error}; it is put aside and a new one is begun"
            ) from error
        self.events = EventTable(self._db)
        self.log = LogTable(self._db)
        self.held = HeldTable(self._db)
        self._meters: dict[str, int] = {}
        self._epochs: dict[int, MeterEpoch] = {}
        self._epoch_ids: dict[tuple[str, str, int], int] = {}
        self._load_epochs()

    def close(self) -> None:
        """Close the file; the log is folded in."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; raises StoreFull."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StoreFull(f"{error}; the oldest history makes room") from error
            raise
        except BaseException:
            self._roll_back()
            raise

    # --- meters and their epochs

    def epoch_id(self, epoch: MeterEpoch) -> int:
        """The number of an epoch; a new one, or one with more channels, is written down."""
        key = (epoch.meter, epoch.serial, epoch.schema_id)
        known = self._epoch_ids.get(key)
        if known is not None and self._epochs[known].channels | epoch.channels == (
            self._epochs[known].channels
        ):
            return known
        if known is not None:
            channels = self._epochs[known].channels | epoch.channels
            self._db.execute("UPDATE epoch SET channels = ? WHERE id = ?", (channels, known))
            self._remember(known, MeterEpoch(*key, channels))
            return known
        cursor = self._db.execute(
            "INSERT INTO epoch (meter, serial, schema_id, channels) VALUES (?, ?, ?, ?)",
            (self._meter(epoch.meter), epoch.serial, epoch.schema_id, epoch.channels),
        )
        assert cursor.lastrowid is not None
        self._remember(cursor.lastrowid, epoch)
        return cursor.lastrowid

    def epochs(self) -> dict[int, MeterEpoch]:
        """All epochs by number, oldest first."""
        return self._epochs

    # --- intervals

    def insert(self, batch: int, rows: Iterable[StoredRow]) -> None:
        """Add rows to a batch (or UNCUT); a row that holds data already stays as it is."""
        self._db.executemany(
            "INSERT INTO interval VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (end_utc_s, meter) "
            "DO UPDATE SET epoch = excluded.epoch, batch = excluded.batch, "
            "flags = excluded.flags, packed = excluded.packed WHERE interval.flags & 1",
            self._packed(batch, rows),
        )

    def assign(self, batch: int, rows: Iterable[StoredRow]) -> None:
        """Say that rows that are in the store already are now in `batch`."""
        self._db.executemany(
            "UPDATE interval SET batch = ? WHERE end_utc_s = ? AND meter = ?",
            (
                (batch, row.end_utc_s, self._meters[self._epochs[row.epoch_id].meter])
                for row in rows
            ),
        )

    def rows_of(self, batch: int, first_end_utc_s: int, last_end_utc_s: int) -> list[StoredRow]:
        """The rows of one batch; a damaged one comes out as NO_DATA."""
        return [
            StoredRow(end, epoch, self._values(end, meter, epoch, packed))
            for end, meter, epoch, packed in self._db.execute(
                "SELECT end_utc_s, meter, epoch, packed FROM interval "
                "WHERE end_utc_s BETWEEN ? AND ? AND batch = ?",
                (first_end_utc_s, last_end_utc_s, batch),
            )
        ]

    def oldest_uncut(self) -> int | None:
        """The oldest end that waits to be cut, None if there is none; scans the table."""
        (oldest,) = self._db.execute(
            f"SELECT min(end_utc_s) FROM interval WHERE batch = ? AND {NOT_HELD}", (UNCUT,)
        ).fetchone()
        return None if oldest is None else int(oldest)

    def uncut(self, since_utc_s: int, limit: int) -> list[StoredRow]:
        """Rows that wait to be cut, newest first, at most `limit`, none before `since_utc_s`."""
        return [
            StoredRow(end, epoch, self._values(end, meter, epoch, packed))
            for end, meter, epoch, packed in self._db.execute(
                "SELECT end_utc_s, meter, epoch, packed FROM interval "
                f"WHERE batch = ? AND end_utc_s >= ? AND {NOT_HELD} "
                "ORDER BY end_utc_s DESC LIMIT ?",
                (UNCUT, since_utc_s, limit),
            )
        ]

    def recall(self, since_utc_s: int) -> dict[str, Recalled]:
        """What is known of every meter since `since_utc_s`."""
        names = {number: name for name, number in self._meters.items()}
        recalled: dict[str, Recalled] = {name: Recalled() for name in self._meters}
        last: dict[int, tuple[int, int, bytes]] = {}
        present: dict[int, int] = {}
        named: dict[int, tuple[str, int]] = {}
        for end, meter, epoch, flags, packed in self._db.execute(
            "SELECT end_utc_s, meter, epoch, flags, packed FROM interval WHERE end_utc_s >= ? "
            "ORDER BY end_utc_s",
            (since_utc_s,),
        ):
            recalled[names[meter]].ends_utc_s.append(end)
            if flags & Quality.NO_DATA:
                recalled[names[meter]].missing_utc_s.append(end)
            if serial := self._epochs[epoch].serial:
                before = named.get(meter, (serial, end))
                if before[0] != serial:
                    recalled[names[meter]].exchanged_after_utc_s = before[1]
                named[meter] = (serial, end)
            present[meter] = epoch
            if not flags & Quality.NO_DATA:
                last[meter] = (end, epoch, packed)
        for meter, (end, epoch, packed) in last.items():
            values = self._values(end, meter, epoch, packed)
            if not values[-1] & Quality.NO_DATA:
                recalled[names[meter]].last_true = (end, tuple(values))
                recalled[names[meter]].data_serial = self._epochs[epoch].serial
        for meter, epoch in present.items():
            recalled[names[meter]].serial = self._epochs[epoch].serial
            recalled[names[meter]].channels = self._epochs[epoch].channels
            recalled[names[meter]].schema_id = self._epochs[epoch].schema_id
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
        self._db.execute(
            "INSERT INTO head VALUES (1, ?, ?, ?, 0) ON CONFLICT (one) DO UPDATE "
            "SET stream = excluded.stream, next_seq = excluded.next_seq, hash = excluded.hash",
            (head.stream, head.next_seq, head.hash),
        )

    def add_batch(self, batch: CutBatch) -> int:
        """Write a sealed batch and move the head; returns the batch's number."""
        self.set_head(batch.head)
        # Numbers are never used twice: rows of a batch long gone still carry its number.
        (number,) = self._db.execute(
            "UPDATE head SET last_batch = last_batch + 1 RETURNING last_batch"
        ).fetchone()
        self._db.execute(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)",
            (
                number,
                batch.head.stream,
                batch.head.next_seq - 1,
                batch.schema_id,
                batch.first_end_utc_s,
                batch.last_end_utc_s,
                batch.head.hash,
                batch.sealed,
            ),
        )
        return int(number)

    def sealed_after(self, stream: bytes, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """(seq, sealed) of batches without a receipt, ascending."""
        return self._db.execute(
            "SELECT seq, sealed FROM batch WHERE stream = ? AND seq > ? "
            "AND sealed IS NOT NULL ORDER BY seq LIMIT ?",
            (stream, seq, limit),
        ).fetchall()

    def hash_at(self, stream: bytes, seq: int) -> bytes | None:
        """Chain hash of a batch, None if it is not (or no longer) known."""
        row = self._db.execute(
            "SELECT hash FROM batch WHERE stream = ? AND seq = ?", (stream, seq)
        ).fetchone()
        return row[0] if row else None

    def receipt(self, stream: bytes, upto: int, at_utc_s: int) -> int:
        """Drop the sealed bytes up to a receipt; the rows stay as history. Returns how many."""
        return self._db.execute(
            "UPDATE batch SET sealed = NULL, receipted_utc_s = ? "
            "WHERE stream = ? AND seq <= ? AND sealed IS NOT NULL",
            (at_utc_s, stream, upto),
        ).rowcount

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
        self._db.execute(
            "UPDATE batch SET first_end_utc_s = last_end_utc_s + 1 WHERE id = ?", (number,)
        )

    def withdraw_receipts(self, stream: bytes, after: int) -> None:
        """A stream that is being left has no receipt above `after`; its sealed bytes are gone."""
        self._db.execute(
            "UPDATE batch SET sealed = x'', receipted_utc_s = NULL "
            "WHERE stream = ? AND seq > ? AND sealed IS NULL",
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

    def prune(self, before_utc_s: int, limit: int = _PRUNE_ROWS) -> int:
        """Drop receipted history that ended before an instant, a small piece at a time."""
        dropped = self._db.execute(
            "DELETE FROM interval WHERE (end_utc_s, meter) IN (SELECT end_utc_s, meter "
            "FROM interval WHERE end_utc_s < ? AND batch != ? AND batch NOT IN "
            "(SELECT id FROM batch WHERE sealed IS NOT NULL) LIMIT ?)",
            (before_utc_s, UNCUT, limit),
        ).rowcount
        self._db.execute(
            "DELETE FROM batch WHERE sealed IS NULL AND last_end_utc_s < ? AND seq < "
            "(SELECT max(seq) FROM batch AS later WHERE later.stream = batch.stream "
            "AND later.sealed IS NULL)",
            (before_utc_s,),
        )
        return dropped + self.events.prune(UNCUT, limit) + self.log.prune(UNCUT, limit)

    def make_room(self) -> Lost:
        """Free pages; returns what was lost without a receipt (nothing while history lasts)."""
        with self.transaction():
            if self.prune(1 << 62, _ROOM_ROWS):
                return Lost()
        oldest = self._db.execute(
            "SELECT id, first_end_utc_s, last_end_utc_s FROM batch WHERE sealed IS NOT NULL "
            "ORDER BY last_end_utc_s LIMIT 1"
        ).fetchone()
        with self.transaction():
            if oldest is None:
                rows = self._db.execute(
                    "DELETE FROM interval WHERE end_utc_s <= (SELECT min(end_utc_s) FROM interval)"
                ).rowcount
                return Lost(rows, 0 if rows else self.events.drop_batch(UNCUT))
            self.forget_batch(oldest[0])
            rows = self._db.execute(
                "DELETE FROM interval WHERE batch = ? AND end_utc_s BETWEEN ? AND ?", oldest
            ).rowcount
            return Lost(rows, self.events.drop_batch(oldest[0]))

    # --- helpers

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._load_epochs()

    def _load_epochs(self) -> None:
        self._meters = dict(self._db.execute("SELECT name, id FROM meter"))
        self._epochs.clear()
        self._epoch_ids.clear()
        for epoch_id, *fields in self._db.execute(
            "SELECT epoch.id, name, serial, schema_id, channels FROM epoch "
            "JOIN meter ON meter.id = epoch.meter ORDER BY epoch.id"
        ):
            self._remember(epoch_id, MeterEpoch(*fields))

    def _remember(self, epoch_id: int, epoch: MeterEpoch) -> None:
        self._epochs[epoch_id] = epoch
        self._epoch_ids[epoch.meter, epoch.serial, epoch.schema_id] = epoch_id

    def _meter(self, name: str) -> int:
        number = self._meters.get(name)
        if number is None:
            cursor = self._db.execute("INSERT INTO meter (name) VALUES (?)", (name,))
            assert cursor.lastrowid is not None
            number = self._meters[name] = cursor.lastrowid
        return number

    def _packed(
        self, batch: int, rows: Iterable[StoredRow]
    ) -> Iterator[tuple[int, int, int, int, int, bytes]]:
        for row in rows:
            epoch = self._epochs[row.epoch_id]
            meter = self._meters[epoch.meter]
            packed = pack(row.end_utc_s, meter, epoch, row.epoch_id, row.values)
            yield row.end_utc_s, meter, row.epoch_id, batch, row.values[-1], packed

    def _values(self, end: int, meter: int, epoch: int, packed: bytes) -> Values:
        schema_id = self._epochs[epoch].schema_id
        try:
            return unpack(end, meter, schema_id, epoch, packed)
        except RowDamaged:
            return no_data(schema_id)


def _open(path: Path, quota_mib: int) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 500")
    database.execute("PRAGMA journal_size_limit = 4194304")
    database.execute("PRAGMA cache_size = -1024")
    database.execute(f"PRAGMA max_page_count = {quota_mib * (1 << 20) // _PAGE_BYTES}")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    migrate(path)
    return database
