"""An agent without serial lines: the real writer, store and connection, rows from whoever asks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.config import BrokerConfig
from agent.health import ALARMS, Counters, Faults
from agent.keyring import Keyring
from agent.publish import Publisher
from agent.run import KEPT_KEYSET_FILE
from agent.store.outline import WriterSettings
from agent.store.rows import EdgeRows, MeterRows
from agent.store.writer import Writer
from central.keys.device import DeviceBundle
from wire.clock import SystemClock
from wire.topics import common_name

INTERVAL_S: Final = 900
_TICK_S: Final = 0.02


@dataclass
class BareAgent:
    """Hand it closed intervals; it cuts, seals, sends and keeps them as an agent does."""

    device: str
    broker: BrokerConfig
    writer: Writer
    publisher: Publisher
    counters: Counters
    faults: Faults
    keyring: Keyring
    _ended: threading.Event = field(default_factory=threading.Event)

    def close_interval(self, end_utc_s: int, rows: Sequence[MeterRows]) -> None:
        """An edge of its only line."""
        self.writer.hand_over(EdgeRows("l1", end_utc_s, list(rows)))

    def wait(self, done: Callable[[], bool], patience_s: float = 20.0) -> bool:
        """Whether it comes true in time; broker and collector are processes of their own."""
        until_s = time.monotonic() + patience_s
        while not done():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.01)
        return True

    def tick(self) -> None:
        """The main thread's part, until the end."""
        while not self._ended.wait(_TICK_S):
            self.publisher.tick()

    def end(self) -> None:
        """No tick comes after this."""
        self._ended.set()


@contextmanager
def bare_agent(
    data_dir: Path,
    tenant: str,
    device: str,
    bundle: DeviceBundle,
    broker: BrokerConfig,
    *,
    batch_intervals: int = 1,
    state: Callable[[], dict[str, Any]] | None = None,
) -> Iterator[BareAgent]:
    """Running until the block ends; `state` is what it tells of itself."""
    boot, counters, faults = os.urandom(8), Counters(), Faults()
    data_dir.mkdir(parents=True, exist_ok=True)
    keyring = Keyring(tenant, bundle.sign_key, bundle.root_public, data_dir / KEPT_KEYSET_FILE)
    keyring.load(bundle.keyset)
    writer = Writer(
        _settings(data_dir, tenant, device, batch_intervals),
        clock=SystemClock(),
        keyring=keyring,
        boot=boot,
        counters=counters,
        faults=faults,
        changed=lambda: None,
    )
    publisher = Publisher(
        broker,
        tenant,
        device,
        boot=boot,
        keyring=keyring,
        writer=writer,
        counters=counters,
        faults=faults,
        state=state or partial(_birth, boot, writer, keyring, faults),
        wake=lambda: None,
    )
    agent = BareAgent(device, broker, writer, publisher, counters, faults, keyring)
    ticker = threading.Thread(target=agent.tick)
    writer.start()
    writer.wait_ready()
    publisher.start()
    ticker.start()
    try:
        yield agent
    finally:
        agent.end()
        ticker.join()
        publisher.stop()
        writer.finish(10)


def _settings(data_dir: Path, tenant: str, device: str, batch_intervals: int) -> WriterSettings:
    return WriterSettings(
        data_dir=data_dir,
        common_name=common_name(tenant, device),
        tenant=tenant,
        lines=("l1",),
        interval_s=INTERVAL_S,
        batch_intervals=batch_intervals,
        recall_days=7,
        history_days=7,
        quota_mib=64,
    )


def _birth(boot: bytes, writer: Writer, keyring: Keyring, faults: Faults) -> dict[str, Any]:
    """What central needs of an agent's state to answer it."""
    view = writer.view
    return {
        "online": True,
        "boot": boot.hex(),
        "stream": view.stream.hex(),
        "next": view.last_seq + 1,
        "head": view.head_hash.hex(),
        "keyset": keyring.version,
        "outbox": view.waiting,
        "alarms": [key for key in ALARMS if key in faults.present()],
    }
