"""The journal takes a batch once, in order, and remembers heads beyond pruning."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central.collect.journal import (
    ZERO_HASH,
    Batch,
    JournalReader,
    Outcome,
    Refusal,
    SqliteJournal,
)

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2
TODAY = date.fromordinal(date(1970, 1, 1).toordinal() + 20_000)
STREAM = b"stream-1"


def batch(seq: int, prev: bytes, body: bytes = b"sealed", device: str = "t01") -> Batch:
    sealed = body + seq.to_bytes(4)
    return Batch(
        device, STREAM, seq, prev, hashlib.sha256(prev + sealed).digest()[:16],
        b"kid-0001", 1, 1, sealed,
    )  # fmt: skip


def chain(count: int) -> list[Batch]:
    batches: list[Batch] = []
    for seq in range(1, count + 1):
        batches.append(batch(seq, batches[-1].hash if batches else ZERO_HASH))
    return batches


@pytest.fixture
def journal(tmp_path: Path) -> SqliteJournal:
    return SqliteJournal(tmp_path, TODAY)


def test_a_batch_is_new_once_and_a_duplicate_ever_after(journal: SqliteJournal) -> None:
    first, second = chain(2)
    assert journal.append([first, second, first], [], NOON) == [
        Outcome.NEW, Outcome.NEW, Outcome.DUPLICATE,
    ]  # fmt: skip
    head = journal.head("t01", STREAM)
    assert head is not None
    assert (head.upto, head.hash, head.lsn) == (2, second.hash, 2)


def test_a_batch_beyond_the_next_is_a_gap_and_is_not_stored(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    first, _, third = chain(3)
    assert journal.append([first, third], [], NOON) == [Outcome.NEW, Outcome.GAP]
    assert [b.seq for _, b in JournalReader(tmp_path).after(0, 10**6)] == [1]


def test_a_broken_link_or_changed_bytes_are_a_fork(journal: SqliteJournal) -> None:
    first, second = chain(2)
    foreign = batch(2, b"another-prev-16b")
    changed = batch(1, ZERO_HASH, b"other")
    assert journal.append([first, foreign, changed, second], [], NOON) == [
        Outcome.NEW, Outcome.FORK, Outcome.FORK, Outcome.NEW,
    ]  # fmt: skip


def test_a_stream_goes_on_across_midnight_and_restart(tmp_path: Path) -> None:
    batches = chain(4)
    journal = SqliteJournal(tmp_path, TODAY)
    journal.append(batches[:2], [], NOON)
    journal.append(batches[2:3], [], NOON + DAY)
    journal.close()
    again = SqliteJournal(tmp_path, TODAY)
    assert again.append([batches[0], batches[3]], [], NOON + DAY) == [
        Outcome.DUPLICATE, Outcome.NEW,
    ]  # fmt: skip
    assert [i for i, _ in JournalReader(tmp_path).after(0, 10**6)] == [1, 2, 3, 4]


def test_heads_outlive_pruning_and_ids_never_start_again(tmp_path: Path) -> None:
    batches = chain(3)
    journal = SqliteJournal(tmp_path, TODAY)
    journal.append(batches[:2], [], NOON)
    journal.append([], [], NOON + 9 * DAY)
    late = date.fromordinal(TODAY.toordinal() + 2)
    assert journal.prune(late, loaded_upto=1) == 0, "a batch that is not loaded stays"
    assert journal.prune(late, loaded_upto=2) == 1
    assert journal.append([batches[0], batches[2]], [], NOON + 9 * DAY) == [
        Outcome.DUPLICATE, Outcome.NEW,
    ]  # fmt: skip
    assert [i for i, _ in JournalReader(tmp_path).after(0, 10**6)] == [3]


def test_a_clock_that_goes_back_writes_on_into_the_newest_day(tmp_path: Path) -> None:
    batches = chain(2)
    journal = SqliteJournal(tmp_path, TODAY)
    journal.append(batches[:1], [], NOON)
    journal.append(batches[1:], [], NOON - 5 * DAY)
    assert len(list(tmp_path.glob("*.db"))) == 1


def test_refused_messages_are_kept_with_their_reason(journal: SqliteJournal) -> None:
    journal.append([], [Refusal("topic", "signature", "why", b"bytes")], NOON)
    assert journal.quarantined() == [("signature", "topic")]


def test_a_reader_takes_about_as_much_as_it_asked_for(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    journal.append(chain(10), [], NOON)
    reader = JournalReader(tmp_path)
    assert [i for i, _ in reader.after(3, 25)] == [4, 5, 6]
    assert [i for i, _ in reader.after(9, 1)] == [10]
    assert reader.after(10, 1) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 11), max_size=8), max_size=12))
def test_any_order_of_arrival_stores_a_gapless_prefix_once(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    batches = chain(12)
    journal = SqliteJournal(directory, TODAY)
    upto = 0
    for group in groups:
        for index, outcome in zip(
            group, journal.append([batches[i] for i in group], [], NOON), strict=True
        ):
            seq = index + 1
            expected = (
                Outcome.DUPLICATE if seq <= upto
                else Outcome.NEW if seq == upto + 1 else Outcome.GAP
            )  # fmt: skip
            assert outcome is expected
            upto += outcome is Outcome.NEW
    stored = [b for _, b in JournalReader(directory).after(0, 10**6)]
    assert stored == batches[:upto]
    journal.close()
