"""The concentrator's own log: one chain over restarts and streams, shipped as batches, bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import T0, Central, S, SetClock, edge, sealed_of, start_writer

from agent.device_log import DeviceLog
from agent.health import Faults
from agent.keyring import Keyring
from agent.store.writer import Writer
from wire.log import NO_PREV, Entry
from wire.receipt import FORK, UNREADABLE, Nack


@pytest.fixture
def central() -> Central:
    return Central()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T0 + 10 * S)


@pytest.fixture
def keyring(tmp_path: Path, central: Central) -> Keyring:
    return central.enrol(tmp_path)


@pytest.fixture
def log() -> DeviceLog:
    return DeviceLog()


@pytest.fixture
def writer(tmp_path: Path, keyring: Keyring, clock: SetClock, log: DeviceLog) -> Iterator[Writer]:
    started = start_writer(tmp_path / "data", keyring, clock, device_log=log)
    yield started
    started.finish(5)


def settled(writer: Writer, count: int) -> list[bytes]:
    until_s = time.monotonic() + 20
    while len(batches := sealed_of(writer)) < count and time.monotonic() < until_s:
        pass
    return batches


def entries(central: Central) -> list[Entry]:
    """What came, in the order of the numbers; each number's link is checked."""
    by_number = {}
    for piece in central.log:
        prev = piece.prev
        for number, entry in enumerate(piece.entries, piece.first):
            by_number[number] = (prev, entry)
            prev = type(piece)(piece.chain, number, prev, (entry,)).head
            assert by_number.get(number + 1, (prev, None))[0] == prev
    assert by_number[1][0] == NO_PREV
    assert sorted(by_number) == list(range(1, len(by_number) + 1))
    return [by_number[number][1] for number in sorted(by_number)]


def codes(central: Central) -> list[str]:
    return [entry.code for entry in entries(central)]


def test_a_start_goes_out_at_once_and_a_fault_with_the_next_intervals(
    writer: Writer, central: Central, log: DeviceLog
) -> None:
    log.add("start", "version=1")
    assert len(settled(writer, 1)) == 1
    faults = Faults(log.add)
    faults.report("line l1", "gone")
    faults.report("line l1", "gone still")
    faults.over("line l1")
    writer.hand_over(edge(T0, "m1"))
    for sealed in settled(writer, 3):
        central.take(sealed)
    told = [(entry.code, entry.detail) for entry in entries(central)]
    assert told == [("start", "version=1"), ("fault", "line l1: gone"), ("recovery", "line l1")]
    assert all(entry.at_utc_s == T0 + 10 * S for entry in entries(central))


def test_the_chain_goes_on_over_a_restart_and_a_new_stream(
    tmp_path: Path, central: Central, keyring: Keyring, clock: SetClock, log: DeviceLog
) -> None:
    first = start_writer(tmp_path / "data", keyring, clock, device_log=log)
    log.add("start")
    for sealed in settled(first, 1):
        central.take(sealed)
    log.add("fault", "broker: away")
    first.finish(5)
    second = start_writer(tmp_path / "data", keyring, clock, device_log=log)
    log.add("start")
    settled(second, 3)
    second.receipt(central.receipt(Nack(1, FORK), upto=0))
    second.hand_over(edge(T0, "m1"))
    for sealed in settled(second, 5):
        central.take(sealed)
    second.finish(5)
    assert codes(central) == ["start", "fault", "start", "stream"]


def test_a_batch_of_the_log_that_central_cannot_read_is_cut_again(
    writer: Writer, central: Central, log: DeviceLog
) -> None:
    log.add("start")
    (sealed,) = settled(writer, 1)
    central.take(sealed)
    central.log.clear()
    writer.receipt(central.receipt(Nack(1, UNREADABLE)))
    (again,) = settled(writer, 1)
    central.take(again)
    assert codes(central) == ["start"]


def test_a_lost_store_begins_another_chain(
    tmp_path: Path, central: Central, keyring: Keyring, clock: SetClock, log: DeviceLog
) -> None:
    for _ in range(2):
        writer = start_writer(tmp_path / "data", keyring, clock, device_log=log)
        log.add("start")
        for sealed in settled(writer, 1):
            central.take(sealed)
        writer.finish(5)
        (tmp_path / "data" / "agent.db").write_bytes(b"garbage" * 1000)
    one, two = central.log
    assert one.chain != two.chain
    assert (one.first, two.first) == (1, 1)


def test_faults_that_flap_are_bounded_and_how_many_were_left_out_is_said() -> None:
    now_s = [0.0]
    log = DeviceLog(lambda: now_s[0])
    faults = Faults(log.add)
    for number in range(100):
        faults.report("line l1", "gone")
        faults.over("line l1")
        log.add("keyset", f"version={number}")
    taken = log.take()
    assert sum(code in ("fault", "recovery") for code, _ in taken) == 60
    assert sum(code == "keyset" for code, _ in taken) == 100
    now_s[0] = 3601.0
    faults.report("line l1", "gone")
    assert log.take() == [("left_out", "entries=140"), ("fault", "line l1: gone")]
