"""Events travel as intervals do: one chain, receipts, cut again, quota, each exactly once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from agent_bench import T0, Central, S, SetClock, edge, sealed_of, start_writer

from agent.health import Counters
from agent.store.event_table import EventRows, LogMark, fingerprint
from agent.store.writer import Writer
from wire.envelope import BLOCK, EVENTS
from wire.events import MOST_EVENTS, Event
from wire.receipt import FORK, UNREADABLE, Nack


def entries(first: int, count: int, detail: str = "") -> EventRows:
    events = [
        Event("m1", "A1", "fraud", at, 40, detail, 0)
        for at in range(T0 + first, T0 + first + count)
    ]
    mark = LogMark(events[-1].at_utc_s, frozenset([fingerprint(events[-1])]))
    return EventRows(events, "m1", "A1", "fraud", mark)


@pytest.fixture
def central() -> Central:
    return Central()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T0 + 10 * S)


@pytest.fixture
def writer(tmp_path: Path, central: Central, clock: SetClock) -> Iterator[Writer]:
    started = start_writer(tmp_path / "data", central.enrol(tmp_path), clock)
    yield started
    started.finish(5)


def settled(writer: Writer, count: int) -> list[bytes]:
    until_s = time.monotonic() + 20
    while len(batches := sealed_of(writer)) < count and time.monotonic() < until_s:
        pass
    return batches


def test_events_and_intervals_share_one_chain(writer: Writer, central: Central) -> None:
    writer.hand_over(edge(T0, "m1"))
    settled(writer, 1)
    writer.hand_over(entries(0, 3))
    settled(writer, 2)
    writer.hand_over(edge(T0 + S, "m1"))
    contents = [central.take(sealed).content for sealed in settled(writer, 3)]
    assert contents == [BLOCK, EVENTS, BLOCK]
    assert central.events == list(entries(0, 3).events)
    writer.receipt(central.receipt())
    assert sealed_of(writer) == []


def test_an_entry_handed_over_twice_is_sent_once(writer: Writer, central: Central) -> None:
    writer.hand_over(entries(0, 3))
    settled(writer, 1)
    writer.hand_over(entries(1, 3))
    for sealed in settled(writer, 2):
        central.take(sealed)
    assert central.events == list(entries(0, 4).events)


def test_many_long_entries_become_batches_within_the_bounds(
    writer: Writer, central: Central
) -> None:
    writer.hand_over(entries(0, MOST_EVENTS + 1, "d" * 1000))
    for sealed in settled(writer, 9):
        assert len(sealed) <= 128 * 1024
        central.take(sealed)
    assert len(central.events) == len(set(central.events)) == MOST_EVENTS + 1


def test_events_without_a_receipt_are_cut_again_into_a_new_stream(
    writer: Writer, central: Central
) -> None:
    writer.hand_over(entries(0, 3))
    (first,) = settled(writer, 1)
    central.take(first)
    old = writer.view.stream
    writer.receipt(central.receipt(Nack(1, FORK), upto=0))
    sealed_of(writer)
    again = sealed_of(writer)
    assert writer.view.stream != old
    central.events.clear()
    for sealed in again:
        central.take(sealed)
    assert central.events == list(entries(0, 3).events)


def test_an_unreadable_batch_of_events_is_sent_again(writer: Writer, central: Central) -> None:
    writer.hand_over(entries(0, 3))
    (first,) = settled(writer, 1)
    central.take(first)
    writer.receipt(central.receipt())
    assert sealed_of(writer) == []
    central.events.clear()
    writer.receipt(central.receipt(Nack(1, UNREADABLE)))
    (again,) = sealed_of(writer)
    assert central.take(again).seq == 2
    assert central.events == list(entries(0, 3).events)


def test_events_wait_uncut_while_no_epoch_key_is_valid(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    keyring = central.enrol(tmp_path)
    assert keyring.accept(central.keyset(2, not_before=T0 + 1000 * S))
    writer = start_writer(tmp_path / "data", keyring, clock)
    writer.hand_over(entries(0, 3))
    assert sealed_of(writer) == sealed_of(writer) == []
    writer.finish(5)
    keyring.accept(central.keyset(3))
    writer = start_writer(tmp_path / "data", keyring, clock)
    writer.hand_over(edge(T0, "m1"))
    for sealed in settled(writer, 2):
        central.take(sealed)
    writer.finish(5)
    assert central.events == list(entries(0, 3).events)


def test_a_full_store_drops_events_without_a_receipt_and_counts_them(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    counters = Counters()
    keyring = central.enrol(tmp_path)
    writer = start_writer(tmp_path / "data", keyring, clock, quota_mib=1, counters=counters)
    for number in range(12):
        writer.hand_over(entries(100 * number, 100, "d" * 1000))
        sealed_of(writer)
    writer.finish(30)
    assert writer.failure is None
    assert counters.snapshot()["events_lost_total"] > 0
    again = start_writer(tmp_path / "data", keyring, clock, quota_mib=1)
    marks = again.wait_ready()["m1"].marks
    again.finish(5)
    assert marks["A1", "fraud"] == entries(1199, 1, "d" * 1000).mark, (
        "what was dropped is not read again"
    )


def test_what_central_never_can_read_is_sent_some_times_and_not_for_ever(
    writer: Writer, central: Central
) -> None:
    writer.hand_over(entries(0, 3))
    settled(writer, 1)
    times = 0
    while times < 20:
        times += 1
        batches = sealed_of(writer)
        if not batches:
            break
        for sealed in batches:
            central.take(sealed)
        writer.receipt(central.receipt(Nack(central.upto, UNREADABLE)))
    assert times <= 5
    # Another batch that is unreadable once is sent again as ever.
    writer.hand_over(entries(50, 1))
    (other,) = settled(writer, 1)
    central.take(other)
    central.events.clear()
    writer.receipt(central.receipt(Nack(central.upto, UNREADABLE)))
    (again,) = sealed_of(writer)
    central.take(again)
    assert central.events == list(entries(50, 1).events)


def used_pages(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder}/data/agent.db?mode=ro", uri=True)) as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
    return int(pages - free)


def test_a_store_without_room_for_one_batch_more_survives_a_fork(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    keyring = central.enrol(tmp_path)
    writer = start_writer(tmp_path / "data", keyring, clock, quota_mib=1)
    for number in range(2):
        writer.hand_over(entries(1000 * number, 60, "d" * 1000))
        settled(writer, number + 1)
    more = 10_000
    while used_pages(tmp_path) < 250:
        writer.hand_over(entries(more, 2, "d" * 1000))
        sealed_of(writer)
        more += 2
    central.stream = old = writer.view.stream
    writer.receipt(central.receipt(Nack(1, FORK), upto=0))
    sealed_of(writer)
    assert writer.view.stream != old
    writer.finish(10)
    assert writer.failure is None
    again = start_writer(tmp_path / "data", keyring, clock, quota_mib=1)
    for sealed in sealed_of(again):
        central.take(sealed)
    again.finish(10)
    assert len(central.events) == len(set(central.events)) >= more - 10_000


_CHILD = """
import itertools, pathlib, sys
from agent_bench import S, T0, SetClock, edge, sealed_of, start_writer
from agent.keyring import Keyring
from test_agent_outbox_events import entries
folder = pathlib.Path(sys.argv[1])
keyring = Keyring("demo", folder / "sign.key", folder / "root.pub", folder / "kept.cose")
keyring.load(folder / "keyset.cose")
writer = start_writer(folder / "data", keyring, SetClock(T0 + 10 * S))
mark = writer.wait_ready().get("m1")
first = mark.marks["A1", "fraud"].at_utc_s + 1 - T0 if mark else 0
print("up", flush=True)
for number in itertools.count(first, 3):
    writer.hand_over(entries(number, 3))
    writer.hand_over(edge(T0 + number * S, "m2"))
    sealed_of(writer, after=1 << 40)
"""


def test_an_agent_killed_at_any_moment_sends_every_entry_that_it_read_exactly_once(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    """Eight kills at growing delays."""
    keyring = central.enrol(tmp_path)
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parents[1])])
    for kill in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        time.sleep(0.01 + 0.013 * kill)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    writer = start_writer(tmp_path / "data", keyring, clock)
    known = writer.wait_ready()["m1"].marks["A1", "fraud"].at_utc_s
    for sealed in sealed_of(writer):
        central.take(sealed)
    writer.finish(10)
    assert [event.at_utc_s for event in central.events] == list(range(T0, known + 1))
    assert len(central.events) > 30
