from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import (
    T0,
    Central,
    S,
    SetClock,
    edge,
    epoch,
    row,
    sealed_of,
    start_writer,
)

from agent.health import Counters
from agent.store.rows import MeterRows
from agent.store.writer import Writer
from wire.quality import Quality
from wire.receipt import EPOCH_GONE, FORK, UNREADABLE, Nack


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


def restarted(writer: Writer, tmp_path: Path, central: Central, clock: SetClock) -> Writer:
    writer.finish(5)
    return start_writer(tmp_path / "data", central.enrol(tmp_path), clock)


def take_all(central: Central, writer: Writer) -> int:
    sealed = sealed_of(writer)
    for batch in sealed:
        central.take(batch)
    return len(sealed)


def test_an_edge_becomes_one_batch_that_central_can_verify_and_open(
    writer: Writer, central: Central
) -> None:
    writer.hand_over(edge(T0, "m1", "m2"))
    writer.hand_over(edge(T0 + S, "m1", "m2"))

    batches = settled(writer, 2)
    assert [central.take(sealed).seq for sealed in batches] == [1, 2]
    assert sorted(key[::2] for key in central.values) == [
        ("m1", T0),
        ("m1", T0 + S),
        ("m2", T0),
        ("m2", T0 + S),
    ]


def test_an_edge_waits_for_every_line_and_no_longer_than_its_grace(
    tmp_path: Path, central: Central
) -> None:
    clock = SetClock(T0 + 1)
    writer = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, lines=("l1", "l2"))
    writer.hand_over(edge(T0, "m1"))
    assert sealed_of(writer) == []
    writer.hand_over(edge(T0, "m2", line="l2"))
    assert len(settled(writer, 1)) == 1
    writer.hand_over(edge(T0 + S, "m1"))
    clock.utc_s = T0 + S + 0.3 * S
    assert len(settled(writer, 2)) == 2
    writer.finish(5)


def settled(writer: Writer, count: int) -> list[bytes]:
    """The outbox once it holds `count` batches; each fetch waits for the writer's next round."""
    until_s = time.monotonic() + 20
    while len(batches := sealed_of(writer)) < count and time.monotonic() < until_s:
        pass
    return batches


def test_a_recovered_week_becomes_few_batches_of_at_most_96_intervals(
    tmp_path: Path, central: Central, clock: SetClock
) -> None:
    writer = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, gather_s=60.0)
    ends = range(T0 - 671 * S, T0 + S, S)
    for number in range(28):
        rows = [row(end, end + number) for end in ends]
        writer.hand_over([MeterRows(epoch(f"m{number:03}"), rows)])
    batches = settled(writer, 28)
    for sealed in batches:
        central.take(sealed)
    writer.finish(5)

    # Seven days, cut whenever 4096 rows, here seven meters' weeks, are there.
    assert len(batches) == 7 * 4
    assert max(len(sealed) for sealed in batches) <= 128 * 1024
    assert len(central.values) == central.rows == 28 * 672
    assert central.values["m007", "A1", T0][0] == T0 + 7


def test_schemas_are_never_mixed_in_a_batch(writer: Writer, central: Central) -> None:
    sampled = (5,) * 15 + (4,)
    writer.hand_over(
        [MeterRows(epoch("m1"), [row(T0, 1)]), MeterRows(epoch("m2", "B", 2), [(T0, sampled)])]
    )
    headers = [central.take(sealed) for sealed in settled(writer, 2)]
    assert sorted(header.schema_id for header in headers) == [1, 2]
    assert central.values["m2", "B", T0] == sampled


def test_only_a_receipt_with_the_right_hash_empties_the_outbox(
    writer: Writer, central: Central
) -> None:
    for k in range(3):
        writer.hand_over(edge(T0 + k * S, "m1"))
    batches = settled(writer, 3)
    central.take(batches[0])
    central.take(batches[1])
    other = central.receipt()
    writer.receipt(
        type(other)(
            *[b"otherone" if name == "stream" else getattr(other, name) for name in other.__slots__]
        )
    )
    assert len(sealed_of(writer)) == 3
    writer.receipt(central.receipt())
    assert sealed_of(writer) == batches[2:]
    assert writer.view.receipted_upto == 2


@pytest.mark.parametrize("case", ["hash", "beyond", "fork", "epoch"])
def test_what_cannot_be_continued_is_cut_again_into_a_new_stream(
    writer: Writer, central: Central, case: str
) -> None:
    for k in range(4):
        writer.hand_over(edge(T0 + k * S, "m1", "m2"))
    batches = settled(writer, 4)
    central.take(batches[0])
    writer.receipt(central.receipt())
    old = writer.view.stream
    central.take(batches[1])
    writer.receipt(
        {
            "hash": central.receipt(hash_=b"x" * 16),
            "beyond": central.receipt(upto=99),
            "fork": central.receipt(Nack(3, FORK), upto=1, hash_=None),
            "epoch": central.receipt(Nack(3, EPOCH_GONE)),
        }[case]
    )
    sealed_of(writer)  # the receipt has been honoured when this returns
    again = sealed_of(writer)

    assert writer.view.stream != old
    assert len(again) == (2 if case == "epoch" else 3)
    for sealed in again:
        central.take(sealed)
    assert len(central.values) == 8


def test_an_unreadable_batch_is_sent_again_from_the_rows(writer: Writer, central: Central) -> None:
    writer.hand_over(edge(T0, "m1", "m2"))
    (sealed,) = settled(writer, 1)
    central.take(sealed)
    central.values.clear()
    writer.receipt(central.receipt(Nack(1, UNREADABLE)))
    (again,) = sealed_of(writer)
    assert central.take(again).seq == 2
    assert len(central.values) == 2
    writer.receipt(central.receipt(Nack(1, UNREADABLE)))
    assert sealed_of(writer) == []


def test_a_restart_continues_the_chain(
    writer: Writer, central: Central, clock: SetClock, tmp_path: Path
) -> None:
    writer.hand_over(edge(T0, "m1"))
    settled(writer, 1)
    take_all(central, writer)
    again = restarted(writer, tmp_path, central, clock)
    assert list(again.wait_ready()["m1"].ends_utc_s) == [T0]
    again.hand_over(edge(T0 + S, "m1"))
    for sealed in settled(again, 2)[1:]:
        central.take(sealed)
    assert central.upto == 2
    again.finish(5)


def test_a_restored_database_begins_a_new_stream_and_loses_no_row(
    writer: Writer, central: Central, clock: SetClock, tmp_path: Path
) -> None:
    writer.hand_over(edge(T0, "m1"))
    settled(writer, 1)
    writer.finish(5)
    old = tmp_path / "old.db"
    shutil.copy(tmp_path / "data" / "agent.db", old)
    later = start_writer(tmp_path / "data", central.enrol(tmp_path), clock)
    later.hand_over(edge(T0 + S, "m1"))
    settled(later, 2)
    stream = later.view.stream
    later.finish(5)
    shutil.copy(old, tmp_path / "data" / "agent.db")

    restored = start_writer(tmp_path / "data", central.enrol(tmp_path), clock)
    assert restored.view.stream != stream
    (sealed,) = sealed_of(restored)
    assert central.take(sealed).seq == 1
    restored.finish(5)


def test_a_garbage_database_is_put_aside_and_the_agent_starts(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("agent.db", "identity.json"):
        (data / name).write_bytes(b"\xff" * 9000)
    writer = start_writer(data, central.enrol(tmp_path), clock)
    writer.hand_over(edge(T0, "m1"))
    assert len(settled(writer, 1)) == 1
    assert list((data / "quarantine").glob("*/agent.db"))
    writer.finish(5)


def test_rows_wait_uncut_while_no_epoch_key_is_valid(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    keyring = central.enrol(tmp_path)
    assert keyring.accept(central.keyset(2, not_before=T0 + 1000 * S))
    writer = start_writer(tmp_path / "data", keyring, clock)
    writer.hand_over(edge(T0, "m1"))
    assert sealed_of(writer) == sealed_of(writer) == []
    with pytest.raises(ValueError, match="older than 2"):
        keyring.accept(central.keyset(1))
    keyring.accept(central.keyset(3))
    writer.hand_over(edge(T0 + S, "m1"))
    for sealed in settled(writer, 1):
        central.take(sealed)
    assert len(central.values) == 2
    writer.finish(5)


def test_several_intervals_to_a_batch_are_gathered_and_survive_a_restart(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    first = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, batch_intervals=4)
    writer = first
    base = T0 - T0 % (4 * S)
    writer.hand_over(edge(base + S, "m1"))
    writer.hand_over(edge(base + 2 * S, "m1"))
    assert sealed_of(writer) == []
    writer.finish(5)
    writer = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, batch_intervals=4)
    writer.hand_over(edge(base + 3 * S, "m1"))
    writer.hand_over(edge(base + 4 * S, "m1"))
    (sealed,) = settled(writer, 1)
    central.take(sealed)
    assert len(central.values) == 4
    writer.finish(5)


def test_more_rows_than_one_cut_takes_are_still_cut_at_the_same_edge(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    writer = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, batch_intervals=8)
    base = T0 - T0 % (8 * S)
    meters = [f"m{number:04}" for number in range(2600)]
    for number in range(1, 9):
        writer.hand_over(edge(base + number * S, *meters))
    for sealed in settled(writer, 2):
        central.take(sealed)
    writer.finish(10)
    assert len(central.values) == central.rows == 8 * len(meters)


def test_a_full_store_drops_the_oldest_unreceipted_rows_and_counts_them(
    central: Central, clock: SetClock, tmp_path: Path
) -> None:
    counters = Counters()
    writer = start_writer(
        tmp_path / "data", central.enrol(tmp_path), clock, quota_mib=1, counters=counters
    )
    ends = range(T0 - 600 * S, T0, S)
    for number in range(60):
        writer.hand_over([MeterRows(epoch(f"m{number}"), [row(end, end) for end in ends])])
        if number % 10 == 9:
            sealed_of(writer)
    writer.finish(30)
    assert writer.failure is None
    assert counters.snapshot()["rows_lost_total"] > 0


def test_a_missing_interval_costs_next_to_nothing_and_arrives_as_no_data(
    writer: Writer, central: Central
) -> None:
    rows = [(T0, (0, 0, 0, 0, 0, int(Quality.NO_DATA)))]
    writer.hand_over([MeterRows(epoch("m1", ""), rows)])
    (sealed,) = settled(writer, 1)
    central.take(sealed)
    assert central.values["m1", "", T0][-1] == Quality.NO_DATA
