"""Takes over from a damaged database all rows that are sound, table by table, row by row.

A table is read straight through from both ends; if that cannot be done, by
ranges: one that cannot be read is halved, until the rows that cannot be read
are alone. A row that is not what was written is left behind. What the lost
record of a batch might have said is taken for no receipt: its rows are sent
again, and central counts none twice. Not promised: a database whose first page
is gone gives nothing, and where the order of a table is damaged rows may stand
that no range finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

from agent.store.rows import MeterEpoch
from agent.store.scrub import (
    BATCH,
    EVENT,
    EVENT_LOG,
    HELD_ROW,
    LOG_ENTRY,
    LOG_HEAD,
    Checked,
    Row,
    intervals,
)
from agent.store.sums import row_sum

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged database makes of a question: the latter where a name is no text any more."""
_MOST_FAILURES = 20_000
"""Queries that may fail before the rest is given up."""
_LARGEST_KEY = 1 << 34
"""More than any number of a row, or any end that is told in UTC s, has."""
_PIECES = 10
"""So many pieces of what the scrub looks at are written together."""
_GRANULES = 64
"""So many possible keys are read at once."""


@dataclass(slots=True)
class Salvaged:
    """How many rows of each table were taken over, and how many could not be."""

    taken: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    """Rows that are not what was written, and places that could not be read."""
    batches_known: bool = True
    """Whether the record of every batch is there, so that a batch without one is long gone."""

    def __str__(self) -> str:
        taken = " ".join(f"{name}={count}" for name, count in self.taken.items() if count)
        return f"{taken or 'nothing'} damaged={self.damaged}"


def salvage(
    path: Path, into: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]
) -> Salvaged:
    """Copy into a new database, in transactions of its own.

    Raises StoreFull if it cannot hold all, one of UNREADABLE if there is no database to read.
    """
    salvaged = Salvaged()
    # Read only: what lies in quarantine stays as it was found.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as old:
        # A damaged text need not be text any more; its checksum tells.
        old.text_factory = lambda raw: raw.decode(errors="replace")
        source = _Source(old)
        epochs = source.epochs()
        with transaction():
            into.executemany(
                "INSERT INTO meter (id, name) VALUES (?, ?)",
                {meter: epoch.meter for meter, epoch in epochs.values()}.items(),
            )
            into.executemany(
                "INSERT INTO epoch (id, meter, serial, schema_id, channels, crc32c) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (_epoch_row(number, *known) for number, known in epochs.items()),
            )
        places = {number: (meter, epoch.schema_id) for number, (meter, epoch) in epochs.items()}
        tables: tuple[Checked, ...] = (BATCH, intervals(places.get), EVENT, EVENT_LOG, HELD_ROW)
        if source.log_is_whole():
            tables += (LOG_HEAD, LOG_ENTRY)
        for table in tables:
            damaged = source.damaged
            for piece in source.pieces(table):
                with transaction():
                    taken = _insert(into, table, piece)
                salvaged.taken[table.name] = salvaged.taken.get(table.name, 0) + taken
            if table is BATCH:
                salvaged.batches_known = source.damaged == damaged
        salvaged.damaged = source.damaged
    return salvaged


def _epoch_row(number: int, meter: int, epoch: MeterEpoch) -> Row:
    fields = (epoch.serial, epoch.schema_id, epoch.channels)
    return number, meter, *fields, row_sum(number, epoch.meter, *fields)


def _insert(into: sqlite3.Connection, table: Checked, rows: Sequence[Row]) -> int:
    marks = ", ".join("?" * len(table.columns))
    return into.executemany(
        f"INSERT OR IGNORE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})", rows
    ).rowcount


def _by_key(table: Checked, order: str) -> str:
    return ", ".join(f"{key} {order}" for key in table.columns[: table.keys])


class _Source:
    """The damaged database; whatever it answers to a question, `damaged` says what it cost."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._failures = 0
        self._seconds: dict[str, Collection[int]] = {}
        self.damaged = 0

    def epochs(self) -> dict[int, tuple[int, MeterEpoch]]:
        """The number of its meter and what it is, for each sound epoch."""
        columns = ("id", "meter", "serial", "schema_id", "channels", "crc32c")
        named = self._rows(Checked("meter", ("id", "name"), 1, lambda _: True))
        meters: dict[int, str] = {row[0]: row[1] for row in named}
        found = {}
        for number, meter, *fields, crc in self._rows(Checked("epoch", columns, 1, lambda _: True)):
            name = meters.get(meter)
            if name is None or row_sum(number, name, *fields) != crc:
                self.damaged += 1
                continue
            found[number] = (meter, MeterEpoch(name, *fields))
        self._seconds = {"interval": {meter for meter, _ in found.values()}, "held_row": found}
        return found

    def log_is_whole(self) -> bool:
        """Whether the chain's end is known, so that the chain can go on."""
        heads = self._ask("SELECT number FROM log_head", ())
        newest = self._ask("SELECT max(number) FROM log_entry", ())
        return bool(heads and newest and heads[0][0] >= (newest[0][0] or 0))

    def pieces(self, table: Checked) -> Iterator[list[Row]]:
        """All sound rows of a table, a piece at a time; a row may come again."""
        columns = f"SELECT {', '.join(table.columns)} FROM {table.name}"
        for order in ("ASC", "DESC"):
            if (yield from self._straight(table, columns, order)):
                return
        if not table.granule:
            return
        key, begin = table.columns[0], 0
        span = table.granule * _GRANULES
        while begin < _LARGEST_KEY and self._failures < _MOST_FAILURES:
            found = self._ask(f"SELECT min({key}) FROM {table.name} WHERE {key} >= ?", (begin,))
            if found is not None:
                following = found[0][0]
                if not isinstance(following, int):
                    return
                begin = following - following % table.granule
            yield self._sound(table, self._between(table, columns, begin, begin + span - 1))
            begin += span

    def _straight(
        self, table: Checked, columns: str, order: str
    ) -> Generator[list[Row], None, bool]:
        """From one end up to what cannot be read; returns whether all could be."""
        try:
            cursor = self._db.execute(f"{columns} ORDER BY {_by_key(table, order)}")
            while found := cursor.fetchmany(_PIECES * table.rows):
                yield self._sound(table, found)
        except UNREADABLE:
            self._failures += 1
            self.damaged += 1
            return False
        return True

    def _rows(self, table: Checked) -> list[Row]:
        return [row for piece in self.pieces(table) for row in piece]

    def _sound(self, table: Checked, rows: Sequence[Row]) -> list[Row]:
        sound = [row for row in rows if table.sound(row)]
        self.damaged += len(rows) - len(sound)
        return sound

    def _between(self, table: Checked, columns: str, first: int, last: int) -> list[Row]:
        where = f"WHERE {table.columns[0]} BETWEEN ? AND ?"
        found = self._ask(f"{columns} {where}", (first, last))
        if found is not None:
            return found
        if last - first < table.granule:
            return self._alone(table, f"{columns} {where}", (first, last))
        middle = first + (last - first + 1) // table.granule // 2 * table.granule
        return [
            *self._between(table, columns, first, middle - 1),
            *self._between(table, columns, middle, last),
        ]

    def _alone(self, table: Checked, query: str, span: tuple[int, int]) -> list[Row]:
        """Rows of one key, from both sides up to what cannot be read; then those between."""
        rows: list[Row] = []
        for order in ("ASC", "DESC"):
            try:
                rows.extend(self._db.execute(f"{query} ORDER BY {_by_key(table, order)}", span))
            except UNREADABLE:
                self._failures += 1
        if rows:
            seen = {row[1] for row in rows}
            for second in self._seconds.get(table.name, ()):
                if second not in seen:
                    rows += self._ask(f"{query} AND {table.columns[1]} = ?", (*span, second)) or []
        return rows

    def _ask(self, query: str, values: Sequence[int]) -> list[Row] | None:
        """None where the answer cannot be read."""
        if self._failures >= _MOST_FAILURES:
            return []
        try:
            return self._db.execute(query, values).fetchall()
        except UNREADABLE:
            self._failures += 1
            self.damaged += 1
            return None
