"""A journal that one device writes to directly, and a loader behind it."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

from central.collect.journal import Batch, SqliteJournal
from central.config import Config, load_config
from central.keys.authority import init_authority
from central.keys.device import issue_device
from central.metrics import MetricSet
from central.readings.loader import Loader
from central.readings.query import Readings
from hil.bench.device import BenchDevice
from wire.block import Roster, RosterEntry
from wire.envelope import read_header

NOW = int(time.time())
MIDNIGHT = NOW // 86_400 * 86_400 - 86_400
ROSTER = Roster(tuple(RosterEntry(f"m{n}", f"s{n}", 0b11111) for n in range(3)))


class Bench:
    """A journal that a device writes to directly, and a loader behind it."""

    def __init__(self, root: Path) -> None:
        self.keys = root / "keys"
        init_authority(self.keys, "demo", broker_hosts=["localhost"], now_utc_s=NOW)
        issue_device(self.keys, "t01", root / "t01")
        self.device = BenchDevice("demo", "t01", root / "t01")
        toml = root / "central.toml"
        toml.write_text(
            'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\n'
            'host = "localhost"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
        )
        self.config: Config = load_config(toml)
        self.journal = SqliteJournal(self.config.journal_dir, date.today())  # noqa: DTZ011
        self.metrics = MetricSet()
        self.refreshed: list[set[date]] = []
        self.map_takes = True
        self.loader = self.new_loader()

    def new_loader(self) -> Loader:
        return Loader(self.config, self.metrics, self._refresh)

    def _refresh(self, days: set[date]) -> bool:
        self.refreshed.append(days)
        return self.map_takes

    def store(self, sealed: bytes, *, spoilt: bytes | None = None) -> None:
        """Bring a batch into the journal, as the collector would; `spoilt` in its place."""
        header = read_header(sealed)
        head = self.journal.head("t01", header.stream)
        batch = Batch(
            "t01", header.stream, header.seq, header.prev if head else bytes(16),
            self.device.prev, header.kid, header.content, header.schema_id, spoilt or sealed,
        )  # fmt: skip
        self.journal.append([batch], [], NOW)

    def rows(self) -> list[dict[str, object]]:
        readings = Readings(self.config)
        return [row for day in readings.days() for row in readings.day_energy(day).to_pylist()]


def interval(
    number: int, flags: int = 0, meters: int = 3, start: int = MIDNIGHT
) -> list[tuple[int, int, list[int]]]:
    end_utc_s = start + 900 * number
    return [
        (end_utc_s, m, [100 * m + number * (m + 1), 5, 6, 2300, 40, flags]) for m in range(meters)
    ]


def unopened(bench: Bench, reason: str = "unreadable") -> float:
    return bench.metrics.value("loadscape_loader_unopened_total", reason=reason)
