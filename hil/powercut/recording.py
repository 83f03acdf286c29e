"""One run of a small installation with the recorder below its agent and its collector.

Real meters' lines, a real broker with TLS, the product's own processes,
unmodified; halfway both are killed and started again. While they work, an
observer reads what each of them has promised to the world so far and puts it
into their recordings: an interval is promised once another process can read
it in the agent's database, a batch once the agent has believed the
collector's receipt for it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.store.opening import DATABASE_FILE
from central.config import load_config
from hil.powercut.recorder import RecorderError, mark, under_recorder
from hil.site.installation import Installation
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice
from wire.channels import SCHEMAS

START_UTC_S: Final = 1_774_656_360
"""2026-03-28 00:06 UTC: the first interval ends soon, the day before is recovered."""
_TRANSFORMER: Final = "t01"
_METERS: Final = 8
_DAY_S: Final = 86_400
_SPEED: Final = 600.0
_LOOK_S: Final = 0.01
_PATIENCE_S: Final = 90.0

READINGS: Final = (
    "SELECT meter, end_utc_s, serial, flags, "
    + ", ".join(channel.name for channel in SCHEMAS[2].channels[:-1])
    + " FROM reading"
)
"""Every interval as anyone can read it in the agent's database."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where the installation lies, and what its two processes did to their disks."""

    site: Installation
    agent_log: Path
    collector_log: Path


def record(root: Path, seconds: float, tell: Callable[[str], None]) -> Recorded:
    """Run for `seconds` after the first receipt.

    Raises RecorderError if none comes in a minute and a half, and what an
    installation raises.
    """
    day_s = (START_UTC_S // _DAY_S - 3) * _DAY_S
    choice = TownChoice("schutterwald", day_s, (_TRANSFORMER,), _METERS)
    site = Installation(choice, root, Settings(start_utc_s=START_UTC_S, recover_days=1))
    tell("powercut: preparing a small installation")
    site.prepare()
    journal = load_config(site.layout.central_config).journal_dir
    journal.mkdir(parents=True, exist_ok=True)
    (device,) = site.devices
    data = site.layout.agent(device) / "data"
    recorded = Recorded(site, root / "agent.ops", root / "collector.ops")
    site.under = {
        f"agent-{device}": under_recorder(data, recorded.agent_log, []),
        "collect": under_recorder(journal, recorded.collector_log, []),
    }
    tell(f"powercut: recording for {seconds:.0f} s")
    try:
        site.start_broker()
        site.start_meters()
        site.start_central_part("collect")
        site.start_central_part("load")
        site.start_agent(device)
        site.set_speed(_SPEED)
        _observe(data / DATABASE_FILE, recorded, seconds)
    finally:
        site.stop()
    return recorded


def _observe(database: Path, recorded: Recorded, seconds: float) -> None:
    promises = _Promises(database)
    begun_s = time.monotonic()
    while not _note(promises, recorded):
        if time.monotonic() - begun_s > _PATIENCE_S:
            raise RecorderError(
                f"the agent has got no receipt in {_PATIENCE_S:.0f} s, expected one; "
                f"see {recorded.site.layout.logs}"
            )
        time.sleep(_LOOK_S)
    for half in range(2):
        ends_s = time.monotonic() + seconds / 2
        while time.monotonic() < ends_s:
            _note(promises, recorded)
            time.sleep(_LOOK_S)
        if not half:
            for name in recorded.site.under:
                recorded.site.kill_and_start(name)


def _note(promises: _Promises, recorded: Recorded) -> bool:
    """Put what is newly promised into the recordings; whether a receipt was among it."""
    for told in promises.rows():
        mark(recorded.agent_log, told)
    receipts = list(promises.receipts())
    for told in receipts:
        mark(recorded.collector_log, told)
    return bool(receipts)


@dataclass(slots=True)
class _Promises:
    """What the agent's database shows to another process, each thing once."""

    path: Path
    _rows: set[tuple[Any, ...]] = field(default_factory=set)
    _receipted: set[tuple[bytes, int]] = field(default_factory=set)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Intervals that are new or have got other values."""
        new = set(self._ask(READINGS)) - self._rows
        if new:
            self._rows |= new
            yield {"rows": sorted(new, key=lambda row: (row[1], row[0]))}

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Batches that the agent has let go of, since it believes a receipt."""
        for stream, seq, chain_hash in self._ask(
            "SELECT stream, seq, hash FROM batch WHERE sealed IS NULL"
        ):
            if (stream, seq) not in self._receipted:
                self._receipted.add((stream, seq))
                yield {"stream": stream.hex(), "seq": seq, "hash": chain_hash.hex()}

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        """Nothing as long as the agent has not made its tables."""
        try:
            database = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
        except sqlite3.OperationalError:
            return []
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()
