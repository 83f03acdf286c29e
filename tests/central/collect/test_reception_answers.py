"""What the collector says and raises, without a broker: messages in, answers out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from central.collect.fleet import Fleet, read_fleet
from central.collect.journal import SqliteJournal
from central.collect.reception import ALARM_DAYS, Answer, Message, Reception
from central.keys.authority import init_authority
from central.keys.device import issue_device
from central.keys.place import KeyPlace
from central.metrics import MetricSet
from central.readings.ledger import LoaderLedger, LoaderProgress, Unopened, UnopenedBatch
from hil.bench.device import BenchDevice
from wire import topics
from wire.receipt import Receipt, verify_receipt

DAY_S = 86_400.0


@dataclass
class SetClock:
    """Shows what the test says."""

    utc_s: float
    real_s: float = 0.0

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s

    def pass_(self, seconds: float) -> None:
        self.utc_s += seconds
        self.real_s += seconds


class Bench:
    """A reception with its journal, one device, and what the loader could not open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SetClock(time.time())
        self.place = init_authority(
            folder / "keys", "demo", broker_hosts=["127.0.0.1"], now_utc_s=self.clock.utc_s
        )
        issue_device(folder / "keys", "t01", folder / "t01")
        self.device = BenchDevice("demo", "t01", folder / "t01")
        self.ledger = LoaderLedger(folder / "loader.db")
        today = datetime.fromtimestamp(self.clock.utc_s, UTC).date()
        self.journal = SqliteJournal(folder / "journal", today)
        self.fleet = Fleet(folder / "journal")
        self.reception = self.started(self.place)

    def started(self, place: KeyPlace) -> Reception:
        progress = LoaderProgress(self.folder / "loader.db")
        return Reception(
            "demo", place, self.journal, self.fleet, progress, self.clock, MetricSet(),
            lambda: self.clock.real_s,
        )  # fmt: skip

    def take(self, *sealed: bytes) -> list[Receipt]:
        messages = [Message(topics.up(self.device.cn), one) for one in sealed]
        return self.receipts(self.reception.take(messages))

    def birth(self, boot: str = "b1", **fields: Any) -> list[Receipt]:
        device = self.device
        state = {
            "online": True,
            "boot": boot,
            "stream": device.stream.hex(),
            "next": device.seq + 1,
            "head": device.prev.hex(),
            "keyset": device.keyset.version,
            **fields,
        }
        message = Message(topics.state(device.cn), json.dumps(state).encode())
        return self.receipts(self.reception.take([message]))

    def look(self) -> list[Receipt]:
        return self.receipts(self.reception.look_around())

    def receipts(self, answers: Sequence[Answer]) -> list[Receipt]:
        return [verify_receipt(answer.payload, self.device.keyset) for answer in answers]

    def unopened(self, lsn: int, seq: int, reason: str, *, stream: bytes = b"") -> None:
        named = stream or self.device.stream
        what = Unopened(lsn, "t01", named, seq, reason, "for the test")
        self.ledger.before_commit({}, (), [UnopenedBatch(what, b"sealed")])

    @property
    def alarm(self) -> str | None:
        self.reception.look_around()
        (seen,) = read_fleet(self.folder / "journal")
        return seen.alarm.what if seen.alarm else None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()
    made.fleet.close()
    made.ledger.close()


def told(receipts: Sequence[Receipt]) -> list[tuple[bytes, int, str]]:
    return [(r.stream, nack.seq, nack.reason) for r in receipts for nack in r.nacks]


def test_two_batches_of_one_number_raise_an_alarm_that_ends_a_week_later(bench: Bench) -> None:
    stream = bench.device.stream
    bench.take(bench.device.seal_next(b"one"))
    assert bench.alarm is None
    clone = BenchDevice("demo", "t01", bench.device.bundle, stream=stream)
    (receipt,) = bench.take(clone.seal_next(b"another"))
    assert told([receipt]) == [(stream, 1, "fork")]
    assert bench.alarm == f"two batches 1 in stream {stream.hex()}"
    bench.clock.pass_((ALARM_DAYS + 1) * DAY_S)
    assert bench.alarm is None


def test_two_starts_that_come_and_go_in_turn_raise_an_alarm(bench: Bench) -> None:
    for boot in "abab":
        bench.birth(boot)
        assert bench.alarm is None
    bench.birth("a")
    assert bench.alarm == "two starts of it come and go in turn"


def test_an_alarm_of_the_devices_own_is_shown(bench: Bench) -> None:
    bench.birth(alarms=[])
    assert bench.alarm is None
    bench.birth(alarms=["clone"])
    assert bench.alarm == "its own alarms: clone"


def test_a_device_that_knows_a_newer_keyset_than_the_collector_is_named(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.birth("b1")
    assert caplog.text == ""
    bench.birth("b2", keyset=7)
    assert "t01 knows keyset version 7, here lies 1; hand the newer out" in caplog.text


def test_what_a_device_says_cannot_pass_for_a_line_of_ours(bench: Bench) -> None:
    bench.birth(alarms=["\x1b[2J", "x\nALARM: t02: restored"])
    assert bench.alarm == r"its own alarms: \x1b[2J, x\nALARM: t02: restored"


def test_a_topic_cannot_pass_for_a_line_of_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.reception.take([Message("loadscape/1/up/0\nalarm (clone): t02/demo-t01", b"?")])
    bench.reception.take([Message("loadscape/1/state/\x1b[2J", b"?")])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(line.isprintable() for line in said), said


@pytest.mark.parametrize("said", [r'["\ud800"]', "[1e999]", "[NaN]", "[[" * 5000])
def test_a_state_that_nobody_could_write_as_json_again_is_refused(bench: Bench, said: str) -> None:
    text = '{"online": true, "boot": "b", "alarms": ' + said + "}"
    assert bench.reception.take([Message(topics.state(bench.device.cn), text.encode())]) == []
    bench.reception.look_around()
    assert all(seen.state is None for seen in read_fleet(bench.folder / "journal"))


def test_a_birth_with_the_right_number_and_another_head_learns_the_difference(
    bench: Bench,
) -> None:
    bench.take(bench.device.seal_next(b"one"))
    bench.birth()
    bench.clock.pass_(60)
    assert bench.birth(outbox=1) == [], "nothing is wrong, and it was born before"
    bench.clock.pass_(60)
    (receipt,) = bench.birth(head="00" * 16)
    assert (receipt.upto, receipt.hash_at_upto) == (1, bench.device.prev)


def test_what_does_not_open_is_told_once_then_at_each_birth_and_once_a_day(bench: Bench) -> None:
    stream, other = bench.device.stream, b"earlier-"
    bench.birth()
    bench.unopened(1, 5, "unreadable")
    bench.unopened(2, 3, "epoch_gone", stream=other)
    bench.unopened(3, 9, "unknown")
    asked = [(stream, 5, "unreadable"), (other, 3, "epoch_gone")]
    assert told(bench.look()) == asked
    assert bench.look() == []
    assert sorted(told(bench.birth("b2"))) == sorted(asked)
    bench.reception = bench.started(bench.place)
    assert bench.look() == [], "a restart of the collector is no reason"
    bench.clock.pass_(DAY_S + 1)
    assert told(bench.look()) == asked
    assert bench.look() == []


def test_many_that_do_not_open_go_out_in_few_receipts(bench: Bench) -> None:
    bench.birth()
    for seq in range(1, 71):
        bench.unopened(seq, seq, "unreadable")
    receipts = bench.look()
    assert [len(receipt.nacks) for receipt in receipts] == [32, 32, 6]
