"""Keys, clocks and central's side of the contract for the agent's tests."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock_trust import Trust
from agent.device_log import DeviceLog
from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.store.rows import EdgeRows, MeterEpoch, MeterRows
from agent.store.writer import Writer, WriterSettings
from wire.block import Block, Roster, RosterEntry, decode_block
from wire.clock import Clock
from wire.envelope import (
    EVENTS,
    LOG,
    BatchHeader,
    DeviceSigner,
    chain_hash,
    open_sealed,
    verify,
)
from wire.events import Event, decode_events
from wire.keyset import EpochKey, Keyset, ReceiptKey, sign_keyset
from wire.log import Piece, decode_log
from wire.receipt import Nack, Receipt, sign_receipt
from wire.suites import X25519

S = 900
T0 = 1_767_225_600
LONG = 4_000_000_000


class SetClock:
    """A clock that shows what the test says; it stands still."""

    def __init__(self, utc_s: float) -> None:
        self.utc_s = utc_s

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


@dataclass
class Central:
    """Central's keys and what a collector and a loader would do with one agent's batches."""

    root: DeviceSigner = field(default_factory=lambda: DeviceSigner(os.urandom(32)))
    receipts: DeviceSigner = field(default_factory=lambda: DeviceSigner(os.urandom(32)))
    device: DeviceSigner = field(init=False)
    stream: bytes = b""
    upto: int = 0
    hash: bytes = bytes(16)
    rosters: dict[bytes, Roster] = field(default_factory=dict)
    values: dict[tuple[str, str, int], tuple[int, ...]] = field(default_factory=dict)
    rows: int = 0
    events: list[Event] = field(default_factory=list)
    log: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        key = X25519PrivateKey.generate()
        self.epoch_private = key.private_bytes_raw()
        self.epoch_public = key.public_key().public_bytes_raw()
        self.seed = os.urandom(32)
        self.device = DeviceSigner(self.seed)

    def keyset(self, version: int = 1, *, not_before: int = 0) -> bytes:
        epoch = EpochKey(b"epoch--1", X25519, self.epoch_public, not_before, LONG)
        receipt = ReceiptKey(self.receipts.kid, self.receipts.public)
        return sign_keyset(Keyset(version, "demo", (epoch,), (receipt,), ()), self.root)

    def enrol(self, folder: Path) -> Keyring:
        """Write the device's key files and return its keyring, loaded."""
        write_keys(folder, self)
        keyring = Keyring("demo", folder / "sign.key", folder / "root.pub", folder / "kept.cose")
        keyring.load(folder / "keyset.cose")
        return keyring

    def take(self, sealed: bytes) -> BatchHeader:
        """Verify, follow the chain, open, decode; raises AssertionError if the chain is broken."""
        header = verify(sealed, self.device.public)
        if header.stream != self.stream:
            self.stream, self.upto, self.hash = header.stream, 0, bytes(16)
        assert header.seq == self.upto + 1, (header.seq, self.upto)
        assert header.prev == self.hash
        self.upto, self.hash = header.seq, chain_hash(sealed)
        plaintext = open_sealed(sealed, self.epoch_private)
        if header.content == EVENTS:
            self.events += decode_events(plaintext)
        elif header.content == LOG:
            self.log.append(decode_log(plaintext))
        else:
            self._learn(decode_block(plaintext, self.rosters.get))
        return header

    def receipt(self, *nacks: Nack, upto: int | None = None, hash_: bytes | None = None) -> Receipt:
        return Receipt(
            "demo",
            "t07",
            self.stream,
            self.upto if upto is None else upto,
            hash_ or self.hash,
            T0,
            1,
            1,
            nacks,
        )

    def signed(self, receipt: Receipt) -> bytes:
        return sign_receipt(receipt, self.receipts)

    def _learn(self, block: Block) -> None:
        if block.carries_roster:
            self.rosters[block.roster.hash] = block.roster
        for row, (end, meter) in enumerate(zip(block.end_utc_s, block.meter, strict=True)):
            entry: RosterEntry = block.roster.entries[meter]
            values = tuple(column[row] for column in block.columns)
            self.values[entry.meter, entry.serial, end] = values
            self.rows += 1


def write_keys(folder: Path, central: Central) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sign.key").write_text(central.seed.hex())
    (folder / "sign.key").chmod(0o600)
    (folder / "root.pub").write_text(central.root.public.hex())
    (folder / "keyset.cose").write_bytes(central.keyset())


def epoch(name: str, serial: str = "A1", schema_id: int = 1) -> MeterEpoch:
    return MeterEpoch(name, serial, schema_id, 0b111111 if schema_id == 1 else 0xFFFF)


def row(end: int, wh: int, flags: int = 2) -> tuple[int, tuple[int, ...]]:
    return end, (wh, 0, 0, 2300, 100, flags)


def edge(end: int, *meters: str, line: str = "l1") -> EdgeRows:
    rows = [MeterRows(epoch(name), [row(end, end % 100_000 + k)]) for k, name in enumerate(meters)]
    return EdgeRows(line, end, rows)


def settings_of(
    folder: Path,
    lines: tuple[str, ...] = ("l1",),
    batch_intervals: int = 1,
    quota_mib: int = 64,
    gather_s: float = 0.0,
) -> WriterSettings:
    return WriterSettings(
        data_dir=folder,
        common_name="demo-t07",
        tenant="demo",
        lines=lines,
        interval_s=S,
        batch_intervals=batch_intervals,
        recall_days=7,
        history_days=7,
        quota_mib=quota_mib,
        gather_s=gather_s,
    )


def start_writer(
    folder: Path,
    keyring: Keyring,
    clock: Clock,
    *,
    lines: tuple[str, ...] = ("l1",),
    batch_intervals: int = 1,
    quota_mib: int = 64,
    counters: Counters | None = None,
    gather_s: float = 0.0,
    wait: bool = True,
    device_log: DeviceLog | None = None,
    trust: Trust | None = None,
) -> Writer:
    settings = settings_of(folder, lines, batch_intervals, quota_mib, gather_s)
    writer = Writer(
        settings,
        clock=clock,
        keyring=keyring,
        boot=os.urandom(8),
        counters=counters or Counters(),
        faults=Faults(),
        changed=lambda: None,
        device_log=device_log,
        trust=trust,
    )
    writer.start()
    if wait:
        writer.wait_ready()
    return writer


def sealed_of(writer: Writer, after: int = 0, limit: int = 10_000) -> list[bytes]:
    """What the outbox holds of the present stream, once all that was handed over is in."""
    done = threading.Event()
    found: list[tuple[int, bytes]] = []

    def deliver(_: bytes, batches: list[tuple[int, bytes]]) -> None:
        found.extend(batches)
        done.set()

    writer.fetch(writer.view.stream, after, limit, deliver)
    assert done.wait(10)
    return [sealed for _, sealed in found]
