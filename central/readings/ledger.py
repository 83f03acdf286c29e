"""The loader's own small file: rosters, days that wait for the map, batches that did not open.

All of it must be on disk before the watermark passes the batches it came
from, so every write is one synchronous transaction and may be repeated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from wire.block import Roster, RosterEntry
from wire.envelope import read_header
from wire.receipt import EPOCH_GONE, UNREADABLE

_SCHEMA = (
    "create table if not exists roster(device text not null, hash blob not null, "
    "entries text not null, primary key(device, hash)) strict",
    "create table if not exists waiting_day(day text primary key) strict",
    "create table if not exists unopened(lsn integer primary key, device text not null, "
    "stream blob not null, seq integer not null, reason text not null, detail text not null, "
    "sealed blob not null) strict",
    "create table if not exists progress(loader text primary key, lsn integer not null) strict",
)


_WAITING = "select reason, count(*) from unopened group by reason"

UNKNOWN = "unknown"
"""A later program's batch: nobody is asked for it again, it is opened after an update."""
REASONS = (UNKNOWN, EPOCH_GONE, UNREADABLE)
"""Why batches stay sealed; the last two are nacks."""


class LedgerError(Exception):
    """The loader's file holds something that it did not write."""


@dataclass(frozen=True, slots=True)
class Unopened:
    """A batch that did not open or decode; `reason` is one of REASONS."""

    lsn: int
    device: str
    stream: bytes
    seq: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class UnopenedBatch:
    """The same with its sealed bytes."""

    what: Unopened
    sealed: bytes


class LoaderLedger:
    """Written by the loader alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = full")
        for statement in _SCHEMA:
            self._database.execute(statement)

    def roster(self, device: str, roster_hash: bytes) -> Roster | None:
        """The roster that `device` sent, None if it never came; raises LedgerError if damaged."""
        row = self._database.execute(
            "select entries from roster where device = ? and hash = ?", (device, roster_hash)
        ).fetchone()
        if row is None:
            return None
        roster = Roster(tuple(RosterEntry(*fields) for fields in json.loads(row[0])))
        if roster.hash != roster_hash:
            raise LedgerError(
                f"roster {roster_hash.hex()} of {device}: stored entries hash to "
                f"{roster.hash.hex()}; delete the row, the device sends the roster again"
            )
        return roster

    def before_commit(
        self,
        rosters: Mapping[tuple[str, bytes], Roster],
        days: Iterable[date],
        unopened: Iterable[UnopenedBatch],
    ) -> None:
        """Keep what must not be lost when the watermark moves on."""
        with self._database as transaction:
            transaction.execute("begin immediate")
            transaction.executemany(
                "insert or ignore into roster values (?, ?, ?)",
                [
                    (device, key, json.dumps([(e.meter, e.serial, e.channels) for e in r.entries]))
                    for (device, key), r in rosters.items()
                ],
            )
            transaction.executemany(
                "insert or ignore into waiting_day values (?)", [(d.isoformat(),) for d in days]
            )
            transaction.executemany(
                "insert or replace into unopened values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (w.lsn, w.device, w.stream, w.seq, w.reason, w.detail, batch.sealed)
                    for batch in unopened
                    for w in (batch.what,)
                ],
            )

    def committed(self, loader: str, lsn: int) -> None:
        """Tell others (the collector's pruning) how far the lake is."""
        self._database.execute("insert or replace into progress values (?, ?)", (loader, lsn))

    def waiting_days(self) -> set[date]:
        """Days whose rows changed since the map was last refreshed."""
        return {
            date.fromisoformat(row[0])
            for row in self._database.execute("select day from waiting_day")
        }

    def refreshed(self, days: Iterable[date]) -> None:
        """The map has taken these days up."""
        with self._database as transaction:
            transaction.execute("begin immediate")
            transaction.executemany(
                "delete from waiting_day where day = ?", [(day.isoformat(),) for day in days]
            )

    def unopened(self, after_lsn: int, most_bytes: int) -> list[UnopenedBatch]:
        """The next batches that wait sealed, at least one if there is one."""
        rows = self._database.execute(
            "select lsn, device, stream, seq, reason, detail, sealed from unopened "
            "where lsn > ? order by lsn",
            (after_lsn,),
        )
        found: list[UnopenedBatch] = []
        for *what, sealed in rows:
            found.append(UnopenedBatch(Unopened(*what), sealed))
            most_bytes -= len(sealed)
            if most_bytes <= 0:
                break
        return found

    def opened(self, lsns: Iterable[int]) -> None:
        """These batches are in the lake now."""
        with self._database as transaction:
            transaction.execute("begin immediate")
            transaction.executemany("delete from unopened where lsn = ?", [(n,) for n in lsns])

    def waiting_by_reason(self) -> dict[str, int]:
        """How many batches wait sealed, by reason."""
        return dict(self._database.execute(_WAITING))

    def epochs_waited_for(self) -> set[bytes]:
        """Epoch keys that a later program will need for what waits sealed."""
        rows = self._database.execute("select sealed from unopened where reason = ?", (UNKNOWN,))
        return {read_header(sealed).epoch_kid for (sealed,) in rows}

    def close(self) -> None:
        """Give the file back."""
        self._database.close()


class LoaderProgress:
    """What others may see of the loader's file; everything is empty while there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def unopened_after(self, lsn: int) -> list[Unopened]:
        """Batches with a greater id that the device is to be asked for again."""
        query = (
            "select lsn, device, stream, seq, reason, detail from unopened "
            f"where lsn > ? and reason <> '{UNKNOWN}' order by lsn"
        )
        return [Unopened(*row) for row in self._rows(query, lsn)]

    def unopened_of(self, device: str, most: int) -> list[Unopened]:
        """The newest of those of one device."""
        query = (
            "select lsn, device, stream, seq, reason, detail from unopened "
            f"where device = ? and reason <> '{UNKNOWN}' order by lsn desc limit ?"
        )
        return [Unopened(*row) for row in self._rows(query, device, most)]

    def waiting_by_reason(self) -> dict[str, int]:
        """How many batches wait sealed, by reason."""
        return {str(reason): int(count) for reason, count in self._rows(_WAITING)}

    def waiting_by_device(self) -> dict[str, int]:
        """How many batches wait sealed, by device."""
        query = "select device, count(*) from unopened group by device"
        return {str(device): int(count) for device, count in self._rows(query)}

    def loaded_upto(self) -> int:
        """The journal id that all loaders have passed."""
        rows = self._rows("select coalesce(min(lsn), 0) from progress")
        return int(rows[0][0]) if rows else 0

    def _rows(self, query: str, *values: int | str) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        database = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = database.execute(
                "select count(*) from sqlite_master where name in ('unopened', 'progress')"
            )
            if tables.fetchone()[0] < 2:
                return []
            return database.execute(query, values).fetchall()
        finally:
            database.close()
