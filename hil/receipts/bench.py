"""What the trials of one process share: keys, an empty store, a clock that the schedule moves."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.store.custody import Custody
from agent.store.outline import WriterSettings
from central.keys.authority import init_authority
from central.keys.device import issue_device

TENANT, DEVICE = "demo", "t07"
CN = f"{TENANT}-{DEVICE}"
INTERVAL_S = 900
START_UTC_S = 1_790_000_100


@dataclass(slots=True)
class BenchClock:
    """UTC and monotonic seconds; both stand still until they are moved."""

    utc_s: float = START_UTC_S
    real_s: float = 1000.0

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s

    def monotonic_s(self) -> float:
        return self.real_s

    def pass_(self, seconds: float) -> None:
        """Time goes on, for both."""
        self.utc_s += seconds
        self.real_s += seconds


def fast_folder() -> Path:
    """A new folder, in memory where the machine has such: fsync is then asked for, and free."""
    memory = Path("/dev/shm")
    return Path(
        tempfile.mkdtemp(prefix="loadscape-receipts-", dir=memory if memory.is_dir() else None)
    )


class Templates:
    """Made once and copied for each trial: making them takes longer than a trial."""

    def __init__(self) -> None:
        self.root = fast_folder()
        self.keys = self.root / "keys"
        self.bundle = self.root / "bundle"
        self.card = self.root / "card"
        init_authority(self.keys, TENANT, broker_hosts=["127.0.0.1"], now_utc_s=START_UTC_S)
        issue_device(self.keys, DEVICE, self.bundle)
        open_custody(self, self.card, BenchClock(), bare=False, boot=bytes(8))[0].close()

    def remove(self) -> None:
        """Give the folder back."""
        shutil.rmtree(self.root)


def open_custody(
    templates: Templates, card: Path, clock: BenchClock, *, bare: bool, boot: bytes
) -> tuple[Custody, Keyring, Faults]:
    """The agent's store on `card` as the agent opens it."""
    card.mkdir(exist_ok=True)
    keyring = Keyring(
        TENANT, templates.bundle / "sign.key", templates.bundle / "root.pub", card / "keyset.cose"
    )
    keyring.load(templates.bundle / "keyset.cose")
    settings = WriterSettings(
        data_dir=card,
        common_name=CN,
        tenant=TENANT,
        lines=("l1",),
        interval_s=INTERVAL_S,
        batch_intervals=1,
        recall_days=0 if bare else 30,
        history_days=0 if bare else 30,
        quota_mib=16,
    )
    faults = Faults()
    custody = Custody(
        settings,
        clock=clock,
        keyring=keyring,
        boot=boot,
        counters=Counters(),
        faults=faults,
        monotonic_s=clock.monotonic_s,
    )
    return custody, keyring, faults


def copy_folder(folder: Path) -> Path:
    """What a power cut leaves: the files without SQLite's shared memory."""
    copy = folder.with_name(f"{folder.name.partition('.')[0]}.{uuid.uuid4().hex}")
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*-shm"))
    return copy
