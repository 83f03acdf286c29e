"""No power cut loses what was promised: the recorder, the replayer, and both sides of the chain."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hil.powercut.disk import Disk
from hil.powercut.prove import explore
from hil.powercut.recorder import Kind, Operation, read_log, under_recorder
from hil.powercut.run import STARTS, STATES, Wanted, prove
from hil.powercut.sides import Verdict

COMMITS = 12
WRITER = """
import sqlite3, sys
from pathlib import Path
from hil.powercut.recorder import mark
folder, log, synchronous = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
database = sqlite3.connect(folder / "rows.db", isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute(f"PRAGMA synchronous = {synchronous}")
database.execute("CREATE TABLE row (n INTEGER PRIMARY KEY, filling BLOB)")
for n in range(int(sys.argv[4])):
    database.execute("INSERT INTO row VALUES (?, randomblob(700))", (n,))
    mark(log, {"n": n})
"""
MOVER = """
import os, sys
from pathlib import Path
from hil.powercut.recorder import mark
folder, log, steps = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
(folder / "kept").write_text("old")
for name in ("kept", "."):
    descriptor = os.open(folder / name, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
mark(log, {"kept": "old"})
with (folder / "kept.new").open("w") as file:
    file.write("new")
    file.flush()
    if "f" in steps:
        os.fsync(file.fileno())
os.rename(folder / "kept.new", folder / "kept")
if "d" in steps:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    mark(log, {"kept": "new"})
"""


def recorded(folder: Path, script: str, *words: str) -> Path:
    root, log = folder / "root", folder / "ops"
    root.mkdir()
    command = [sys.executable, "-c", script, str(root), str(log), *words]
    subprocess.run(under_recorder(root, log, command), check=True)
    return log


class Rows:
    """A database of numbered rows: all that were marked must be there."""

    name = "rows"

    def __init__(self) -> None:
        self._promised: set[int] = set()

    def promised(self, mark: Mapping[str, Any]) -> None:
        self._promised.add(mark["n"])

    def judge(self, folder: Path) -> Verdict:
        if not self._promised and not (folder / "rows.db").exists():
            return Verdict()
        try:
            database = sqlite3.connect(folder / "rows.db")
            found = {n for (n,) in database.execute("SELECT n FROM row")}
            database.close()
        except sqlite3.DatabaseError as error:
            return Verdict(len(self._promised), [str(error)] if self._promised else [])
        return Verdict(len(self._promised - found))


class Kept:
    """A file whose text is the one that was marked last, or a later one."""

    name = "kept"

    def __init__(self) -> None:
        self._least: str | None = None

    def promised(self, mark: Mapping[str, Any]) -> None:
        self._least = mark["kept"]

    def judge(self, folder: Path) -> Verdict:
        path = folder / "kept"
        text = path.read_text() if path.exists() else None
        allowed: dict[str | None, set[str | None]] = {
            None: {None, "", "old"},
            "old": {"old", "new"},
            "new": {"new"},
        }
        return Verdict(int(text not in allowed[self._least]))


def test_a_database_that_flushes_each_commit_loses_none_and_one_that_does_not_is_caught(
    tmp_path: Path,
) -> None:
    outcomes = {}
    for synchronous in ("FULL", "OFF"):
        folder = tmp_path / synchronous
        folder.mkdir()
        log = recorded(folder, WRITER, synchronous, str(COMMITS))
        outcomes[synchronous] = explore(Rows(), log, states=150, seed=1)
    full, off = outcomes["FULL"], outcomes["OFF"]
    assert full.states >= 150
    assert full.holds
    assert off.lossy > 0


def test_a_disk_that_ignores_flushes_is_caught_under_the_same_writer(tmp_path: Path) -> None:
    log = recorded(tmp_path, WRITER, "FULL", str(COMMITS))
    assert explore(Rows(), log, states=100, seed=1, honours_flushes=False).lossy > 0


@pytest.mark.parametrize(
    ("steps", "holds"),
    [("fd", True), ("d", False)],
    ids=["flushed, moved, folder flushed", "moved without a flush of the file"],
)
def test_a_file_moved_into_place_is_whole_only_if_it_was_flushed_before(
    steps: str, holds: bool, tmp_path: Path
) -> None:
    log = recorded(tmp_path, MOVER, steps)
    assert explore(Kept(), log, states=60, seed=1).holds is holds


def test_a_name_is_certain_only_once_its_folder_is_flushed(tmp_path: Path) -> None:
    log = recorded(tmp_path, MOVER, "f")
    disk = Disk()
    for operation in read_log(log):
        disk.take(operation)
    texts = {image["kept"] for image in disk.states(random.Random(1), 60)}
    assert texts == {b"old", b"new"}


def test_a_torn_write_ends_at_a_sector(tmp_path: Path) -> None:
    opened = Operation(Kind.OPEN, 1, 3, 0, "file", "", b"", 0)
    folder = Operation(Kind.OPEN, 1, 4, 0, ".", "", b"", 0)
    flush = Operation(Kind.SYNC, 1, 4, 0, "", "", b"", 0)
    write = Operation(Kind.WRITE, 1, 3, 100, "", "", b"x" * 2000, 0)
    disk = Disk()
    for operation in (opened, folder, flush, write):
        disk.take(operation)
    sizes = {len(image["file"]) for image in disk.states(random.Random(1), 200)}
    assert sizes == {0, 512, 1024, 1536, 2048, 2100}


def test_a_recorded_process_does_what_it_does_without_the_recorder(tmp_path: Path) -> None:
    log = recorded(tmp_path, WRITER, "FULL", "3")
    disk = Disk()
    for operation in read_log(log):
        disk.take(operation)
    root = tmp_path / "root"
    left = {path.name: path.read_bytes() for path in root.iterdir()}
    assert left in list(disk.states(random.Random(1), 20))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_power_cut_at_agent_or_collector_loses_anything_or_keeps_them_from_starting(
    tmp_path: Path,
) -> None:
    agent, collector = prove(tmp_path, Wanted(), print)
    for side in (agent, collector):
        assert side.outcome.states >= STATES
        assert side.outcome.told == []
        assert side.outcome.holds
        assert side.control.lossy > 0, "the control, a disk that ignores flushes, was not caught"
        assert side.started.failures == ()
        assert side.started.up >= STARTS
    assert agent.refused == ()
    assert agent.garbage > 0
