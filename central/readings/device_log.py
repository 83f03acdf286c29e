"""The concentrators' own logs in `device_log.db`, and whether anything is missing from them.

The loader alone writes; anyone may read. Each entry is kept once, however
often its batch came; two that claim one place are both kept, as nobody can say
here which is right. What a concentrator has not sent yet cannot be missed:
only what lies before an entry that came.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from wire.log import NO_PREV, Entry, Piece, entry_hash

_SCHEMA = (
    "create table if not exists entry(device text not null, chain blob not null, "
    "number integer not null, hash blob not null, prev blob not null, at_utc_s integer not null, "
    "code text not null, detail text not null, lsn integer not null, "
    "primary key(device, chain, number, hash)) strict, without rowid"
)
_LINKS = "select device, chain, number, hash, prev, at_utc_s, code, detail from entry"
MOST_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """One entry as it is shown; `at_utc_s` is by the concentrator's clock."""

    at_utc_s: int
    code: str
    detail: str
    chain: str
    number: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that an honest, whole log does not show."""

    device: str
    chain: str
    number: int
    """Of the entry at which it shows."""
    kind: str
    """`missing`, `altered` or `forked`."""
    what: str


@dataclass(frozen=True, slots=True)
class _Link:
    device: str
    chain: bytes
    number: int
    hash: bytes
    prev: bytes
    entry: Entry


class DeviceLogLedger:
    """Written by the loader alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = full")
        self._database.execute(_SCHEMA)

    def add(self, pieces: Iterable[tuple[int, str, Piece]]) -> list[Flaw]:
        """Take up (journal id, device, piece), durably; may be repeated.

        Returns what is wrong around new entries. A hole before them is not
        said here: a batch that is opened later may fill it.
        """
        flaws: list[Flaw] = []
        with self._database as transaction:
            transaction.execute("begin immediate")
            for lsn, device, piece in pieces:
                before = self._database.total_changes
                transaction.executemany(
                    "insert or ignore into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    _rows(lsn, device, piece),
                )
                if self._database.total_changes > before:
                    flaws += self._around(device, piece)
        return flaws

    def close(self) -> None:
        """Give the file back."""
        self._database.close()

    def _around(self, device: str, piece: Piece) -> list[Flaw]:
        last = piece.first + len(piece.entries)
        where = " where device = ? and chain = ? and number between ? and ? order by number, hash"
        found = self._database.execute(
            _LINKS + where, (device, piece.chain, piece.first - 1, last)
        ).fetchall()
        return [flaw for flaw in _flaws(map(_link, found)) if flaw.kind != "missing"]


def read_log(
    path: Path, device: str, first_utc_s: int = 0, *, most: int = MOST_SHOWN
) -> list[LoggedEntry]:
    """The newest `most` entries of a device since an instant, newest first."""
    rows = _query(
        path,
        "select at_utc_s, code, detail, lower(hex(chain)), number from entry where device = ? "
        "and at_utc_s >= ? order by lsn desc, number desc limit ?",
        (device, first_utc_s, most),
    )
    return [LoggedEntry(*row) for row in rows]


def count_entries(path: Path, device: str) -> int:
    """How many entries of a device there are."""
    rows = _query(path, "select count(*) from entry where device = ?", (device,))
    return rows[0][0] if rows else 0


def find_flaws(path: Path, device: str | None = None) -> list[Flaw]:
    """What is missing from the logs of one device or all, altered in them, or there twice."""
    rows = _query(
        path,
        f"{_LINKS} where ? is null or device = ? order by device, chain, number, hash",
        (device, device),
    )
    return _flaws(map(_link, rows))


def _query(path: Path, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if not database.execute("select 1 from sqlite_master where name = 'entry'").fetchone():
            return []
        return database.execute(query, values).fetchall()
    finally:
        database.close()


def _rows(lsn: int, device: str, piece: Piece) -> Iterator[tuple[Any, ...]]:
    prev = piece.prev
    for number, entry in enumerate(piece.entries, piece.first):
        head = entry_hash(piece.chain, prev, number, entry)
        yield (device, piece.chain, number, head, prev, *entry, lsn)
        prev = head


def _link(row: tuple[Any, ...]) -> _Link:
    device, chain, number, head, prev, *entry = row
    return _Link(device, chain, number, head, prev, Entry(*entry))


def _flaws(links: Iterable[_Link]) -> list[Flaw]:
    """Of links in the order of device, chain and number."""
    return [
        flaw
        for _, chain in groupby(links, key=lambda link: (link.device, link.chain))
        for flaw in _flaws_of_chain(list(chain))
    ]


def _flaws_of_chain(links: list[_Link]) -> Iterator[Flaw]:
    known, heads = 0, {NO_PREV}
    for number, group in groupby(links, key=lambda link: link.number):
        claims = list(group)
        first = claims[0]
        if number > known + 1:
            yield _flaw(first, "missing", f"entries {known + 1} to {number - 1} never came")
        elif any(claim.prev not in heads for claim in claims):
            yield _flaw(first, "altered", f"entry {number} does not follow from {number - 1}")
        if len(claims) > 1:
            what = "an older image of its card ran, or a copy of it"
            yield _flaw(first, "forked", f"{len(claims)} entries have number {number}: {what}")
        for claim in claims:
            if entry_hash(claim.chain, claim.prev, number, claim.entry) != claim.hash:
                yield _flaw(first, "altered", f"entry {number} is not what its hash says")
        known, heads = number, {claim.hash for claim in claims}


def _flaw(link: _Link, kind: str, what: str) -> Flaw:
    return Flaw(link.device, link.chain.hex(), link.number, kind, what)
