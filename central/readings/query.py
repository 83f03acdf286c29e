"""What the map, the asset records and the API ask of the readings.

The present snapshot of the lake is looked up anew for every question, so an
answer holds every row whose commit was done when it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from central.config import Config
from central.readings.engine import DuckDbEngine
from central.readings.lake import DeltaLake

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Revision:
    """One of several things that were said of one interval; null where a value is not known."""

    end_utc_s: int
    counts: bool
    """Whether sums are made of it; exactly one of an interval's is."""
    reason: str
    """Why it counts or does not."""
    serial: str
    import_wh: int | None
    export_wh: int | None
    import_varh: int | None
    voltage_dv: int | None
    current_ca: int | None
    flags: int
    ver: int
    device: str
    stream: str
    seq: int
    lsn: int
    """Id of its batch in the journal: the order in which the centre got to know it."""


class Readings:
    """Read access to one tenant's lake. Any thread may ask."""

    def __init__(self, config: Config, *, threads: int = 2) -> None:
        """`threads` bounds the cores that one question uses."""
        self._tenant = config.tenant
        self._interval_s = config.interval_s
        self._lake = DeltaLake(config.lake_dir)
        self._engine = DuckDbEngine(threads)

    @property
    def interval_s(self) -> int:
        """Length of an interval, s."""
        return self._interval_s

    def day_energy(self, day: date) -> pa.Table:
        """Energies and gauges of the intervals that begin in the UTC day `day`.

        Columns meter, step (0 for the interval that begins at midnight),
        end_utc_s, import_wh, export_wh, import_varh (energy in the interval;
        null when the register at either edge is unknown, or a reset, rollover
        or another meter lies between), voltage_dv, current_ca, flags. One row
        per meter and interval, in no particular order.
        """
        first_edge_utc_s = day_start_utc_s(day)
        # The row at the day's first edge ends the interval before, so it lies in the day before.
        files = [
            file.path
            for file in self._lake.files(day - timedelta(days=1), day)
            if file.last_end_utc_s >= first_edge_utc_s
        ]
        found = self._engine.query(
            "day_energy",
            files,
            tenant=self._tenant,
            first_edge_utc_s=first_edge_utc_s,
            last_edge_utc_s=first_edge_utc_s + _DAY_S,
            interval_s=self._interval_s,
        )
        since_edge_s = pc.subtract(found["end_utc_s"], first_edge_utc_s)
        step = pc.subtract(pc.divide(since_edge_s, self._interval_s), 1).cast(pa.int32())
        return found.add_column(1, "step", step)

    def meter_series(self, meter: str, first_end_utc_s: int, last_end_utc_s: int) -> pa.Table:
        """The rows that count of one meter with an end in [first, last], oldest first."""
        interval_before = first_end_utc_s - self._interval_s
        files = self._lake.files(
            _day_of(interval_before), _day_of(last_end_utc_s - self._interval_s)
        )
        return self._engine.query(
            "meter_series",
            [file.path for file in files],
            tenant=self._tenant,
            meter=meter,
            first_end_utc_s=first_end_utc_s,
            last_end_utc_s=last_end_utc_s,
        )

    def revisions(self, meter: str, first_end_utc_s: int, last_end_utc_s: int) -> list[Revision]:
        """What was said more than once of intervals with an end in [first, last], oldest first.

        Of each interval the row that counts comes first. A row that repeats
        another in all it says is no revision.
        """
        files = self._lake.files(
            _day_of(first_end_utc_s - self._interval_s), _day_of(last_end_utc_s - self._interval_s)
        )
        found = self._engine.query(
            "revisions",
            [file.path for file in files],
            tenant=self._tenant,
            meter=meter,
            first_end_utc_s=first_end_utc_s,
            last_end_utc_s=last_end_utc_s,
        )
        return [_revision(row) for row in found.to_pylist()]

    def days(self) -> list[date]:
        """UTC days that hold rows, oldest first."""
        return sorted({file.day for file in self._lake.files()})

    def last_end_utc_s(self) -> int | None:
        """The latest interval end of any row, None while there is none."""
        return max((file.last_end_utc_s for file in self._lake.files()), default=None)

    def version(self) -> int:
        """The lake's version, -1 while there is no lake; it grows with every commit."""
        return self._lake.version()


_WORTH = ("a true value", "an estimate", "no data")


def _revision(row: dict[str, Any]) -> Revision:
    counts = row["place"] == 1
    worth, counted = _WORTH[row["worth"]], _WORTH[row["worth_that_counts"]]
    if counts:
        reason = f"counts: {worth}, and the best that is known"
    elif row["ver"] < row["ver_that_counts"]:
        reason = f"replaced by revision {row['ver_that_counts']}"
    elif row["worth"] > row["worth_that_counts"]:
        reason = f"{worth}: gave way to {counted}"
    else:
        reason = f"{worth}: came after another, which counts"
    values = {name: row[name] for name in _REVISION_COLUMNS}
    return Revision(counts=counts, reason=reason, **values)


_REVISION_COLUMNS = [f.name for f in fields(Revision) if f.name not in ("counts", "reason")]


def day_start_utc_s(day: date) -> int:
    """The instant at which the UTC day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day_of(utc_s: int) -> date:
    return datetime.fromtimestamp(utc_s, UTC).date()
