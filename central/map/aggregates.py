"""aggregates.db: what the page draws, ready made. The loader writes it, everyone else reads.

It is a cache: all of it can be computed again from readings and grid. A block
is named by the SHA-256 of its bytes and never changes; per layer and day one
block is current, and the few before it are kept so that a page that has just
heard of them can still fetch them. One refresh is one transaction.
"""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS_KEPT = 6
"""Blocks per layer and day that stay fetchable, the current one included."""

SOURCE_NONE, SOURCE_CHECK_METER, SOURCE_SUM_OF_METERS = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class CellDay:
    """Energies of one day per [step][cell], Wh in the interval.

    `reporting` counts the meters that gave an energy; where it is 0 the sums
    mean nothing. `ev_wh` is -1 where no charger of the cell reported.
    """

    import_wh: NDArray[np.int32]
    export_wh: NDArray[np.int32]
    ev_wh: NDArray[np.int32]
    reporting: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class TransformerDay:
    """Loading of one day per [step][transformer]; NaN where not known."""

    apparent_va: NDArray[np.float32]
    active_w: NDArray[np.float32]
    """Positive: drawn from the medium-voltage side."""
    source: NDArray[np.uint8]
    """One of the SOURCE_ constants."""
    reporting: NDArray[np.uint16]
    """Meters below the transformer that reported."""


@dataclass(frozen=True, slots=True, eq=False)
class AggregatedDay:
    """Everything that one refresh computes for one UTC day."""

    day: date
    steps: int
    """Intervals of the day that are over."""
    coverage: float
    """Share of meter-intervals with a known energy among those that are over, 0 to 1."""
    blocks: Mapping[str, bytes]
    """Encoded block per layer id."""
    cells: CellDay
    transformers: TransformerDay


@dataclass(frozen=True, slots=True)
class DayState:
    """What is known about one stored day."""

    day: date
    steps: int
    coverage: float


@dataclass(frozen=True, slots=True)
class State:
    """What a reader finds now."""

    grid_version: str | None
    last_end_utc_s: int | None
    interval_s: int
    days: tuple[DayState, ...]
    versions: Mapping[str, Mapping[str, str]]
    """Layer id to day (ISO) to the name of the current block."""


EMPTY = State(None, None, 900, (), {})


class Aggregates:
    """The one writer of aggregates.db."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the last refresh, never the file: the loader refreshes again.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_TABLES)

    @property
    def grid_version(self) -> str | None:
        """Version of the grid that all stored days were computed with."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = 'grid'").fetchone()
        return None if row is None else str(row[0])

    def days(self) -> set[date]:
        """The days that are stored."""
        rows = self._connection.execute("SELECT day FROM days")
        return {date.fromisoformat(day) for (day,) in rows}

    def write(
        self,
        grid_version: str,
        interval_s: int,
        last_end_utc_s: int | None,
        days: Iterable[AggregatedDay],
    ) -> None:
        """Store the days in one transaction; another grid version drops all that is stored."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            if self.grid_version != grid_version:
                for table in ("blocks", "current_blocks", "days", "cell_days", "transformer_days"):
                    self._connection.execute(f"DELETE FROM {table}")
            meta = {"grid": grid_version, "interval_s": interval_s, "last_end": last_end_utc_s}
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
            for day in days:
                self._write_day(day)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _write_day(self, aggregated: AggregatedDay) -> None:
        day = aggregated.day.isoformat()
        execute = self._connection.execute
        execute(
            "INSERT OR REPLACE INTO days VALUES (?, ?, ?)",
            (day, aggregated.steps, aggregated.coverage),
        )
        for layer, block in aggregated.blocks.items():
            self._write_block(layer, day, block)
        cells, units = aggregated.cells, aggregated.transformers
        execute(
            "INSERT OR REPLACE INTO cell_days VALUES (?, ?, ?, ?, ?)",
            _packed(day, cells.import_wh, cells.export_wh, cells.ev_wh, cells.reporting),
        )
        execute(
            "INSERT OR REPLACE INTO transformer_days VALUES (?, ?, ?, ?, ?)",
            _packed(day, units.apparent_va, units.active_w, units.source, units.reporting),
        )

    def _write_block(self, layer: str, day: str, block: bytes) -> None:
        version = hashlib.sha256(block).hexdigest()
        execute = self._connection.execute
        current = execute(
            "SELECT version FROM current_blocks WHERE layer = ? AND day = ?", (layer, day)
        ).fetchone()
        if current == (version,):
            return
        gzipped = gzip.compress(block, compresslevel=1, mtime=0)
        execute(
            "INSERT OR REPLACE INTO blocks (layer, day, version, gzipped) VALUES (?, ?, ?, ?)",
            (layer, day, version, gzipped),
        )
        execute("INSERT OR REPLACE INTO current_blocks VALUES (?, ?, ?)", (layer, day, version))
        execute(
            "DELETE FROM blocks WHERE layer = ? AND day = ? AND sequence NOT IN"
            " (SELECT sequence FROM blocks WHERE layer = ? AND day = ?"
            " ORDER BY sequence DESC LIMIT ?)",
            (layer, day, layer, day, BLOCKS_KEPT),
        )


class AggregatesReader:
    """Reads aggregates.db from any process and thread; a file that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self) -> State:
        """Days, versions and coverage as of one instant."""
        connection = self.connect()
        if connection is None:
            return EMPTY
        try:
            return read_state(connection)
        finally:
            connection.close()

    def block_gzipped(self, layer: str, day: date, version: str) -> bytes | None:
        """The gzipped bytes of one block; None when it is not kept."""
        row = self._row(
            "SELECT gzipped FROM blocks WHERE layer = ? AND day = ? AND version = ?",
            (layer, day.isoformat(), version),
        )
        return None if row is None else bytes(row[0])

    def cell_day(self, day: date, cells: int) -> CellDay | None:
        """Energies per cell; None when the day is not stored."""
        row = self._row(
            "SELECT import_wh, export_wh, ev_wh, reporting FROM cell_days WHERE day = ?",
            (day.isoformat(),),
        )
        if row is None:
            return None
        return CellDay(
            _unpacked(row[0], "<i4", cells),
            _unpacked(row[1], "<i4", cells),
            _unpacked(row[2], "<i4", cells),
            _unpacked(row[3], "<u2", cells),
        )

    def transformer_days(
        self, first: date, last: date, transformers: int
    ) -> list[tuple[date, TransformerDay]]:
        """Loading of the stored days from `first` to `last`, both included, in order."""
        connection = self.connect()
        if connection is None:
            return []
        try:
            rows = connection.execute(
                "SELECT day, apparent_va, active_w, source, reporting FROM transformer_days"
                " WHERE day BETWEEN ? AND ? ORDER BY day",
                (first.isoformat(), last.isoformat()),
            ).fetchall()
        finally:
            connection.close()
        return [
            (
                date.fromisoformat(row[0]),
                TransformerDay(
                    _unpacked(row[1], "<f4", transformers),
                    _unpacked(row[2], "<f4", transformers),
                    _unpacked(row[3], "|u1", transformers),
                    _unpacked(row[4], "<u2", transformers),
                ),
            )
            for row in rows
        ]

    def connect(self) -> sqlite3.Connection | None:
        """A read-only connection; None while the loader has not made the file."""
        if not self._path.exists():
            return None
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=10,
            check_same_thread=False,
            isolation_level=None,
        )
        made = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'transformer_days'"
        ).fetchone()
        if made == (0,):
            connection.close()
            return None
        return connection

    def _row(self, sql: str, parameters: tuple[str, ...]) -> tuple[Any, ...] | None:
        connection = self.connect()
        if connection is None:
            return None
        try:
            row: tuple[Any, ...] | None = connection.execute(sql, parameters).fetchone()
            return row
        finally:
            connection.close()


def read_state(connection: sqlite3.Connection) -> State:
    """The state over an open connection, consistent in itself.

    Days before the first known energy are left out: they hold no more than
    the register at which the first interval begins.
    """
    connection.execute("BEGIN")
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        days = tuple(
            DayState(date.fromisoformat(day), steps, coverage)
            for day, steps, coverage in connection.execute(
                "SELECT * FROM days WHERE day >= (SELECT min(day) FROM days WHERE coverage > 0)"
                " ORDER BY day"
            )
        )
        versions: dict[str, dict[str, str]] = {}
        for layer, day, version in connection.execute(
            "SELECT layer, day, version FROM current_blocks"
            " WHERE day >= (SELECT min(day) FROM days WHERE coverage > 0) ORDER BY layer, day"
        ):
            versions.setdefault(layer, {})[day] = version
    finally:
        connection.execute("COMMIT")
    return State(
        meta.get("grid"), meta.get("last_end"), meta.get("interval_s", 900), days, versions
    )


_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (
    day TEXT PRIMARY KEY, steps INTEGER NOT NULL, coverage REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    layer TEXT NOT NULL, day TEXT NOT NULL, version TEXT NOT NULL, gzipped BLOB NOT NULL,
    UNIQUE (layer, day, version));
CREATE TABLE IF NOT EXISTS current_blocks (
    layer TEXT NOT NULL, day TEXT NOT NULL, version TEXT NOT NULL,
    PRIMARY KEY (layer, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cell_days (
    day TEXT PRIMARY KEY, import_wh BLOB NOT NULL, export_wh BLOB NOT NULL,
    ev_wh BLOB NOT NULL, reporting BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS transformer_days (
    day TEXT PRIMARY KEY, apparent_va BLOB NOT NULL, active_w BLOB NOT NULL,
    source BLOB NOT NULL, reporting BLOB NOT NULL);
"""


def _packed(day: str, *arrays: NDArray[Any]) -> tuple[str | bytes, ...]:
    little_endian = (values.astype(values.dtype.newbyteorder("<"), copy=False) for values in arrays)
    return day, *(zlib.compress(values.tobytes(), 1) for values in little_endian)


def _unpacked(blob: bytes, dtype: str, columns: int) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(blob), dtype=dtype).reshape(-1, columns)
