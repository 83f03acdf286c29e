"""docs/store.md names every file, table and column of the agent's store, and no other."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from agent.run import KEPT_KEYSET_FILE
from agent.status_file import STATUS_FILE
from agent.store.ballast import BALLAST_BYTES, BALLAST_FILE
from agent.store.migrations import migrate
from agent.store.opening import DAMAGED_FILE, DATABASE_FILE, IDENTITY_FILE, QUARANTINE
from agent.store.rows import COLUMNS
from hil.bench.flash import LIMIT_MB_DAY_200

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> set[str]:
    """All names in the first column of the table that follows."""
    table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines()[1:]]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_file_of_the_data_folder_is_named() -> None:
    named = first_cells("| File | What it is |")
    written = {DATABASE_FILE, IDENTITY_FILE, BALLAST_FILE, DAMAGED_FILE, f"{QUARANTINE}/"}
    others = named - written - {KEPT_KEYSET_FILE, STATUS_FILE}
    assert written | {KEPT_KEYSET_FILE, STATUS_FILE} <= named
    assert all(name.startswith(DATABASE_FILE) for name in others)


def test_every_table_and_view_is_named_and_none_that_is_not_there(tmp_path: Path) -> None:
    migrate(tmp_path / "agent.db")
    with closing(sqlite3.connect(tmp_path / "agent.db")) as database:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        there = {name for (name,) in database.execute(query) if not name.startswith("_sqlite")}
    assert first_cells("| Table | One row is |") == there - {"sqlite_sequence"}


def test_the_columns_of_an_interval_stand_in_their_order() -> None:
    part = PAGE.split("An interval's columns", 1)[1].split("A channel that", 1)[0]
    assert tuple(re.findall(r"`([a-z0-9_]+)`", part)) == COLUMNS


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"{BALLAST_BYTES >> 20} MiB that are given up" in PAGE
    assert f"fails above {LIMIT_MB_DAY_200:.0f} MB" in PAGE
