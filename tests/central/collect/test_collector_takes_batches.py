"""Sealed batches through a real broker: taken once, receipted, refused with a reason."""

from __future__ import annotations

import secrets
import sqlite3
import time
from pathlib import Path

from central.collect.fleet import read_fleet
from central.collect.journal import JournalReader
from central.keys.device import revoke_device
from central.readings.lake import DeltaLake
from central.readings.query import Readings
from hil.bench.device import BenchDevice
from wire import topics
from wire.block import Roster, RosterEntry

EVERYTHING = (1 << 5) - 1
FIRST_END = int(time.time()) // 86_400 * 86_400 - 86_400


def roster(meters: int, prefix: str = "m") -> Roster:
    return Roster(
        tuple(RosterEntry(f"{prefix}{n:06d}", f"s{n}", EVERYTHING) for n in range(meters))
    )


def interval(number: int, meters: int) -> list[tuple[int, int, list[int]]]:
    end_utc_s = FIRST_END + 900 * number
    return [
        (end_utc_s, m, [1000 * m + number * (m + 1), 0, 7 * number, 2300 + m, 100 + number, 0])
        for m in range(meters)
    ]


def outcome(name: str) -> str:
    return f'loadscape_collector_batches_total{{outcome="{name}"}}'


def refused(reason: str) -> str:
    return f'loadscape_collector_refused_total{{reason="{reason}"}}'


def stored(directory: Path) -> list[tuple[str, int]]:
    return [(batch.device, batch.seq) for _, batch in JournalReader(directory).after(0, 10**9)]


def test_batches_are_receipted_after_they_lie_in_the_journal(centre) -> None:
    device = centre.device("t01")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    for number in range(30):
        device.cut(roster(5), interval(number, 5))
    assert device.deliver(within_s=20)
    assert stored(centre.config.journal_dir) == [("t01", seq) for seq in range(1, 31)]
    last = device.receipts[-1]
    assert (last.tenant, last.device, last.upto) == ("demo", "t01", 30)
    assert last.hash_at_upto == device.prev
    assert last.nacks == ()
    device.close()


def test_a_birth_is_answered_with_the_current_receipt_and_the_device_is_seen(centre) -> None:
    device = centre.device("t01")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    device.cut(roster(2), interval(0, 2))
    assert device.deliver(within_s=20)
    before = len(device.receipts)
    device.publish_state()
    receipt = device.wait_for_receipt(10, before + 1)
    assert receipt is not None
    assert receipt.upto == 1
    centre.wait(lambda: any(d.online for d in read_fleet(centre.config.journal_dir)), "the table")
    (seen,) = read_fleet(centre.config.journal_dir)
    assert seen.device == "t01"
    assert seen.batches == 1
    assert seen.state is not None
    assert seen.state["next"] == 2
    device.close()


def test_bad_batches_are_refused_counted_and_logged_and_the_chain_goes_on(centre) -> None:
    device, other = centre.device("t01"), centre.device("t02")
    unknown = BenchDevice("demo", "t01", device.bundle)
    unknown.signer = type(device.signer)(secrets.token_bytes(32))
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    first = device.cut(roster(3), interval(0, 3))
    assert device.deliver(within_s=20)

    def count(name: str) -> float:
        return centre.metric("collect", name)

    flipped = bytearray(device.cut(roster(3), interval(1, 3)))
    flipped[-1] ^= 1
    device.publish(bytes(flipped))
    centre.wait(lambda: count(refused("signature")) == 1, "the flipped byte")

    # Signed by an enrolled device, on another device's topic.
    device.publish(other.cut(roster(3), interval(1, 3)))
    centre.wait(lambda: count(refused("wrong_device")) == 1, "the wrong signer")

    device.publish(unknown.cut(roster(3), interval(1, 3)))
    centre.wait(lambda: count(refused("unknown_device")) == 1, "the unknown device")

    wrong = "00" if topics.shard(device.cn) != "00" else "01"
    device.publish(device.outbox[2], topic=f"loadscape/1/up/{wrong}/{device.cn}")
    centre.wait(lambda: count(refused("shard")) == 1, "the wrong shard")

    device.publish(b"garbage")
    centre.wait(lambda: count(refused("malformed")) == 1, "garbage")

    device.publish(bytes(200_000))
    centre.wait(lambda: count(refused("size")) == 1, "the large message")

    device.publish(first)
    centre.wait(lambda: count(outcome("duplicate")) == 1, "the replayed batch")

    assert device.deliver(within_s=20), "the chain goes on"
    assert stored(centre.config.journal_dir) == [("t01", 1), ("t01", 2)]
    assert count(outcome("refused")) == 6
    log = centre.log("collect")
    for reason in ("signature", "wrong_device", "unknown_device", "shard", "malformed", "size"):
        assert f"not taken ({reason})" in log
    assert "not taken (duplicate)" in log
    device.close()


def test_a_gap_and_a_fork_are_answered_so_that_the_device_can_act(centre) -> None:
    device = centre.device("t01")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    for number in range(3):
        device.cut(roster(2), interval(number, 2))
    device.publish(device.outbox[3])
    receipt = device.wait_for_receipt(10)
    assert receipt is not None
    assert receipt.upto == 0
    assert [(nack.seq, nack.reason) for nack in receipt.nacks] == [(3, "gap")]
    assert device.deliver(within_s=20)

    restored = BenchDevice("demo", "t01", device.bundle, stream=device.stream)
    forked = restored.cut(roster(2), interval(7, 2))
    came = len(device.receipts)
    device.publish(forked)
    receipt = device.wait_for_receipt(10, came + 1)
    assert receipt is not None
    assert receipt.upto == 3
    assert [(nack.seq, nack.reason) for nack in receipt.nacks] == [(1, "fork")]
    device.close()


def test_a_device_can_neither_write_for_another_nor_hear_it(centre) -> None:
    device, other = centre.device("t01"), centre.device("t02")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    other.connect("127.0.0.1", centre.port)
    other.cut(roster(2), interval(0, 2))
    device.publish(other.outbox[1], topic=topics.up(other.cn))
    device.cut(roster(2), interval(0, 2))
    assert device.deliver(within_s=20)
    assert stored(centre.config.journal_dir) == [("t01", 1)]
    assert other.receipts == []
    device.close()
    other.close()


def test_kills_of_collector_loader_and_broker_lose_nothing_and_double_nothing(centre) -> None:
    devices = [centre.device(name) for name in ("t01", "t02")]
    centre.start("broker")
    centre.start("collect")
    centre.start("load")
    for device in devices:
        device.connect("127.0.0.1", centre.port)
    number = 0
    for part in ("collect", "load", "broker", "collect", "load"):
        for _ in range(20):
            for device in devices:
                device.cut(roster(4, device.device), interval(number, 4))
            number += 1
        for device in devices:
            device.deliver(within_s=0.3)
        centre.kill(part)
        centre.start(part)
    for device in devices:
        assert device.deliver(within_s=60)
        device.publish(device.cut(roster(4, device.device), interval(number, 4)))
        assert device.deliver(within_s=20)
    total = 2 * 4 * (number + 1)

    def rows() -> int:
        return sum(file.rows for file in DeltaLake(centre.config.lake_dir).files())

    centre.wait(lambda: rows() >= total, "the rows in the lake")
    assert rows() == total
    readings = Readings(centre.config)
    found = [row for day in readings.days() for row in readings.day_energy(day).to_pylist()]
    assert len({(row["meter"], row["end_utc_s"]) for row in found}) == total
    for meter in range(4):
        energies = [
            row["import_wh"] for row in found
            if row["meter"] == f"t01{meter:06d}" and row["import_wh"] is not None
        ]  # fmt: skip
        assert sum(energies) == number * (meter + 1)
    for device in devices:
        device.close()


def test_a_batch_that_does_not_decode_is_asked_for_again(centre) -> None:
    device = centre.device("t01")
    centre.start("broker")
    centre.start("collect")
    centre.start("load")
    device.connect("127.0.0.1", centre.port)
    device.seal_next(b"\x01 is the version, but this is no block")
    device.cut(roster(2), interval(0, 2))
    assert device.deliver(within_s=20)

    def asked() -> bool:
        return any(nack.reason == "unreadable" for r in device.receipts for nack in r.nacks)

    centre.wait(asked, "the nack")
    unopened = 'loadscape_loader_unopened_total{reason="unreadable"}'
    assert centre.metric("load", unopened) == 1
    assert "kept sealed" in centre.log("load")
    told = [nack for receipt in device.receipts for nack in receipt.nacks]
    centre.kill("collect")
    centre.start("collect")
    device.cut(roster(2), interval(1, 2))
    assert device.deliver(within_s=20)
    assert [nack for r in device.receipts for nack in r.nacks] == told, "asked once, not for ever"
    device.close()


def test_a_newer_keyset_reaches_devices_and_a_revoked_one_is_refused(centre) -> None:
    device, lost = centre.device("t01"), centre.device("t02")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    lost.connect("127.0.0.1", centre.port)
    for each in (device, lost):
        each.cut(roster(2), interval(0, 2))
        assert each.deliver(within_s=20)
    revoke_device(centre.root / "keys", "t02")
    centre.wait(lambda: device.keyset.version == 2, "the keyset")
    lost.publish(lost.cut(roster(2), interval(1, 2)))
    centre.wait(lambda: centre.metric("collect", refused("revoked")) == 1, "the refusal")
    assert device.keyset.revoked == (lost.signer.kid,)
    device.close()
    lost.close()


def test_the_collector_holds_no_key_that_opens_a_batch(centre) -> None:
    for folder in ("epoch", "root", "authority"):
        for file in (centre.root / "keys" / folder).iterdir():
            file.unlink()
        (centre.root / "keys" / folder).rmdir()
    centre.start("broker")
    centre.start("collect")


def test_a_collector_whose_broker_is_away_ends_when_it_is_asked_to(centre) -> None:
    centre.start("broker")
    centre.start("collect")
    centre.kill("broker")
    # Long enough for paho to be between two attempts, of which the later lie 30 s apart.
    centre.wait(
        lambda: centre.log("collect").count("trying again") >= 3, "three attempts", within_s=30
    )
    collector = centre.processes["collect"]
    collector.terminate()
    assert collector.wait(5) == 0


def test_a_second_collector_on_the_same_data_is_refused(centre) -> None:
    from central.cli import main

    centre.start("broker")
    centre.start("collect")
    assert main(["collect", "--config", str(centre.config.source)]) == 1


def test_the_journal_on_disk_holds_no_plain_meter_name(centre) -> None:
    device = centre.device("t01")
    centre.start("broker")
    centre.start("collect")
    device.connect("127.0.0.1", centre.port)
    device.cut(roster(3, "household"), interval(0, 3))
    assert device.deliver(within_s=20)
    device.close()
    for path in centre.config.journal_dir.glob("2*.db"):
        database = sqlite3.connect(path)
        database.execute("pragma wal_checkpoint(truncate)")
        database.close()
        assert b"household" not in path.read_bytes()
