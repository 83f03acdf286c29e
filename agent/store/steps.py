"""Steps of the store's migrations that are more than statements.

Frozen: what a step needs to know of forms on disk is written down here as it
was then, not taken from the code of today.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator

from agent.store.sums import row_sum
from ext.checksum import crc32c

_CHANNELS = (
    "import_wh",
    "export_wh",
    "import_varh",
    "voltage_dv",
    "current_ca",
    "raw_import_wh",
    "raw_export_wh",
    "raw_import_varh",
    "raw_age_ms",
    "voltage_min_dv",
    "voltage_max_dv",
    "power_w",
    "power_min_w",
    "power_max_w",
    "samples",
)
_OF_SCHEMA = {1: 5, 2: len(_CHANNELS)}
"""The first so many of these."""
_PACKED = {1: "qqqiiI", 2: "qqqiiqqqiiiiiiiI"}
_COLUMNS = ("end_utc_s", "meter", "epoch", "batch", "flags", "crc32c", *_CHANNELS)

_SUMMED = {
    "epoch": "SELECT epoch.id, name, serial, schema_id, channels FROM epoch "
    "JOIN meter ON meter.id = epoch.meter",
    "batch": "SELECT id, stream, seq, schema_id, first_end_utc_s, last_end_utc_s, hash, "
    "receipted_utc_s, sealed IS NULL FROM batch",
    "head": "SELECT 1, stream, next_seq, hash, last_batch FROM head",
    "event": "SELECT id, meter, serial, log, at_utc_s, code, detail, n, batch FROM event",
}


def readable_intervals(database: sqlite3.Connection) -> None:
    """Channels as columns instead of a packed blob; checksums for all that has none."""
    columns = ", ".join(f"{name} INTEGER" for name in _CHANNELS)
    database.execute(
        "CREATE TABLE readable (end_utc_s INTEGER NOT NULL, meter INTEGER NOT NULL, "
        "epoch INTEGER NOT NULL, batch INTEGER NOT NULL, flags INTEGER NOT NULL, "
        f"crc32c INTEGER NOT NULL, {columns}, PRIMARY KEY (end_utc_s, meter)) WITHOUT ROWID"
    )
    packed = database.execute(
        "SELECT end_utc_s, interval.meter, epoch, batch, schema_id, packed FROM interval "
        "JOIN epoch ON epoch.id = interval.epoch ORDER BY end_utc_s, interval.meter"
    )
    marks = ", ".join("?" * len(_COLUMNS))
    database.executemany(f"INSERT INTO readable VALUES ({marks})", _unpacked(packed))
    database.execute("DROP TABLE interval")
    database.execute("ALTER TABLE readable RENAME TO interval")
    for table, query in _SUMMED.items():
        database.execute(f"ALTER TABLE {table} ADD COLUMN crc32c INTEGER")
        key = "one" if table == "head" else "id"
        sums = [(_sum(table, row), row[0]) for row in database.execute(query)]
        database.executemany(f"UPDATE {table} SET crc32c = ? WHERE {key} = ?", sums)
    database.execute("ALTER TABLE event_log ADD COLUMN crc32c INTEGER")
    marks_of_logs = database.execute("SELECT meter, serial, log, at_utc_s, seen FROM event_log")
    database.executemany(
        "UPDATE event_log SET crc32c = ? WHERE meter = ? AND serial = ? AND log = ?",
        [(row_sum(*row), *row[:3]) for row in marks_of_logs],
    )
    database.execute("ALTER TABLE held_row ADD COLUMN crc32c INTEGER")
    held = database.execute("SELECT end_utc_s, epoch, boot, boottime_ms FROM held_row")
    database.executemany(
        "UPDATE held_row SET crc32c = ? WHERE end_utc_s = ? AND epoch = ?",
        [(row_sum(*row), *row[:2]) for row in held],
    )
    database.execute(
        "CREATE VIEW reading AS SELECT datetime(end_utc_s, 'unixepoch') AS end_utc, "
        f"meter.name AS meter, serial, {', '.join(_CHANNELS)}, flags, end_utc_s, batch "
        "FROM interval JOIN epoch ON epoch.id = interval.epoch "
        "JOIN meter ON meter.id = interval.meter"
    )
    database.execute("CREATE TABLE care (what TEXT PRIMARY KEY, done_utc_s INTEGER NOT NULL)")


def _sum(table: str, row: tuple[int | str | bytes | None, ...]) -> int:
    return row_sum(*row[1:]) if table == "head" else row_sum(*row)


def _unpacked(
    rows: Iterable[tuple[int, int, int, int, int, bytes]],
) -> Iterator[tuple[int | None, ...]]:
    """Rows with their values in columns; one that fails its checksum is left out: missing."""
    for end, meter, epoch, batch, schema_id, stored in rows:
        packed, crc = stored[:-4], int.from_bytes(stored[-4:], "little")
        form = struct.Struct("<" + _PACKED[schema_id])
        if crc32c(struct.pack("<qII", end, meter, epoch) + packed) != crc:
            continue
        if len(packed) != form.size:
            continue
        *channels, flags = form.unpack(packed)
        summed = struct.pack("<qIIQ", end, meter, epoch, batch) + packed
        lacking = [None] * (len(_CHANNELS) - _OF_SCHEMA[schema_id])
        yield end, meter, epoch, batch, flags, crc32c(summed), *channels, *lacking
