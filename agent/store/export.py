"""The store's rows for people and their programs: each held against its checksum, then told.

A row that is not what was written is counted and left out, never told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from agent.store.epoch_table import EpochTable
from agent.store.room import UNCUT
from agent.store.rows import ALL_COLUMNS, CHANNELS, RowDamaged, from_columns
from agent.store.sums import row_sum
from wire.channels import SCHEMAS
from wire.quality import Quality

FIELDS: Final = {
    "intervals": ("end_utc_s", "meter", "serial", *CHANNELS, "flags", "receipted"),
    "events": ("at_utc_s", "meter", "serial", "log", "code", "detail", "receipted"),
    "log": ("at_utc_s", "number", "code", "detail", "receipted"),
}
"""What can be told row by row, and the names of what each row says."""
_RECEIPTED = f"batch != {UNCUT} AND batch NOT IN (SELECT id FROM batch WHERE sealed IS NOT NULL)"

PIECE_ROWS: Final = 2000
"""Intervals that are read together."""

Told = tuple[Any, ...]
"""The fields of a row in the order of FIELDS."""


class Export:
    """Rows of a database; `damaged` counts those that were left out."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Raises StoreDamaged or sqlite3.Error where nothing of it can be relied on."""
        self._db = database
        self._epochs = EpochTable(database)
        self.damaged = 0

    @property
    def meters(self) -> frozenset[str]:
        """The names of all that the database knows."""
        return frozenset(self._epochs.meters)

    def intervals(self, meters: Sequence[str], first_utc_s: int, last_utc_s: int) -> Iterator[Told]:
        """Those whose end lies in the span, oldest first, of these meters (none: of all).

        What the meter does not have, and all of an interval without data, is None; flags are
        their names.
        """
        numbers = [self._epochs.meters[name] for name in meters or self._epochs.meters]
        for receipted, *row in self._intervals(numbers, first_utc_s, last_utc_s):
            end_utc_s, meter, epoch_id = row[:3]
            place = self._epochs.place(epoch_id)
            try:
                if place is None or place[0] != meter:
                    raise RowDamaged
                *values, flags = from_columns(place[1], row)
            except RowDamaged:
                self.damaged += 1
                continue
            epoch = self._epochs.known[epoch_id]
            mask = 0 if flags & Quality.NO_DATA else epoch.channels
            channels = SCHEMAS[epoch.schema_id].channels
            shown = {
                channel.name: value
                for at, (channel, value) in enumerate(zip(channels, values, strict=False))
                if mask >> at & 1
            }
            names = " ".join(str(flag.name) for flag in Quality if flag & flags)
            of_meter = (end_utc_s, epoch.meter, epoch.serial)
            yield *of_meter, *(shown.get(name) for name in CHANNELS), names, bool(receipted)

    def _intervals(
        self, meters: Sequence[int], first_utc_s: int, last_utc_s: int
    ) -> Iterator[Sequence[Any]]:
        """A piece at a time: while a reader waits, the running agent's log only grows."""
        query = (
            f"SELECT {_RECEIPTED}, {ALL_COLUMNS} FROM interval WHERE (end_utc_s, meter) > (?, ?) "
            f"AND end_utc_s <= ? AND meter IN ({', '.join('?' * len(meters))}) "
            "ORDER BY end_utc_s, meter LIMIT ?"
        )
        after = (first_utc_s, -1)
        while True:
            found = self._db.execute(query, (*after, last_utc_s, *meters, PIECE_ROWS)).fetchall()
            yield from found
            if len(found) < PIECE_ROWS:
                return
            after = found[-1][1:3]

    def events(self, meters: Sequence[str], first_utc_s: int, last_utc_s: int) -> Iterator[Told]:
        """Entries of meters' logs in the span, oldest first, of these meters (none: of all)."""
        names = [*(meters or self.meters)]
        rows = self._db.execute(
            "SELECT id, meter, serial, log, at_utc_s, code, detail, n, batch, crc32c, "
            f"{_RECEIPTED} FROM event WHERE at_utc_s BETWEEN ? AND ? "
            f"AND meter IN ({', '.join('?' * len(names))}) ORDER BY at_utc_s, id",
            (first_utc_s, last_utc_s, *names),
        )
        for *fields, crc, receipted in rows:
            _, meter, serial, log, at_utc_s, code, detail, *_ = fields
            if row_sum(*fields) != crc:
                self.damaged += 1
                continue
            yield at_utc_s, meter, serial, log, code, detail, bool(receipted)

    def log(self, first_utc_s: int, last_utc_s: int) -> Iterator[Told]:
        """Entries of the device log in the span, in the order of its chain."""
        rows = self._db.execute(
            f"SELECT at_utc_s, number, code, detail, {_RECEIPTED} FROM log_entry "
            "WHERE at_utc_s BETWEEN ? AND ? ORDER BY number",
            (first_utc_s, last_utc_s),
        )
        for *fields, receipted in rows:
            yield *fields, bool(receipted)
