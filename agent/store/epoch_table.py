"""Meters and their epochs, as the store numbers them; held in memory, since every row names one."""

from __future__ import annotations

import sqlite3

from agent.store.connection import StoreDamaged
from agent.store.rows import MeterEpoch
from agent.store.sums import row_sum


class EpochTable:
    """Part of the store; what writes must run inside the store's `transaction`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Raises StoreDamaged."""
        self._db = database
        self.meters: dict[str, int] = {}
        """Number of each meter by its name."""
        self.known: dict[int, MeterEpoch] = {}
        """All epochs by number, oldest first."""
        self._numbers: dict[tuple[str, str, int], int] = {}
        self.load()

    def load(self) -> None:
        """Read all anew, after a transaction that failed; raises StoreDamaged."""
        self.meters = dict(self._db.execute("SELECT name, id FROM meter"))
        self.known.clear()
        self._numbers.clear()
        rows = self._db.execute(
            "SELECT epoch.id, name, serial, schema_id, channels, crc32c FROM epoch "
            "LEFT JOIN meter ON meter.id = epoch.meter ORDER BY epoch.id"
        )
        for number, *fields, crc in rows:
            if row_sum(number, *fields) != crc:
                raise StoreDamaged(f"epoch {number}: {fields} does not match its checksum")
            self._remember(number, MeterEpoch(*fields))

    def number(self, epoch: MeterEpoch) -> int:
        """The number of an epoch; a new one, or one with more channels, is written down."""
        key = (epoch.meter, epoch.serial, epoch.schema_id)
        known = self._numbers.get(key)
        if known is None:
            return self._add(epoch)
        channels = self.known[known].channels | epoch.channels
        if channels != self.known[known].channels:
            self._db.execute(
                "UPDATE epoch SET channels = ?, crc32c = ? WHERE id = ?",
                (channels, row_sum(known, *key, channels), known),
            )
            self._remember(known, MeterEpoch(*key, channels))
        return known

    def place(self, epoch_id: int) -> tuple[int, int] | None:
        """The number of an epoch's meter, and its schema; None if there is no such epoch."""
        epoch = self.known.get(epoch_id)
        return None if epoch is None else (self.meters[epoch.meter], epoch.schema_id)

    def _add(self, epoch: MeterEpoch) -> int:
        number = max(self.known, default=0) + 1
        key = (epoch.meter, epoch.serial, epoch.schema_id, epoch.channels)
        self._db.execute(
            "INSERT INTO epoch (id, meter, serial, schema_id, channels, crc32c) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, self._meter(epoch.meter), *key[1:], row_sum(number, *key)),
        )
        self._remember(number, epoch)
        return number

    def _meter(self, name: str) -> int:
        number = self.meters.get(name)
        if number is None:
            number = self.meters[name] = max(self.meters.values(), default=0) + 1
            self._db.execute("INSERT INTO meter (id, name) VALUES (?, ?)", (number, name))
        return number

    def _remember(self, number: int, epoch: MeterEpoch) -> None:
        self.known[number] = epoch
        self._numbers[epoch.meter, epoch.serial, epoch.schema_id] = number
