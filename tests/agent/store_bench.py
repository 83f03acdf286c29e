"""A store filled as an agent fills it, for tests that damage it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from agent_bench import T0, Central, S, SetClock, epoch

from agent.health import Counters, Faults
from agent.store.custody import Custody
from agent.store.event_table import EventRows, LogMark
from agent.store.outline import WriterSettings
from agent.store.rows import MeterRows
from wire.events import Event

CONTENT = {
    "meter": "id, name",
    "epoch": "id, meter, serial, schema_id, channels",
    "interval": "*",
    "batch": "*",
    "head": "*",
    "event": "*",
    "event_log": "*",
    "log_entry": "*",
    "log_head": "*",
}
"""Everything that the agent acts on."""


def custody_of(
    folder: Path,
    central: Central,
    *,
    quota_mib: int = 64,
    faults: Faults | None = None,
    counters: Counters | None = None,
    clock: SetClock | None = None,
) -> Custody:
    """A custody over `folder/data`, with the keys of `central`."""
    settings = WriterSettings(
        data_dir=folder / "data",
        common_name="demo-t07",
        tenant="demo",
        lines=("l1",),
        interval_s=S,
        batch_intervals=1,
        recall_days=7,
        history_days=7,
        quota_mib=quota_mib,
    )
    return Custody(
        settings,
        clock=clock or SetClock(T0 + 40 * S),
        keyring=central.enrol(folder),
        boot=os.urandom(8),
        counters=counters or Counters(),
        faults=faults or Faults(),
    )


def commit(custody: Custody, number: int, meters: int = 8) -> None:
    """One edge, cut."""
    end = T0 + number * S
    values = [(1_000_000 + 37 * number * k, 0, 5 * k, 2300 + k, 100, 2) for k in range(meters)]
    custody.commit([MeterRows(epoch(f"m{k}"), [(end, values[k])]) for k in range(meters)], cut=True)


def receipt_all(custody: Custody, central: Central) -> None:
    """Central takes and signs for what waits."""
    view = custody.view()
    upto = central.upto if central.stream == view.stream else 0
    for _, sealed in custody.sealed_after(view.stream, upto, 10_000):
        central.take(sealed)
    custody.honour(central.receipt())


def fill(folder: Path, central: Central, intervals: int = 24) -> None:
    """Half of it receipted; with events and a device log."""
    custody = custody_of(folder, central)
    for number in range(intervals):
        commit(custody, number)
        if number == intervals // 2:
            receipt_all(custody, central)
            custody.log([("start", "version=1"), ("keyset", "version=1")], cut=True)
            events = [Event("m1", "A1", "standard", T0 + k, 3, "cover", 0) for k in range(9)]
            custody.commit_events([EventRows(events, "m1", "A1", "standard", LogMark(T0 + 8))])
    custody.close()


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables; raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return {
            table: database.execute(f"SELECT {columns} FROM {table}").fetchall()
            for table, columns in CONTENT.items()
        }


def flipped(image: bytes, bits: Sequence[int]) -> Iterator[bytes]:
    """The image with one bit flipped, for each of these."""
    for bit in bits:
        damaged = bytearray(image)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)
