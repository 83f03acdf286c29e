"""Sealed batches on disk: the dedup ledger, the chain of every stream, the quarantine.

A batch is appended once: its identity is (device, stream, seq), its place in
the stream is proven by `prev`, the hash of the batch before. `append` returns
after the commit has reached the disk. One file holds one day; every new day
starts with a copy of all chain heads, in one transaction with its creation,
so that a head outlives the batches before it.

What lies here is sealed; nothing in this module can open it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from central.durable import sync

ZERO_HASH = bytes(16)
_DAY_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.db\Z")
QUARANTINE_ROWS_PER_DAY = 10_000
"""Refused messages kept per day; more are counted only, so that no one can fill the disk."""

_SCHEMA = """
create table batch(
  id integer primary key, device text not null, stream blob not null, seq integer not null,
  prev blob not null, hash blob not null, kid blob not null, content integer not null,
  schema_id integer not null, received_utc_s integer not null, sealed blob not null,
  unique(device, stream, seq)) strict;
create table chain(
  device text not null, stream blob not null, upto integer not null, hash blob not null,
  id integer not null, committed_at_utc_s integer not null,
  primary key(device, stream)) strict, without rowid;
create table quarantine(
  id integer primary key, received_utc_s integer not null, topic text not null,
  reason text not null, detail text not null, message blob not null) strict;
create table carried(last_id integer not null) strict;
"""


class JournalError(Exception):
    """The journal is not usable; the message names the file and the remedy."""


class Outcome(Enum):
    """What became of one batch."""

    NEW = "new"
    """Stored; the stream's head moved to it."""
    DUPLICATE = "duplicate"
    """It is stored already, or lies before a head whose batches are pruned."""
    FORK = "fork"
    """Its bytes or its `prev` contradict what is stored."""
    GAP = "gap"
    """Batches between the stream's head and this one have not come."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One verified, sealed batch. Hashes are 16 B, `stream` and `kid` 8 B."""

    device: str
    stream: bytes
    seq: int
    prev: bytes
    hash: bytes
    kid: bytes
    content: int
    schema_id: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that was not taken, with the reason's code and its circumstances."""

    topic: str
    reason: str
    detail: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Up to where a stream is stored. `lsn` is the id of the batch at `upto`."""

    upto: int
    hash: bytes
    lsn: int
    committed_at_utc_s: int


class Journal(Protocol):
    """What the collector needs of a journal. One writer."""

    def append(
        self, batches: Sequence[Batch], refusals: Sequence[Refusal], received_utc_s: int
    ) -> list[Outcome]:
        """Store in one durable transaction; one outcome per batch, in order."""
        ...

    def head(self, device: str, stream: bytes) -> Head | None:
        """The stream's head, None if the stream is not known."""
        ...

    def prune(self, before: date, loaded_upto: int) -> int:
        """Drop whole days before `before` that lie wholly at or below id `loaded_upto`."""
        ...


class SqliteJournal:
    """A journal of one SQLite file a day, WAL and synchronous=FULL."""

    def __init__(self, directory: Path, today: date) -> None:
        """Open for writing; raises JournalError if the newest file is damaged."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        days = _day_files(directory)
        self._day = max([today, *(day for day, _ in days)])
        self._database = self._open(self._day)
        self._next_id = self._last_id() + 1
        self._quarantined = self._count_quarantined()

    def append(
        self, batches: Sequence[Batch], refusals: Sequence[Refusal], received_utc_s: int
    ) -> list[Outcome]:
        """Store in one durable transaction; one outcome per batch, in order."""
        self._turn_to(datetime.fromtimestamp(received_utc_s, UTC).date())
        next_id = self._next_id
        outcomes = []
        with self._database as transaction:
            transaction.execute("begin immediate")
            for batch in batches:
                outcome = self._outcome(batch)
                outcomes.append(outcome)
                if outcome is Outcome.NEW:
                    _insert(transaction, next_id, batch, received_utc_s)
                    next_id += 1
            kept = list(refusals)[: max(0, QUARANTINE_ROWS_PER_DAY - self._quarantined)]
            transaction.executemany(
                "insert into quarantine(received_utc_s, topic, reason, detail, message) "
                "values (?, ?, ?, ?, ?)",
                [(received_utc_s, r.topic, r.reason, r.detail, r.message) for r in kept],
            )
        self._next_id = next_id
        self._quarantined += len(kept)
        return outcomes

    def head(self, device: str, stream: bytes) -> Head | None:
        """The stream's head, None if the stream is not known."""
        row = self._database.execute(
            "select upto, hash, id, committed_at_utc_s from chain where device = ? and stream = ?",
            (device, stream),
        ).fetchone()
        return None if row is None else Head(*row)

    def quarantined(self) -> list[tuple[str, str]]:
        """(reason, topic) of the messages refused in the present day, oldest first."""
        rows = self._database.execute("select reason, topic from quarantine order by id")
        return [(str(reason), str(topic)) for reason, topic in rows]

    def prune(self, before: date, loaded_upto: int) -> int:
        """Drop whole days before `before` that lie wholly at or below id `loaded_upto`."""
        dropped = 0
        for day, path in _day_files(self._directory):
            if day >= before or day == self._day:
                continue
            with _reading(path) as database:
                last = database.execute("select max(id) from batch").fetchone()[0] or 0
            database.close()
            if last > loaded_upto:
                break
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            dropped += 1
        return dropped

    def close(self) -> None:
        """Give the file back; nothing is pending."""
        self._database.close()

    def _turn_to(self, today: date) -> None:
        if today <= self._day:
            return
        previous, self._day = self._database, today
        self._database = self._open(today, previous)
        previous.execute("pragma wal_checkpoint(truncate)")
        previous.close()
        self._quarantined = 0

    def _open(self, day: date, previous: sqlite3.Connection | None = None) -> sqlite3.Connection:
        path = self._directory / f"{day.isoformat()}.db"
        database = sqlite3.connect(path, isolation_level=None)
        try:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = full")
            if database.execute("pragma user_version").fetchone()[0] == 0:
                self._begin_day(database, day, previous)
        except sqlite3.DatabaseError as error:
            raise JournalError(
                f"{path}: not usable ({error}); move it aside and restart, devices send again "
                "what no receipt has covered"
            ) from error
        return database

    def _begin_day(
        self, database: sqlite3.Connection, day: date, previous: sqlite3.Connection | None
    ) -> None:
        older = [path for known, path in _day_files(self._directory) if known < day]
        opened = previous or (_reading(older[-1]) if older else None)
        with database:
            database.execute("begin immediate")
            for statement in _SCHEMA.split(";\n"):
                database.execute(statement)
            last_id = 0
            if opened is not None:
                heads = opened.execute("select * from chain").fetchall()
                database.executemany("insert into chain values (?, ?, ?, ?, ?, ?)", heads)
                last_id = _last_id(opened)
            database.execute("insert into carried values (?)", (last_id,))
            database.execute("pragma user_version = 1")
        sync(self._directory)
        if opened is not None and previous is None:
            opened.close()

    def _last_id(self) -> int:
        return _last_id(self._database)

    def _count_quarantined(self) -> int:
        return int(self._database.execute("select count(*) from quarantine").fetchone()[0])

    def _outcome(self, batch: Batch) -> Outcome:
        head = self.head(batch.device, batch.stream)
        upto, expected_prev = (head.upto, head.hash) if head else (0, ZERO_HASH)
        if batch.seq > upto + 1:
            return Outcome.GAP
        if batch.seq == upto + 1:
            return Outcome.NEW if batch.prev == expected_prev else Outcome.FORK
        stored = self._stored_hash(batch)
        return Outcome.DUPLICATE if stored in (None, batch.hash) else Outcome.FORK

    def _stored_hash(self, batch: Batch) -> bytes | None:
        query = "select hash from batch where device = ? and stream = ? and seq = ?"
        key = (batch.device, batch.stream, batch.seq)
        row = self._database.execute(query, key).fetchone()
        older = [path for day, path in _day_files(self._directory) if day < self._day]
        while row is None and older:
            database = _reading(older.pop())
            row = database.execute(query, key).fetchone()
            database.close()
        return None if row is None else bytes(row[0])


class JournalReader:
    """Follows a journal that another process writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[Path, sqlite3.Connection] = {}

    def after(self, last_id: int, most_bytes: int) -> list[tuple[int, Batch]]:
        """Batches with a greater id, in order, about `most_bytes` of them but at least one."""
        found: list[tuple[int, Batch]] = []
        left = most_bytes
        present = [path for _, path in _day_files(self._directory)]
        for gone in self._opened.keys() - set(present):
            self._opened.pop(gone).close()
        for path in present:
            for row in self._rows(path, last_id):
                found.append((row[0], Batch(*row[1:])))
                left -= len(row[-1])
                if left <= 0:
                    return found
        return found

    def close(self) -> None:
        """Give all files back."""
        for database in self._opened.values():
            database.close()
        self._opened.clear()

    def _rows(self, path: Path, last_id: int) -> Iterable[tuple[Any, ...]]:
        database = self._opened.get(path)
        if database is None:
            database = _reading(path)
            # A day file that its writer has not finished creating has no version yet.
            if database.execute("pragma user_version").fetchone()[0] == 0:
                database.close()
                return
            self._opened[path] = database
        yield from database.execute(
            "select id, device, stream, seq, prev, hash, kid, content, schema_id, sealed "
            "from batch where id > ? order by id",
            (last_id,),
        )


def _insert(
    transaction: sqlite3.Connection, batch_id: int, batch: Batch, received_utc_s: int
) -> None:
    transaction.execute(
        "insert into batch values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch_id,
            batch.device,
            batch.stream,
            batch.seq,
            batch.prev,
            batch.hash,
            batch.kid,
            batch.content,
            batch.schema_id,
            received_utc_s,
            batch.sealed,
        ),
    )
    transaction.execute(
        "insert or replace into chain values (?, ?, ?, ?, ?, ?)",
        (batch.device, batch.stream, batch.seq, batch.hash, batch_id, received_utc_s),
    )


def _last_id(database: sqlite3.Connection) -> int:
    query = "select max((select last_id from carried), coalesce((select max(id) from batch), 0))"
    return int(database.execute(query).fetchone()[0])


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _day_files(directory: Path) -> list[tuple[date, Path]]:
    """The journal's files, oldest first."""
    return sorted(
        (date.fromisoformat(match[1]), path)
        for path in directory.glob("*.db")
        if (match := _DAY_FILE.match(path.name))
    )
