from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.store.database import Lost, Store, StoredRow, StoreFull
from agent.store.identity import IdentityDamaged, StreamHead, read_identity, write_identity
from agent.store.migrations import STEPS, apply, migrate
from agent.store.rows import COLUMNS, MeterEpoch, RowDamaged, from_columns, to_columns
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
EPOCH = MeterEpoch("m1", "A1", 1, 0b111111)


def fill(store: Store, ends: range, epoch: MeterEpoch = EPOCH, batch: int = 1) -> None:
    with store.transaction():
        number = store.epoch_id(epoch)
        store.insert(batch, [StoredRow(end, number, (end, 0, 0, 1, 2, 2)) for end in ends])


def test_rows_and_heads_are_there_after_closing_and_opening(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", 8)
    head = StreamHead(b"stream--", 5, bytes(range(16)))
    fill(store, range(T0, T0 + 4 * S, S))
    with store.transaction():
        store.set_head(head)
    store.close()

    again = Store(tmp_path / "a.db", 8)
    recalled = again.recall(T0 + S)["m1"]
    assert again.head() == head
    assert list(recalled.ends_utc_s) == [T0 + S, T0 + 2 * S, T0 + 3 * S]
    assert recalled.last_true == (T0 + 3 * S, (T0 + 3 * S, 0, 0, 1, 2, 2))
    assert (recalled.serial, recalled.channels) == ("A1", 0b111111)


def test_the_first_true_value_stays_and_no_data_gives_way(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", 8)
    with store.transaction():
        number = store.epoch_id(EPOCH)
        store.insert(1, [StoredRow(T0, number, (0, 0, 0, 0, 0, int(Quality.NO_DATA)))])
        store.insert(2, [StoredRow(T0, number, (7, 0, 0, 0, 0, 2))])
        store.insert(3, [StoredRow(T0, number, (8, 0, 0, 0, 0, 2))])
    assert [r.values[0] for r in store.rows_of(2, T0, T0)] == [7]
    assert store.rows_of(3, T0, T0) == []


def test_a_transaction_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", 8)
    with pytest.raises(RuntimeError), store.transaction():
        store.insert(1, [StoredRow(T0, store.epoch_id(EPOCH), (1, 0, 0, 0, 0, 2))])
        raise RuntimeError("in the middle")
    assert store.recall(0) == {}
    assert store.epochs() == {}
    fill(store, range(T0, T0 + S, S))
    assert list(store.recall(0)) == ["m1"]


def test_a_flipped_bit_in_a_stored_row_is_noticed_and_never_used() -> None:
    row = to_columns(T0, 1, 1, 4, 1, (5, 6, 7, 8, 9, 2))
    assert from_columns(1, row) == (5, 6, 7, 8, 9, 2)
    for at, value in enumerate(row):
        for bit in range(32) if value is not None else ():
            damaged = list(row)
            damaged[at] = value ^ 1 << bit
            with pytest.raises(RowDamaged):
                from_columns(1, damaged)
    for at in range(5, 11):
        with pytest.raises(RowDamaged):
            from_columns(1, [None if at == k else value for k, value in enumerate(row)])


def test_a_gauge_beyond_32_bits_is_dropped_and_said_to_be_out_of_range() -> None:
    values = from_columns(1, to_columns(T0, 1, 1, 4, 1, (5, 6, 7, 1 << 40, 9, 2)))
    assert values[:3] == (5, 6, 7)
    assert values[5] == 2 | Quality.NO_GAUGES | Quality.OUT_OF_RANGE


def test_every_channel_of_every_schema_is_a_column(tmp_path: Path) -> None:
    migrate(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "a.db") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(interval)")]
    assert columns == list(COLUMNS)


def test_every_migration_runs_once(tmp_path: Path) -> None:
    assert migrate(tmp_path / "a.db") == list(STEPS)
    assert migrate(tmp_path / "a.db") == []


def test_steps_run_in_a_process_of_their_own_so_that_the_agent_stays_small(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from agent.store.migrations import migrate;"
        "assert migrate(pathlib.Path(sys.argv[1])); assert 'sqlite_utils' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.db")], check=True)
    assert migrate(tmp_path / "a.db") == []


def test_a_database_of_the_time_before_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    apply(path)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO meter (name) VALUES ('m1')")
        database.execute("DROP TABLE _sqlite_migrations")
        database.execute("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_utc_s INTEGER)")
        database.executemany("INSERT INTO migration VALUES (?, 1793578500)", ((n,) for n in STEPS))
    assert migrate(path) == list(STEPS)
    assert migrate(path) == []
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM meter").fetchall() == [("m1",)]


def test_a_full_quota_is_refused_and_receipted_history_makes_room(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", 4)
    end = T0
    with pytest.raises(StoreFull):
        for _ in range(200):
            fill(store, range(end, end + 2000 * S, S))
            end += 2000 * S
    assert store.make_room(T0) == Lost()
    fill(store, range(end, end + 500 * S, S))
    assert end in store.recall(end)["m1"].ends_utc_s


def test_the_identity_file_survives_and_refuses_another_agents(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    assert read_identity(path, "demo-t07") is None
    head = StreamHead.fresh()
    write_identity(path, "demo-t07", head)
    assert read_identity(path, "demo-t07") == head
    with pytest.raises(IdentityDamaged, match="copied from another agent"):
        read_identity(path, "demo-t08")
    path.write_bytes(b"\x00garbage")
    with pytest.raises(IdentityDamaged):
        read_identity(path, "demo-t07")


_WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from agent.store.database import Lost, Store, StoredRow
from agent.store.rows import MeterEpoch
store = Store(Path(sys.argv[1]), 64)
epochs = [MeterEpoch(f"m{k}", "A", 1, 63) for k in range(50)]
end = int(sys.argv[2])
while True:
    end += 900
    with store.transaction():
        store.insert(1, [StoredRow(end, store.epoch_id(e), (end, 0, 0, 0, 0, 2)) for e in epochs])
    print(end, flush=True)
"""


def test_an_edge_that_was_acknowledged_survives_kill_9_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    end = T0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITE_UNTIL_KILLED, str(path), str(end)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert process.stdout is not None
        for _ in range(10 + 7 * round_):
            end = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        end = int(rest[-1]) if rest else end
        store = Store(path, 64)
        recalled = store.recall(0)
        store.close()
        assert len({tuple(known.ends_utc_s) for known in recalled.values()}) == 1
        newest = recalled["m0"].ends_utc_s[-1]
        assert newest >= end
        assert list(recalled["m0"].ends_utc_s) == list(range(T0 + S, newest + S, S))
        end = newest


def test_an_exchange_is_recalled_by_the_serial_number_alone(tmp_path: Path) -> None:
    """Not by a meter that is read by another protocol, nor by rows that tell no serial number."""
    store = Store(tmp_path / "a.db", 8)
    with store.transaction():
        nameless = store.epoch_id(MeterEpoch("m1", "", 1, 0b111111))
        sampled = store.epoch_id(MeterEpoch("m1", "A1", 2, 0xFFFF))
        missing = (*(0 for _ in range(15)), int(Quality.NO_DATA))
        store.insert(1, [StoredRow(T0, sampled, missing)])
        store.insert(1, [StoredRow(T0 + 2 * S, nameless, (0, 0, 0, 0, 0, int(Quality.NO_DATA)))])
    fill(store, range(T0 + S, T0 + 2 * S, S))
    fill(store, range(T0 + 3 * S, T0 + 4 * S, S))
    assert store.recall(0)["m1"].exchanged_after_utc_s == 0
    fill(store, range(T0 + 5 * S, T0 + 6 * S, S), MeterEpoch("m1", "B2", 1, 0b111111))
    recalled = store.recall(0)["m1"]
    assert (recalled.exchanged_after_utc_s, recalled.serial) == (T0 + 3 * S, "B2")
