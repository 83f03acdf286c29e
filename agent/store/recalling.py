"""What the store knows of each meter when the agent starts: which ends, the newest values."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from agent.store.epoch_table import EpochTable
from agent.store.outline import Recalled
from agent.store.rows import COLUMNS, Values
from wire.quality import Quality


def recall(
    database: sqlite3.Connection,
    epochs: EpochTable,
    values_of: Callable[[Sequence[int]], Values],
    since_utc_s: int,
) -> dict[str, Recalled]:
    """What is known of every meter since `since_utc_s`; `values_of` reads a row of `interval`."""
    names = {number: name for name, number in epochs.meters.items()}
    recalled: dict[str, Recalled] = {name: Recalled() for name in epochs.meters}
    last: dict[int, int] = {}
    present: dict[int, int] = {}
    named: dict[int, tuple[str, int]] = {}
    for end, meter, epoch, flags in database.execute(
        "SELECT end_utc_s, meter, epoch, flags FROM interval WHERE end_utc_s >= ? "
        "ORDER BY end_utc_s",
        (since_utc_s,),
    ):
        if meter not in names or epoch not in epochs.known:
            continue  # A damaged row: it is missing, and read again from the meter.
        one = recalled[names[meter]]
        one.ends_utc_s.append(end)
        if flags & Quality.NO_DATA:
            one.missing_utc_s.append(end)
        if serial := epochs.known[epoch].serial:
            before = named.get(meter, (serial, end))
            if before[0] != serial:
                one.exchanged_after_utc_s = before[1]
            named[meter] = (serial, end)
        present[meter] = epoch
        if not flags & Quality.NO_DATA:
            last[meter] = end
    for meter, end in last.items():
        row = database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM interval WHERE end_utc_s = ? AND meter = ?",
            (end, meter),
        ).fetchone()
        values = values_of(row)
        if not values[-1] & Quality.NO_DATA:
            recalled[names[meter]].last_true = (end, tuple(values))
            recalled[names[meter]].data_serial = epochs.known[row[2]].serial
    for meter, epoch in present.items():
        recalled[names[meter]].serial = epochs.known[epoch].serial
        recalled[names[meter]].channels = epochs.known[epoch].channels
        recalled[names[meter]].schema_id = epochs.known[epoch].schema_id
    return recalled
