"""What the centre takes in: sealed batches through collector and loader, on one core.

Everything but the broker: every check, the signature, the durable journal
commit per group and the receipts; then opening, decoding and the synced lake
commits. A reading is one meter's interval. Batches hold 100 meters and one
interval, the costliest form.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from central.collect.collector import GROUP_BATCHES
from central.collect.fleet import Fleet
from central.collect.journal import SqliteJournal
from central.collect.reception import Message, Reception
from central.config import load_config
from central.keys.authority import init_authority
from central.keys.device import issue_device
from central.metrics import MetricSet
from central.readings.lake import DeltaLake
from central.readings.ledger import LoaderProgress
from central.readings.loader import Loader
from hil.bench.device import BenchDevice
from hil.bench.figure import Figure
from wire import topics
from wire.block import Roster, RosterEntry

METERS = 100
INTERVALS = 96
DEVICES = 10
TEN_MILLION_METERS_PER_S = 10_000_000 / 900


def central_figures() -> Iterator[Figure]:
    """`central.readings_per_s`; the limit is ten million meters every quarter of an hour."""
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as directory:
        collected_s, loaded_s = _measure(Path(directory))
    readings = DEVICES * METERS * INTERVALS
    yield Figure(
        name="central.readings_per_s",
        value=readings / (collected_s + loaded_s),
        unit="readings/s",
        limit=TEN_MILLION_METERS_PER_S,
        better="higher",
    )


def _measure(root: Path) -> tuple[float, float]:
    """Seconds in the collector and in the loader."""
    now_utc_s = time.time()
    place = init_authority(root / "keys", "bench", broker_hosts=["localhost"], now_utc_s=now_utc_s)
    devices = []
    for number in range(DEVICES):
        name = f"c{number}"
        issue_device(root / "keys", name, root / name)
        devices.append(BenchDevice("bench", name, root / name))
    messages = _messages(devices, int(now_utc_s) // 900 * 900)
    toml = root / "central.toml"
    toml.write_text(
        'tenant = "bench"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\n'
        'host = "localhost"\nca_file = "none"\ncert_file = "none"\nkey_file = "none"\n'
    )
    config = load_config(toml)
    journal = SqliteJournal(config.journal_dir, datetime.fromtimestamp(now_utc_s, UTC).date())
    reception = Reception(
        "bench",
        place,
        journal,
        Fleet(config.journal_dir),
        LoaderProgress(config.loader_file),
        config.clock(),
        MetricSet(),
    )
    began_s = time.perf_counter()
    for first in range(0, len(messages), GROUP_BATCHES):
        reception.take(messages[first : first + GROUP_BATCHES])
    collected_s = time.perf_counter() - began_s

    loader = Loader(config, MetricSet(), lambda days: True)
    began_s = time.perf_counter()
    while loader.step():
        pass
    loaded_s = time.perf_counter() - began_s
    loader.close()
    rows = sum(file.rows for file in DeltaLake(config.lake_dir).files())
    if rows != DEVICES * METERS * INTERVALS:
        raise RuntimeError(f"the lake holds {rows} rows, not what was sent: the figure is void")
    return collected_s, loaded_s


def _messages(devices: list[BenchDevice], last_end_utc_s: int) -> list[Message]:
    """Batches in the order in which they would come: all devices per interval."""
    messages = []
    rosters = {
        device.device: Roster(
            tuple(
                RosterEntry(f"{device.device}m{meter:05d}", f"{meter:08d}", 0b11111)
                for meter in range(METERS)
            )
        )
        for device in devices
    }
    for interval in range(INTERVALS):
        end_utc_s = last_end_utc_s - 900 * (INTERVALS - 1 - interval)
        for device in devices:
            rows = [
                (
                    end_utc_s,
                    meter,
                    [
                        1_000_000 + 977 * meter + interval * (20 + meter * 7 % 300),
                        0,
                        200_000 + interval * (meter % 40),
                        2300 + (meter * interval) % 40,
                        50 + (meter * 31 + interval * 17) % 400,
                        0,
                    ],
                )
                for meter in range(METERS)
            ]
            sealed = device.cut(rosters[device.device], rows, with_roster=interval == 0)
            messages.append(Message(topics.up(device.cn), sealed))
    return messages
