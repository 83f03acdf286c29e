"""No invocation counter is ever handed out twice: after crashes, kills, and beside other users."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.errors import (
    CounterImplausible,
    CountersDamaged,
    CountersExhausted,
    CountersUnavailable,
)
from agent.dlms.security.counters import (
    FARTHEST_JUMP,
    FILE_NAME,
    LEFT_OVER,
    MOST,
    STEP,
    CounterStore,
    counter_name,
)

_COUNTING = """\
import sys
from pathlib import Path
from agent.dlms.security.counters import CounterStore
counter = CounterStore(Path(sys.argv[1]), step=5).counter("k")
for _ in range(int(sys.argv[2])):
    print(counter.next(), flush=True)
"""


def counting(path: Path, times: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _COUNTING, str(path), str(times)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


class Crash(BaseException):
    """The process ends here; nothing after it runs."""


class _Dying(sqlite3.Connection):
    """Ends the process before or after its n-th statement; whatever is not committed is gone."""

    left = MOST
    after = False

    def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:  # type: ignore[override]
        if sql.startswith("PRAGMA synchronous"):
            # A dead process needs no waiting for the disk, only a dead machine does.
            sql = "PRAGMA synchronous = OFF"
        _Dying.left -= 1
        if _Dying.left < 0 and not _Dying.after:
            self.die()
        cursor = super().execute(sql, parameters)  # type: ignore[arg-type]
        if _Dying.left < 0:
            self.die()
        return cursor

    def die(self) -> NoReturn:
        self.rollback()  # as the next process does with the journal
        raise Crash


@contextmanager
def dying() -> Iterator[type[_Dying]]:
    connect = partial(sqlite3.connect, factory=_Dying)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        _Dying.left = MOST
        yield _Dying


_OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("next", "raise")),
        st.integers(0, 40),  # how far above the last value, for raise
        st.integers(0, 12),  # statements until the crash; the longest use has eight
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(operations=_OPERATIONS, step=st.integers(1, 7))
def test_values_rise_over_every_point_at_which_a_process_can_end(
    operations: list[tuple[str, int, int, bool]],
    step: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with dying() as death:
        path = tmp_path_factory.mktemp("counters") / FILE_NAME
        highest = 0
        store = CounterStore(path, step=step)
        for operation, above, statements, after in operations:
            death.left, death.after = statements, after
            counter = store.counter("k")
            try:
                if operation == "next":
                    value = counter.next()
                    assert value > highest
                    highest = value
                else:
                    counter.raise_above(highest + above)
                    highest += above
            except Crash:
                death.left = MOST
                store.close()
                store = CounterStore(path, step=step)
        death.left = MOST
        assert store.counter("k").next() > highest
        store.close()


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=60))
def test_values_rise_in_the_order_handed_out_whichever_store_hands_them_out(
    turns: list[tuple[int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with dying():
        path = tmp_path_factory.mktemp("counters") / FILE_NAME
        stores = [CounterStore(path, step=step) for step in (1, 3, 10)]
        values: dict[str, list[int]] = {"a": [0], "b": [0]}
        for which, name in turns:
            values[name].append(stores[which].counter(name).next())
        assert all(one < other for each in values.values() for one, other in pairwise(each))
        for store in stores:
            store.close()


def test_one_store_that_is_left_alone_wastes_none(tmp_path: Path) -> None:
    counter = CounterStore(tmp_path / FILE_NAME, step=4).counter("k")
    assert [counter.next() for _ in range(10)] == list(range(1, 11))


def test_a_process_killed_at_any_time_leaves_its_values_used(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    seen: list[int] = []
    for lines in (1, 7, 23):
        process = counting(path, 1_000_000)
        assert process.stdout is not None
        seen += [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()  # SIGKILL
        seen += [
            int(line) for line in process.stdout.read().splitlines(keepends=True) if "\n" in line
        ]
        process.wait()
        process.stdout.close()
    seen.append(CounterStore(path, step=5).counter("k").next())
    assert all(one < other for one, other in pairwise(seen))


def test_two_processes_at_once_never_get_the_same_value(tmp_path: Path) -> None:
    processes = [counting(tmp_path / FILE_NAME, 40) for _ in range(2)]
    values = [[int(line) for line in process.communicate()[0].split()] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(one < other for each in values for one, other in pairwise(each))
    assert len(set(values[0]) | set(values[1])) == 80


def test_threads_of_one_store_share_a_counter(tmp_path: Path) -> None:
    store = CounterStore(tmp_path / FILE_NAME, step=30)
    values: list[int] = []

    def take() -> None:
        counter = store.counter("k")
        values.extend(counter.next() for _ in range(100))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values) == list(range(1, 401))


def test_raise_above_lasts_and_never_lowers(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    CounterStore(path).counter("k").raise_above(70_000)
    counter = CounterStore(path).counter("k")
    assert counter.next() == 70_001
    counter.raise_above(5)
    assert counter.next() == 70_002
    counter.raise_above(70_400)
    assert counter.next() == 70_401
    with pytest.raises(ValueError, match="expected a counter of 0 to 4294967295, came -1"):
        counter.raise_above(-1)


def test_a_counter_in_use_follows_no_forged_counter_to_its_end(tmp_path: Path) -> None:
    counter = CounterStore(tmp_path / FILE_NAME).counter("k")
    for forged in (MOST, MOST - LEFT_OVER + 1):
        with pytest.raises(CounterImplausible, match="stands at 0, expected the meter's at"):
            counter.raise_above(forged)
    # A head-end before us may have counted by the second of the year.
    counter.raise_above(1_790_000_000)
    assert counter.next() == 1_790_000_001
    reserved = 1_790_000_000 + STEP
    with pytest.raises(CounterImplausible, match=f"stands at {reserved}, .* new keys"):
        counter.raise_above(reserved + FARTHEST_JUMP + 1)
    assert counter.next() == 1_790_000_002
    counter.raise_above(reserved + FARTHEST_JUMP)
    assert counter.next() == reserved + FARTHEST_JUMP + 1


def test_a_raise_by_another_process_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    counter = CounterStore(path).counter("k")
    assert counter.next() == 1
    CounterStore(path).counter("k").raise_above(90_000)
    assert counter.next() > 90_000


def test_the_last_value_is_handed_out_once_and_then_new_keys_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    store = CounterStore(path)
    assert store.counter("k").next() == 1
    store.reserve("k", MOST - 2 - STEP)
    counter = CounterStore(path).counter("k")
    assert [counter.next(), counter.next()] == [MOST - 1, MOST]
    for again in (counter, CounterStore(path).counter("k")):
        with pytest.raises(CountersExhausted, match="give the meter new keys"):
            again.next()
    assert CounterStore(path).counter("another").next() == 1


def test_the_file_is_for_this_user_alone_and_made_at_the_first_use(tmp_path: Path) -> None:
    path = tmp_path / "data" / FILE_NAME
    counter = CounterStore(path).counter("k")
    assert not path.parent.exists()
    counter.next()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_lost_all_its_bytes_before_the_first_use_is_begun(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    assert CounterStore(tmp_path / FILE_NAME).counter("k").next() == 1


@pytest.mark.parametrize("damage", ["noise", "torn", "other program", "value"])
def test_a_damaged_file_stops_the_meter_and_says_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE_NAME
    store = CounterStore(path)
    assert store.counter("k7").next() == 1
    store.close()
    with sqlite3.connect(path) as database:  # more than one page
        rows = ((f"another {number}", 0) for number in range(500))
        database.executemany("INSERT INTO counter VALUES (?, ?)", rows)
    database.close()
    if damage == "noise":
        path.write_bytes(b"\xa5" * 8192)
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))
    elif damage == "other program":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE reading (at)")
        database.close()
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            database.execute("UPDATE counter SET reserved = -5")
        database.close()
    with pytest.raises(CountersDamaged, match=r"Move the file away.*counter_object.*new keys"):
        CounterStore(path).counter("k7").next()
    path.unlink()
    assert store.counter("k7").next() > 1


def test_a_folder_that_cannot_hold_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(CountersUnavailable, match=r"nothing was sent\. Check free space"):
        CounterStore(tmp_path / "data" / FILE_NAME).counter("k").next()


def test_a_counters_name_tells_nothing_of_its_key_and_is_the_keys_own() -> None:
    key, other = bytes(range(16)), bytes(range(1, 17))
    assert counter_name(key) == counter_name(bytes(range(16)))
    assert counter_name(key) != counter_name(other)
    assert key.hex() not in counter_name(key)
