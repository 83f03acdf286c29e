"""The device table: who was seen when, in which state. For people and the API, not for the chain.

The collector writes it about once a second; what a crash loses of it comes
back with the devices' retained states. What points to a second concentrator
with a device's keys stays as an alarm for a week after its last sign.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
create table if not exists device(
  device text primary key, cn text not null, last_seen_utc_s integer not null,
  last_batch_utc_s integer, online integer not null, batches integer not null,
  refused integer not null, state text not null) strict
"""

_TOLD_SCHEMA = (
    "create table if not exists told(one integer primary key, lsn integer not null) strict"
)

_RETIRED_SCHEMA = "create table if not exists retired(kid blob primary key) strict"

_ALARM_SCHEMA = (
    "create table if not exists alarm(device text primary key, at_utc_s integer not null, "
    "what text not null) strict"
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sign that a device's card was restored from a copy, or that a clone of it runs."""

    at_utc_s: int
    what: str


@dataclass(slots=True)
class DeviceSeen:
    """What central knows of one agent. `state` is the agent's own retained state."""

    device: str
    cn: str
    last_seen_utc_s: int
    last_batch_utc_s: int | None = None
    online: bool = False
    batches: int = 0
    refused: int = 0
    state: dict[str, Any] | None = None
    alarm: Alarm | None = None


def fleet_file(journal_dir: Path) -> Path:
    """Where the table lies."""
    return journal_dir / "fleet.db"


def read_fleet(journal_dir: Path) -> list[DeviceSeen]:
    """All devices by name; empty while the collector has never run."""
    path = fleet_file(journal_dir)
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if not database.execute("select 1 from sqlite_master where name = 'device'").fetchone():
            return []
        rows = database.execute(
            "select device, cn, last_seen_utc_s, last_batch_utc_s, online, batches, refused, state "
            "from device order by device"
        ).fetchall()
        alarms = _read_alarms(database)
    finally:
        database.close()
    return [
        DeviceSeen(
            device, cn, seen, batch, bool(online), batches, refused, json.loads(state),
            alarms.get(device),
        )
        for device, cn, seen, batch, online, batches, refused, state in rows
    ]  # fmt: skip


def _read_alarms(database: sqlite3.Connection) -> dict[str, Alarm]:
    if not database.execute("select 1 from sqlite_master where name = 'alarm'").fetchone():
        return {}
    rows = database.execute("select device, at_utc_s, what from alarm")
    return {device: Alarm(at_utc_s, what) for device, at_utc_s, what in rows}


class Fleet:
    """The collector's own copy; `save` brings what changed into the file."""

    def __init__(self, journal_dir: Path) -> None:
        journal_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._database = sqlite3.connect(fleet_file(journal_dir), isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = normal")
        self._database.execute(_SCHEMA)
        self._database.execute(_TOLD_SCHEMA)
        self._database.execute(_ALARM_SCHEMA)
        self._database.execute(_RETIRED_SCHEMA)
        self.retired = {kid for (kid,) in self._database.execute("select kid from retired")}
        """Sign keys whose successor has signed a batch."""
        self._devices = {seen.device: seen for seen in read_fleet(journal_dir)}
        self._changed: set[str] = set()

    def get(self, device: str, cn: str, now_utc_s: int) -> DeviceSeen:
        """The device's row, made when new and marked as seen now."""
        seen = self._devices.setdefault(device, DeviceSeen(device, cn, now_utc_s))
        seen.last_seen_utc_s = now_utc_s
        self._changed.add(device)
        return seen

    def end_alarms(self, before_utc_s: int) -> None:
        """Forget alarms whose last sign is older than `before_utc_s`."""
        for seen in self._devices.values():
            if seen.alarm is not None and seen.alarm.at_utc_s < before_utc_s:
                seen.alarm = None
                self._changed.add(seen.device)

    @property
    def alarms(self) -> int:
        """How many devices have an alarm."""
        return sum(seen.alarm is not None for seen in self._devices.values())

    @property
    def online(self) -> int:
        """How many devices say that they are online."""
        return sum(seen.online for seen in self._devices.values())

    def told_upto(self) -> int:
        """Up to which journal id devices were told of batches that did not open."""
        row = self._database.execute("select lsn from told").fetchone()
        return 0 if row is None else int(row[0])

    def tell_upto(self, lsn: int) -> None:
        """Remember `told_upto`."""
        self._database.execute("insert or replace into told values (1, ?)", (lsn,))

    def retire(self, kid: bytes) -> None:
        """A device uses its new key: the one before counts no more."""
        if kid not in self.retired:
            self._database.execute("insert into retired values (?)", (kid,))
            self.retired.add(kid)

    def save(self) -> None:
        """Write the rows that changed since the last call."""
        rows = [self._devices[device] for device in sorted(self._changed)]
        self._changed.clear()
        if rows:
            self._write(rows)

    def close(self) -> None:
        """Save and give the file back."""
        self.save()
        self._database.close()

    def _write(self, rows: Sequence[DeviceSeen]) -> None:
        with self._database:
            self._database.execute("begin immediate")
            self._database.executemany(
                "delete from alarm where device = ?", [(row.device,) for row in rows]
            )
            self._database.executemany(
                "insert into alarm values (?, ?, ?)",
                [(row.device, row.alarm.at_utc_s, row.alarm.what) for row in rows if row.alarm],
            )
            self._database.executemany(
                "insert or replace into device values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        row.device,
                        row.cn,
                        row.last_seen_utc_s,
                        row.last_batch_utc_s,
                        int(row.online),
                        row.batches,
                        row.refused,
                        json.dumps(row.state),
                    )
                    for row in rows
                ],
            )
