"""What a day of intervals writes to an agent's flash: rows, sealed batches, receipts, pruning.

The real custody, sealing as it does, over a store that already holds more
history than it keeps, so that every interval also drops an old one; each is
cut and receipted before the next. As root the folder lies on an ext4 in a loop
device with the mount options of our images, and the figure is what reached the
block device, the file system's own journal included. Without a loop device it is
what the process wrote to the disk that holds `/var/tmp`, without the file
system's own; the unit says which.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.store.custody import Custody
from agent.store.outline import WriterSettings
from agent.store.rows import MeterEpoch, MeterRows
from hil.bench.figure import Figure
from wire.envelope import DeviceSigner
from wire.keyset import EpochKey, Keyset, ReceiptKey, sign_keyset
from wire.receipt import Receipt
from wire.suites import X25519

LIMIT_MB_DAY_200: Final = 8.0
INTERVAL_S: Final = 900
_DAY_S: Final = 86_400
_INTERVALS: Final = _DAY_S // INTERVAL_S
_HISTORY_DAYS: Final = 2
_START_UTC_S: Final = 1_772_323_200
_SECTOR_BYTES: Final = 512
_DISK_MIB: Final = 96


class _StandingClock:
    def __init__(self, utc_s: float) -> None:
        self.utc_s = utc_s

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


def flash_figures() -> Iterator[Figure]:
    """`store.flash_mb_day_200` and `store.flash_mb_day_30`."""
    for meters, limit in ((200, LIMIT_MB_DAY_200), (30, None)):
        with _disk() as (folder, written_bytes, where):
            day_bytes = _day(folder, meters, written_bytes)
        name = f"store.flash_mb_day_{meters}"
        yield Figure(name, day_bytes / 1e6, f"MB/day, {where}", limit=limit)


def _day(folder: Path, meters: int, written_bytes: Callable[[], int]) -> int:
    """Bytes of one day in the steady state."""
    clock = _StandingClock(_START_UTC_S)
    custody = _custody(folder, clock)
    epochs = [
        MeterEpoch(f"m{number:03}", f"SN{number:06}", 1, 0b111111) for number in range(meters)
    ]
    # Kept is a day more than asked for; another half until deletions keep pace.
    warm = (_HISTORY_DAYS + 1) * _INTERVALS + _INTERVALS // 2
    for number in range(warm):
        _interval(custody, clock, epochs, number)
    before = written_bytes()
    for number in range(warm, warm + _INTERVALS):
        _interval(custody, clock, epochs, number)
    after = written_bytes()
    custody.close()
    return after - before


def _interval(
    custody: Custody, clock: _StandingClock, epochs: list[MeterEpoch], number: int
) -> None:
    end_utc_s = _START_UTC_S + number * INTERVAL_S
    clock.utc_s = end_utc_s + 5
    rows = [
        MeterRows(epoch, [(end_utc_s, _values(number, meter))])
        for meter, epoch in enumerate(epochs)
    ]
    custody.commit(rows, cut=True)
    custody.prune()
    view = custody.view()
    custody.honour(
        Receipt("bench", "c1", view.stream, view.last_seq, view.head_hash, end_utc_s, 1, 1, ())
    )


def _values(number: int, meter: int) -> tuple[int, ...]:
    """Registers that have counted for years, with loads that no two meters share."""
    load_wh = 40 + (number * 37 + meter * 101) % 350
    import_wh = 20_000_000 + meter * 7919 + number * load_wh
    return import_wh, meter % 3 * 1000, import_wh // 9, 2280 + (number + meter) % 50, load_wh * 2, 2


def _custody(folder: Path, clock: _StandingClock) -> Custody:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    root, receipts, seed = (
        DeviceSigner(os.urandom(32)),
        DeviceSigner(os.urandom(32)),
        os.urandom(32),
    )
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    epoch = EpochKey(b"epoch--1", X25519, public, 0, 4_000_000_000)
    keyset = Keyset(1, "bench", (epoch,), (ReceiptKey(receipts.kid, receipts.public),), ())
    (folder / "sign.key").write_text(seed.hex())
    (folder / "sign.key").chmod(0o600)
    (folder / "root.pub").write_text(root.public.hex())
    (folder / "keyset.cose").write_bytes(sign_keyset(keyset, root))
    keyring = Keyring("bench", folder / "sign.key", folder / "root.pub", folder / "kept.cose")
    keyring.load(folder / "keyset.cose")
    settings = WriterSettings(
        data_dir=folder / "data",
        common_name="bench-c1",
        tenant="bench",
        lines=("l1",),
        interval_s=INTERVAL_S,
        batch_intervals=1,
        recall_days=_HISTORY_DAYS,
        history_days=_HISTORY_DAYS,
        quota_mib=64,
    )
    return Custody(
        settings,
        clock=clock,
        keyring=keyring,
        boot=os.urandom(8),
        counters=Counters(),
        faults=Faults(),
    )


@contextmanager
def _disk() -> Iterator[tuple[Path, Callable[[], int], str]]:
    """A folder, how many bytes were written to its disk so far, and where that is counted."""
    with tempfile.TemporaryDirectory(prefix="loadscape-flash-", dir="/var/tmp") as folder:
        image, mounted = Path(folder) / "disk", Path(folder) / "mounted"
        mounted.mkdir()
        if not _mount(image, mounted):
            yield mounted, _written_by_process, "written by the process"
            return
        try:
            number = os.stat(mounted).st_dev
            stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
            yield mounted, lambda: _written_to(stat), "at the block device, ext4"
        finally:
            subprocess.run(["umount", str(mounted)], check=True)


def _mount(image: Path, mounted: Path) -> bool:
    """Whether an ext4 in a loop device could be had; only root can."""
    if os.geteuid() != 0:
        return False
    with image.open("wb") as file:
        file.truncate(_DISK_MIB << 20)
    make = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)]
    mount = ["mount", "-o", "loop,noatime,commit=30", str(image), str(mounted)]
    try:
        return all(
            not subprocess.run(step, capture_output=True).returncode for step in (make, mount)
        )
    except FileNotFoundError:
        return False  # No mkfs.ext4 on this machine.


def _written_to(stat: Path) -> int:
    os.sync()
    return int(stat.read_text().split()[6]) * _SECTOR_BYTES


def _written_by_process() -> int:
    os.sync()
    lines = Path("/proc/self/io").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("write_bytes"))
    return int(line.split()[1])
