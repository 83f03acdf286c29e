"""On a full disk the agent goes on: history makes room, and what is lost is counted and told."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import T0, Central, S, epoch
from store_bench import custody_of, receipt_all

from agent.health import Counters, Faults
from agent.status_file import read_status, write_status
from agent.store.ballast import BALLAST_BYTES
from agent.store.custody import Custody
from agent.store.rows import MeterRows
from wire.receipt import GAP, Nack

DISK_MIB = 24
METERS = 500
HISTORY = 30
"""Intervals that have a receipt when the disk becomes full."""
INTERVALS = 110
BALLAST = Path("data/ballast")


@pytest.fixture(params=["tmpfs", pytest.param("ext4", marks=pytest.mark.slow)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk; the quota's tests run everywhere")
    image, mounted = tmp_path / "image", tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none"]
    if request.param == "ext4":
        with image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        mount = ["mount", "-o", "loop,noatime", str(image)]
    subprocess.run([*mount, mounted], check=True)
    yield mounted
    subprocess.run(["umount", "--lazy", mounted], check=True)


def free_bytes(disk: Path) -> int:
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def occupy(disk: Path) -> Path:
    """Somebody else's file takes all that is free."""
    file = disk / "others"
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as others:
        while others.write(bytes(1 << 16)):
            os.fsync(others.fileno())
    return file


def commit(custody: Custody, number: int) -> None:
    end = T0 + number * S
    values = (end % 1_000_000, 0, number, 2300, 100, 2)
    rows = [MeterRows(epoch(f"m{meter:03}"), [(end, values)]) for meter in range(METERS)]
    custody.commit(rows, cut=True)
    custody.log([], cut=True)


def make_history(custody: Custody, central: Central, intervals: int = HISTORY) -> None:
    for number in range(intervals):
        commit(custody, number)
    receipt_all(custody, central)
    custody.prune()


def test_receipted_history_makes_room_for_as_long_as_the_disk_is_full(disk: Path) -> None:
    central, counters = Central(), Counters()
    custody = custody_of(disk, central, counters=counters)
    make_history(custody, central)
    assert (disk / BALLAST).exists()
    others = occupy(disk)
    for number in range(HISTORY, INTERVALS):
        commit(custody, number)
        if number % 5 == 0:
            receipt_all(custody, central)
    assert not (disk / BALLAST).exists()
    assert free_bytes(disk) > BALLAST_BYTES // 4, "the next deletion has room"
    receipt_all(custody, central)
    assert len(central.values) == INTERVALS * METERS
    assert counters.snapshot()["rows_lost_total"] == 0
    others.unlink()
    custody.prune()
    assert (disk / BALLAST).exists()
    custody.close()


def test_without_receipts_the_oldest_goes_and_the_device_log_tells_how_much(disk: Path) -> None:
    central, counters = Central(), Counters()
    custody = custody_of(disk, central, counters=counters)
    make_history(custody, central)
    occupy(disk)
    for number in range(HISTORY, INTERVALS):
        commit(custody, number)
    lost = counters.snapshot()["rows_lost_total"]
    assert lost > 0
    # Central waits for a batch that was dropped: what is left is cut again.
    custody.honour(central.receipt(Nack(custody.view().last_seq, GAP)))
    receipt_all(custody, central)
    custody.close()
    assert len(central.values) == INTERVALS * METERS - lost
    ends = {end for _, _, end in central.values if end >= T0 + HISTORY * S}
    assert ends == {T0 + number * S for number in range(INTERVALS - len(ends), INTERVALS)}, (
        "the newest stay"
    )
    entries = [entry for piece in central.log for entry in piece.entries]
    assert min(piece.first for piece in central.log) == 1, "none of its entries made room"
    told = [re.match(r"intervals=(\d+) ", entry.detail) for entry in entries]
    assert sum(int(found[1]) for found in told if found) == lost


def test_an_agent_that_finds_its_disk_full_starts_and_goes_on(disk: Path) -> None:
    central = Central()
    custody = custody_of(disk, central)
    make_history(custody, central)
    custody.close()
    occupy(disk)
    for number in range(HISTORY, HISTORY + 30):
        custody = custody_of(disk, central, faults=(faults := Faults()))
        assert "identity" not in faults.present()
        commit(custody, number)
        receipt_all(custody, central)
        custody.close()
    assert len(central.values) == (HISTORY + 30) * METERS
    assert not (disk / BALLAST).exists()
    assert free_bytes(disk) > BALLAST_BYTES // 4


def test_a_status_that_cannot_be_written_is_a_fault_and_no_reason_to_end(disk: Path) -> None:
    faults = Faults()
    (disk / "data").mkdir()
    write_status(disk / "data", {"written_utc_s": 1}, faults)
    others = occupy(disk)
    # Not even the room of the old one is given up before the new one stands.
    write_status(disk / "data", {"written_utc_s": 2, "faults": {"long": "x" * 900_000}}, faults)
    assert "status" in faults.present()
    assert read_status(disk / "data") == {"written_utc_s": 1}
    others.unlink()
    write_status(disk / "data", {"written_utc_s": 3}, faults)
    assert faults.present() == {}
    assert read_status(disk / "data") == {"written_utc_s": 3}


def test_nothing_is_lost_as_long_as_a_little_history_makes_room_enough(tmp_path: Path) -> None:
    central, counters, faults = Central(), Counters(), Faults()
    custody = custody_of(tmp_path, central, quota_mib=1, counters=counters, faults=faults)
    make_history(custody, central, 3)
    number = 3
    while "store" not in faults.present():
        commit(custody, number)
        number += 1
    assert counters.snapshot()["rows_lost_total"] == 0
    receipt_all(custody, central)
    assert len(central.values) == number * METERS
    custody.close()
