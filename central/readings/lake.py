"""The lake: all readings as one Delta table (Parquet + transaction log), partitioned by day.

A commit carries rows and the loader's watermark together, so a loader that
died is never in doubt. `deltalake` does not sync what it writes; this module
does: data files and their directories before the log entry, the log entry and
its directory after. Local file systems only. One writer, any number of
readers; a reader asks the log for its exact list of files and never globs,
for superseded files lie about until `vacuum`.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    PostCommitHookProperties,
    Transaction,
)

from central.durable import sync

VALUE_COLUMNS = (
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
SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("meter", pa.string(), nullable=False),
        pa.field("serial", pa.string(), nullable=False),
        pa.field("day", pa.date32(), nullable=False),
        pa.field("end_utc_s", pa.int64(), nullable=False),
        pa.field("schema_id", pa.int16(), nullable=False),
        *(pa.field(name, pa.int64()) for name in VALUE_COLUMNS),
        pa.field("flags", pa.int32(), nullable=False),
        pa.field("ver", pa.int32(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("lsn", pa.int64(), nullable=False),
    ]
)
"""`day` is the UTC day in which the interval begins; `lsn` is the batch's id in the journal."""

_TEXT_COLUMNS = [field.name for field in SCHEMA if pa.types.is_string(field.type)]
_FILE_SCHEMA = pa.schema([field for field in SCHEMA if field.name != "day"])
_PACKED = {
    field.name: "DELTA_BINARY_PACKED"
    for field in _FILE_SCHEMA
    if pa.types.is_integer(field.type) and field.type != pa.int16()
}
_CHECKPOINT_EVERY = 50
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One data file of the present snapshot."""

    path: str
    day: date
    rows: int
    first_end_utc_s: int
    last_end_utc_s: int


class DeltaLake:
    """The table below one directory; made on first use by the writer. Any thread may read."""

    def __init__(self, directory: Path, *, writer: bool = False) -> None:
        """`writer` is true in one process only. Readers may come before the table exists."""
        self._directory = directory.absolute()
        self._lock = threading.RLock()
        self._table: DeltaTable | None = None
        self._snapshot: tuple[int, list[LakeFile]] | None = None
        if writer:
            self._directory.mkdir(parents=True, exist_ok=True)
            if not DeltaTable.is_deltatable(str(self._directory)):
                DeltaTable.create(str(self._directory), SCHEMA, partition_by=["day"])
                self._sync_log(0)
                sync(self._directory)
                sync(self._directory.parent)

    def watermark(self, loader: str) -> int:
        """The last journal id that `loader` has committed, 0 before its first commit."""
        table = self._present()
        return 0 if table is None else (table.transaction_version(loader) or 0)

    def version(self) -> int:
        """The table's version, -1 while there is none."""
        table = self._present()
        return -1 if table is None else table.version()

    def commit(self, rows: pa.Table, loader: str, watermark: int) -> set[date]:
        """Append `rows` and move the watermark, both or neither; returns the days touched."""
        added, days = [], set()
        for day in pc.unique(rows["day"]).to_pylist():
            part = rows.filter(pc.equal(rows["day"], pa.scalar(day, pa.date32())))
            added.append(self._write(day, part))
            days.add(day)
        self._sync_days(days)
        self._transact(added, "append", Transaction(loader, watermark))
        return days

    def replace_day(self, day: date, rows: pa.Table) -> None:
        """Put `rows` in the place of everything that the day holds."""
        added = [self._write(day, rows)]
        self._sync_days({day})
        self._transact(added, "overwrite", None, day)

    def files(self, first: date | None = None, last: date | None = None) -> list[LakeFile]:
        """The exact files of the present snapshot whose day lies in [first, last]."""
        with self._lock:
            table = self._present()
            if table is None:
                return []
            if self._snapshot is None or self._snapshot[0] != table.version():
                self._snapshot = (table.version(), self._list(table))
            present = self._snapshot[1]
        return [
            file
            for file in present
            if (first is None or file.day >= first) and (last is None or file.day <= last)
        ]

    def vacuum(self, older_than_h: int) -> int:
        """Delete files that no snapshot younger than `older_than_h` hours names."""
        table = self._present()
        if table is None:
            return 0
        gone = table.vacuum(
            retention_hours=older_than_h, dry_run=False, enforce_retention_duration=False
        )
        return len(gone)

    def _present(self) -> DeltaTable | None:
        with self._lock:
            if self._table is not None:
                self._table.update_incremental()
            elif DeltaTable.is_deltatable(str(self._directory)):
                self._table = DeltaTable(str(self._directory))
            return self._table

    def _list(self, table: DeltaTable) -> list[LakeFile]:
        actions = pa.table(table.get_add_actions(flatten=True))
        columns = [
            actions[name].to_pylist()
            for name in (
                "path", "partition.day", "num_records", "min.end_utc_s", "max.end_utc_s",
            )
        ]  # fmt: skip
        return [
            LakeFile(str(self._directory / path), day, rows, first, last)
            for path, day, rows, first, last in zip(*columns, strict=True)
        ]

    def _write(self, day: date, rows: pa.Table) -> AddAction:
        rows = rows.select(_FILE_SCHEMA.names).cast(_FILE_SCHEMA)
        path = f"day={day.isoformat()}/{uuid.uuid4().hex}.parquet"
        file = self._directory / path
        file.parent.mkdir(exist_ok=True)
        pq.write_table(
            rows,
            file,
            compression="zstd",
            use_dictionary=_TEXT_COLUMNS,
            column_encoding=_PACKED,
            data_page_version="2.0",
        )
        sync(file)
        bounds = {name: pc.min_max(rows[name]).as_py() for name in ("end_utc_s", "meter")}
        stats = {
            "numRecords": rows.num_rows,
            "minValues": {name: bound["min"] for name, bound in bounds.items()},
            "maxValues": {name: bound["max"] for name, bound in bounds.items()},
            "nullCount": dict.fromkeys(bounds, 0),
        }
        return AddAction(
            path=path,
            size=file.stat().st_size,
            partition_values={"day": day.isoformat()},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps(stats),
        )

    def _transact(
        self,
        added: list[AddAction],
        mode: str,
        transaction: Transaction | None,
        day: date | None = None,
    ) -> None:
        table = self._present()
        assert table is not None
        table.create_write_transaction(
            list(added),
            mode,
            SCHEMA,
            partition_by=["day"],
            partition_filters=None if day is None else [("day", "=", day.isoformat())],
            commit_properties=CommitProperties(
                app_transactions=None if transaction is None else [transaction]
            ),
            post_commithook_properties=_NO_HOOKS,
        )
        table.update_incremental()
        version = table.version()
        self._sync_log(version)
        if version % _CHECKPOINT_EVERY == 0:
            table.create_checkpoint()
            self._sync_log(version)

    def _sync_days(self, days: Iterable[date]) -> None:
        for day in days:
            sync(self._directory / f"day={day.isoformat()}")
        sync(self._directory)

    def _sync_log(self, version: int) -> None:
        log = self._directory / "_delta_log"
        for file in (*log.glob(f"{version:020d}.*"), *log.glob("_last_checkpoint")):
            sync(file)
        sync(log)
