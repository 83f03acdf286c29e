"""Entries of meters' event logs in `events.db`: each once, however often its batch came.

The loader alone writes; anyone may read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wire.events import Event

_SCHEMA = (
    "create table if not exists event(meter text not null, serial text not null, "
    "log text not null, at_utc_s integer not null, code integer not null, detail text not null, "
    "n integer not null, device text not null, lsn integer not null, "
    "primary key(meter, at_utc_s, log, serial, code, detail, n)) strict, without rowid"
)
MOST_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """One entry of one log; `at_utc_s` is by the meter's clock."""

    meter: str
    at_utc_s: int
    log: str
    code: int
    detail: str
    serial: str
    n: int
    """Counts entries that agree in all else, from 0."""
    device: str
    """The agent that told it."""


class EventLedger:
    """Written by the loader alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = full")
        self._database.execute(_SCHEMA)

    def add(self, events: Iterable[tuple[int, str, Event]]) -> int:
        """Take up (journal id, device, event), durably; may be repeated. Returns the new ones."""
        before = self._database.total_changes
        with self._database as transaction:
            transaction.execute("begin immediate")
            transaction.executemany(
                "insert or ignore into event values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((*event, device, lsn) for lsn, device, event in events),
            )
        return self._database.total_changes - before

    def close(self) -> None:
        """Give the file back."""
        self._database.close()


def read_events(
    path: Path,
    meters: str | Iterable[str],
    first_utc_s: int = 0,
    last_utc_s: int = 1 << 40,
    *,
    log: str | None = None,
    most: int = MOST_SHOWN,
) -> list[ShownEvent]:
    """The newest `most` entries of a meter or several in [first, last], newest first."""
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if not database.execute("select 1 from sqlite_master where name = 'event'").fetchone():
            return []
        wanted = json.dumps([meters] if isinstance(meters, str) else list(meters))
        rows = database.execute(
            "select meter, at_utc_s, log, code, detail, serial, n, device from event "
            "where meter in (select value from json_each(?)) and at_utc_s between ? and ? "
            "and (? is null or log = ?) "
            "order by at_utc_s desc, lsn desc, meter, log, serial, code, detail, n limit ?",
            (wanted, first_utc_s, last_utc_s, log, log, most),
        )
        return [ShownEvent(*row) for row in rows]
    finally:
        database.close()
