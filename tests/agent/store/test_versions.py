"""An update keeps every row, and taking it back again loses none: steps only add."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from agent_bench import T0, Central, S
from store_bench import CONTENT, commit, content, custody_of, fill, receipt_all

from agent.health import Faults
from agent.store.database import Store
from agent.store.migrations import STEPS, apply, migrate, pending
from ext.checksum import crc32c

PACKED = "0005_readable_intervals"
TAKEN_AWAY = {PACKED: {("interval", "packed")}}
"""What a step took before the first release; a later one only adds."""
Column = tuple[str, str]


def columns(path: Path) -> dict[Column, bool]:
    """Each column, and whether rows that do not know of it can be written."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute(
            'SELECT t.name, c.name, c."notnull" = 0 OR c.dflt_value IS NOT NULL '
            "FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
        )
        return {(table, column): bool(left_out) for table, column, left_out in found}


def later_step(database: sqlite3.Connection) -> None:
    """What a version to come may do: more columns, another table, an index."""
    for table in CONTENT:
        database.execute(f"ALTER TABLE {table} ADD COLUMN later INTEGER")
        database.execute(f"ALTER TABLE {table} ADD COLUMN later_with TEXT NOT NULL DEFAULT 'x'")
    database.execute("CREATE TABLE later (id INTEGER PRIMARY KEY, what TEXT)")
    database.execute("CREATE INDEX later_by_batch ON interval (batch)")


def test_a_step_takes_nothing_away_and_what_it_adds_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.db"
    steps = dict(STEPS)
    monkeypatch.setattr("agent.store.migrations.STEPS", known := dict[str, object]())
    before: dict[Column, bool] = {}
    for name, step in steps.items():
        known[name] = step
        apply(path)
        after = columns(path)
        assert before.keys() - after.keys() == TAKEN_AWAY.get(name, set()), name
        tables = {table for table, _ in before}
        if name not in TAKEN_AWAY:
            added = after.keys() - before.keys()
            assert all(after[column] for column in added if column[0] in tables), name
        before = after
    assert ("interval", "import_wh") in before


def test_this_version_works_with_the_database_of_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    central = Central()
    fill(tmp_path, central)
    path = tmp_path / "data" / "agent.db"
    with monkeypatch.context() as later:
        later.setitem(STEPS, "9999_later", later_step)
        assert migrate(path) == ["9999_later"]
    faults = Faults()
    custody = custody_of(tmp_path, central, faults=faults)
    for number in range(24, 30):
        commit(custody, number)
    receipt_all(custody, central)
    custody.prune()
    assert faults.present() == {}
    assert not list((tmp_path / "data").glob("quarantine/*"))
    assert len({end for _, _, end in central.values}) == 30
    with monkeypatch.context() as again:
        again.setitem(STEPS, "9999_later", later_step)
        assert pending(path) == []
    custody.close()


def test_rows_of_the_version_before_are_the_same_in_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.db"
    with monkeypatch.context() as earlier:
        for name in list(STEPS)[list(STEPS).index(PACKED) :]:
            earlier.delitem(STEPS, name)
        apply(path)
    values = (1_234_567, 89, -1, 2301, 12, 2)
    packed = struct.pack("<qqqiiI", *values)
    crc = crc32c(struct.pack("<qII", T0, 1, 1) + packed)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO meter VALUES (1, 'm1')")
        database.execute("INSERT INTO epoch VALUES (1, 1, 'A1', 1, 63)")
        database.executemany(
            "INSERT INTO interval VALUES (?, 1, 1, 0, 2, ?)",
            # The second one is not what its checksum says.
            [(end, packed + crc.to_bytes(4, "little")) for end in (T0, T0 + S)],
        )
    store = Store(path, 8)
    assert [(row.end_utc_s, tuple(row.values)) for row in store.uncut(0, 9)] == [(T0, values)]
    store.close()
    assert content(path)["epoch"] == [(1, 1, "A1", 1, 63)]
