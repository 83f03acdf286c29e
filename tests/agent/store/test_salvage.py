"""Whatever lies on its disk the agent starts, and all that is still sound reaches central."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agent_bench import T0, Central, S
from store_bench import commit, custody_of, fill, receipt_all

from agent.health import Faults
from agent.store.connection import StoreDamaged
from agent.store.custody import Custody
from agent.store.opening import note_damage

FILES = (
    "agent.db",
    "agent.db-wal",
    "agent.db-shm",
    "agent.db.damaged",
    "agent.db.salvaging",
    "agent.db.salvaged",
    "ballast",
    "identity.json",
    "identity.json.new",
    "quarantine",
)
METERS = 8
FLIPS = 8


def left_behind(folder: Path, central: Central, intervals: int = 6) -> Path:
    """A store as it lies there when the power goes: half of it receipted, a log beside it."""
    fill(folder / "made", central, intervals)
    custody = custody_of(folder / "made", central)
    commit(custody, intervals)
    shutil.copytree(folder / "made", folder / "left")
    custody.close()
    return folder / "left"


def started(folder: Path, central: Central, faults: Faults | None = None) -> Custody:
    """What an agent does at its start, up to central's receipt."""
    custody = custody_of(folder, central, faults=faults)
    receipt_all(custody, central)
    return custody


def rows(database: sqlite3.Connection) -> dict[tuple[int, int], Any]:
    """Each row of `interval` that can be had by its key, with what says whose it is."""
    found = {}
    for end in range(T0, T0 + 30 * S, S):
        for meter in range(1, METERS + 1):
            try:
                row = database.execute(
                    "SELECT interval.*, epoch.*, meter.* FROM interval "
                    "JOIN epoch ON epoch.id = epoch JOIN meter ON meter.id = interval.meter "
                    "WHERE end_utc_s = ? AND interval.meter = ?",
                    (end, meter),
                ).fetchone()
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                continue
            if row is not None:
                found[end, meter] = row
    return found


@pytest.mark.parametrize("name", FILES)
def test_garbage_in_any_file_keeps_no_agent_from_starting(name: str, tmp_path: Path) -> None:
    drawn = random.Random(name)
    for kind in ("empty", "half", "random"):
        central = Central()
        folder = left_behind(tmp_path / kind, central)
        file = folder / "data" / name
        if file.is_dir():
            file.rmdir()
        whole = file.read_bytes() if file.is_file() else b""
        garbage = {"empty": b"", "half": whole[: len(whole) // 2], "random": drawn.randbytes(9000)}
        file.write_bytes(garbage[kind])
        custody = started(folder, central)
        commit(custody, 7)
        receipt_all(custody, central)
        assert sum(end == T0 + 7 * S for _, _, end in central.values) == METERS
        custody.close()


def test_all_files_full_of_garbage_are_a_fresh_start(tmp_path: Path) -> None:
    central, data = Central(), tmp_path / "data"
    data.mkdir()
    for name in FILES:
        (data / name).write_bytes(random.Random(name).randbytes(5000))
    custody = started(tmp_path, central)
    commit(custody, 0)
    receipt_all(custody, central)
    assert len(central.values) == METERS
    custody.close()


def salvaged(folder: Path, seed: int) -> tuple[int, int]:
    """Flip bits in a filled store and start: rows readable by their key, those that arrived."""
    central = Central()
    fill(folder, central, 24)
    path = folder / "data" / "agent.db"
    image = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as database:
        written = rows(database)
    drawn = random.Random(seed)
    for _ in range(FLIPS):
        image[drawn.randrange(100, len(image))] ^= 1 << drawn.randrange(8)
    path.write_bytes(image)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        sound = {key for key, row in rows(database).items() if row == written[key]}
    stream, faults = central.stream, Faults()
    note_damage(folder / "data", StoreDamaged("seen while it ran"))
    custody = started(folder, central, faults)
    assert custody.view().stream != stream
    assert {"store", "salvage"} <= faults.present().keys()
    # What of a batch is not known to be receipted goes with the next edge.
    commit(custody, 25)
    receipt_all(custody, central)
    custody.close()
    arrived = {
        (end, int(name[1:]) + 1): values for (name, _, end), values in central.values.items()
    }
    for key in arrived.keys() & written.keys():
        assert arrived[key] == (*written[key][6:11], written[key][4]), f"seed {seed}: {key}"
    return len(sound), len(sound & arrived.keys())


def share_salvaged(folder: Path, seeds: range) -> float:
    readable = 0
    arrived = 0
    for seed in seeds:
        both = salvaged(folder / str(seed), seed)
        readable, arrived = readable + both[0], arrived + both[1]
        shutil.rmtree(folder / str(seed))
    assert readable > len(seeds) * METERS
    return arrived / readable


def test_rows_that_can_still_be_read_reach_central_and_no_damaged_one(tmp_path: Path) -> None:
    assert share_salvaged(tmp_path, range(5)) > 0.95


@pytest.mark.slow
def test_rows_that_can_still_be_read_reach_central_in_50_cases(tmp_path: Path) -> None:
    # The rest stood where the tree's order was damaged, so that no scan finds them.
    assert share_salvaged(tmp_path, range(100, 150)) > 0.98


def test_what_the_weekly_look_finds_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    central, data = Central(), tmp_path / "data"
    fill(tmp_path, central)
    with closing(sqlite3.connect(data / "agent.db")) as database, database:
        database.execute(
            "UPDATE interval SET import_wh = import_wh + 1 WHERE end_utc_s = ? AND meter = 3",
            (T0 + 20 * S,),
        )
    custody = custody_of(tmp_path, central)
    with pytest.raises(StoreDamaged) as found:
        for _ in range(100):
            custody.scrub()
    note_damage(data, found.value)
    custody.close()
    custody = started(tmp_path, central)
    custody.close()
    assert len(central.values) == 24 * METERS - 1
    assert ("m2", "A1", T0 + 20 * S) not in central.values
    (aside,) = (data / "quarantine").iterdir()
    assert (aside / "agent.db").exists()


def test_two_damaged_databases_are_kept_and_no_third(tmp_path: Path) -> None:
    central = Central()
    seen = []
    for number in range(4):
        custody = started(tmp_path, central)
        commit(custody, number)
        custody.close()
        note_damage(tmp_path / "data", StoreDamaged("once more"))
        seen += [path for path in (tmp_path / "data").glob("quarantine/*") if path not in seen]
    custody = started(tmp_path, central)
    custody.close()
    kept = sorted((tmp_path / "data" / "quarantine").iterdir())
    assert len(kept) == 2
    assert kept[0] == seen[-1]
    assert len(central.values) == 4 * METERS
