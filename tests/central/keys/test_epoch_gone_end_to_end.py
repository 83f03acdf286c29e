"""A concentrator comes back after its batches' epoch key was destroyed: nothing is lost.

The agent's custody with its store, the collector's reception with its journal
and the loader with its lake, without the broker between them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.store.custody import Custody
from agent.store.outline import WriterSettings
from agent.store.rows import MeterEpoch, MeterRows
from central.cli import main
from central.collect.fleet import Fleet
from central.collect.journal import SqliteJournal
from central.collect.reception import Message, Reception
from central.config import Config, load_config
from central.keys.authority import init_authority, rotate_epoch
from central.keys.destruction import destroy, due
from central.keys.device import issue_device
from central.keys.place import KeyPlace
from central.keys.record import DAY_S, EPOCH, private_file, read_records
from central.metrics import MetricSet
from central.readings.lake import DeltaLake
from central.readings.ledger import LoaderProgress
from central.readings.loader import Loader
from central.readings.query import Readings
from wire import topics
from wire.clock import SharedClock, set_shared_clock
from wire.cose import read_sign1
from wire.envelope import read_header
from wire.keyset import KEYSET_CONTENT
from wire.receipt import verify_receipt

S = 900
T0 = 1_767_225_600
CN = "demo-t07"


class Centre:
    """Collector and loader as they are, in this process."""

    def __init__(self, root: Path, clock: SharedClock) -> None:
        self.place = KeyPlace(root / "keys")
        toml = root / "central.toml"
        toml.write_text(
            'tenant = "demo"\ndata_dir = "data"\nclock_file = "clock"\n[keys]\ndir = "keys"\n'
            '[broker]\nhost = "localhost"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
        )
        self.config: Config = load_config(toml)
        today = datetime.fromtimestamp(clock.now_utc_s(), UTC).date()
        self.reception = Reception(
            "demo", self.place, SqliteJournal(self.config.journal_dir, today),
            Fleet(self.config.journal_dir), LoaderProgress(self.config.loader_file), clock,
            MetricSet(),
        )  # fmt: skip
        self.metrics = MetricSet()
        self.loader = Loader(self.config, self.metrics, lambda days: True)

    def ends(self) -> list[int]:
        """Ends of all intervals in the lake, each as often as it is there."""
        files = [file.path for file in DeltaLake(self.config.lake_dir).files()]
        if not files:
            return []
        series = Readings(self.config).meter_series("m1", T0, T0 + 400 * DAY_S).to_pylist()
        return [row["end_utc_s"] for row in series]


@dataclass
class Agent:
    """A concentrator's custody and keyring, with a network that one turns on by `exchange`."""

    root: Path
    clock: SharedClock
    boot: bytes = field(default_factory=lambda: os.urandom(8))
    sent: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        bundle = self.root / "t07"
        kept = self.root / "kept.cose"
        self.keyring = Keyring("demo", bundle / "sign.key", bundle / "root.pub", kept)
        self.keyring.load(bundle / "keyset.cose")
        self.clock_s = 0.0
        data = self.root / "agent"
        data.mkdir()
        self.custody = Custody(
            WriterSettings(data, CN, "demo", ("l1",), S, 1, 10, 7, 64),
            clock=self.clock, keyring=self.keyring, boot=self.boot,
            counters=Counters(), faults=Faults(), monotonic_s=lambda: self.clock_s,
        )  # fmt: skip

    def read(self, end_utc_s: int) -> None:
        epoch = MeterEpoch("m1", "A1", 1, 0b111111)
        row = (end_utc_s, (end_utc_s - T0, 0, 0, 2300, 100, 2))
        self.custody.commit([MeterRows(epoch, [row])], cut=True)

    def exchange(self, centre: Centre) -> None:
        """Say that we are here, send all that has no receipt, do what the answers say."""
        view = self.custody.view()
        state = {
            "online": True, "boot": self.boot.hex(), "stream": view.stream.hex(),
            "next": view.last_seq + 1, "head": view.head_hash.hex(),
            "keyset": self.keyring.version,
        }  # fmt: skip
        waiting = self.custody.sealed_after(view.stream, view.receipted_upto, 100)
        batches = [Message(topics.up(CN), sealed) for _, sealed in waiting]
        self.sent += [message.payload for message in batches]
        born = Message(f"loadscape/1/state/{CN}", json.dumps(state).encode())
        answers = centre.reception.take([born]) + centre.reception.take(batches)
        centre.loader.step()
        answers += centre.reception.look_around()
        for answer in answers:
            if read_sign1(answer.payload).content == KEYSET_CONTENT:
                self.keyring.accept(answer.payload)
            else:
                self.custody.honour(verify_receipt(answer.payload, self.keyring.keyset))
        self.clock_s += 60.0
        self.custody.cut_due()


@pytest.fixture
def agent_and_centre(tmp_path: Path) -> Iterator[tuple[Agent, Centre]]:
    set_shared_clock(tmp_path / "clock", T0 + 10, 1.0)
    clock = SharedClock(tmp_path / "clock")
    init_authority(tmp_path / "keys", "demo", broker_hosts=["b"], now_utc_s=T0)
    issue_device(tmp_path / "keys", "t07", tmp_path / "t07")
    centre, agent = Centre(tmp_path, clock), Agent(tmp_path, clock)
    yield agent, centre
    agent.custody.close()
    centre.loader.close()


def epoch_kids(sealed: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(read_header(message).epoch_kid for message in sealed))


def test_what_was_sealed_to_a_destroyed_epoch_is_cut_again_and_arrives_once(
    agent_and_centre: tuple[Agent, Centre], tmp_path: Path
) -> None:
    agent, centre = agent_and_centre
    for k in range(4):
        agent.read(T0 + k * S)
    old_stream = agent.custody.view().stream
    (first,) = read_records(centre.place, EPOCH)
    # Four months without a connection; at the centre, epochs come and go.
    rotate_epoch(centre.place.directory, now_utc_s=T0 + 120 * DAY_S)
    set_shared_clock(tmp_path / "clock", T0 + 121 * DAY_S, 1.0)
    while agent.clock.now_utc_s() < T0 + 121 * DAY_S:
        time.sleep(0.005)
    destroy(centre.place, EPOCH, due(centre.place, EPOCH, T0 + 121 * DAY_S), T0 + 121 * DAY_S)
    assert not private_file(centre.place, EPOCH, first.kid).exists()

    for _ in range(4):
        agent.exchange(centre)

    assert centre.metrics.value("loadscape_loader_unopened_total", reason="epoch_gone") == 4
    assert sorted(centre.ends()) == [T0 + k * S for k in range(4)]
    assert agent.custody.view().waiting == 0
    assert agent.custody.view().stream != old_stream
    assert epoch_kids(agent.sent)[0] == first.kid
    assert len(epoch_kids(agent.sent)) == 2
    assert agent.keyring.version > 1
    agent.read(T0 + 120 * DAY_S)
    agent.exchange(centre)
    assert len(centre.ends()) == 5


def test_a_lost_epoch_key_costs_no_reading_once_it_is_given_up_and_another_in_force(
    agent_and_centre: tuple[Agent, Centre],
) -> None:
    agent, centre = agent_and_centre
    (lost,) = read_records(centre.place, EPOCH)
    private_file(centre.place, EPOCH, lost.kid).unlink()
    for k in range(3):
        agent.read(T0 + k * S)
    agent.exchange(centre)
    assert centre.ends() == []
    assert main(["keys", "destroy", "--dir", str(centre.place.directory), "--lost",
                 lost.kid.hex(), "--clock-file", str(agent.root / "clock")]) == 0  # fmt: skip
    for _ in range(4):
        agent.exchange(centre)
        agent.clock_s += 86_400.0
    assert sorted(centre.ends()) == [T0 + k * S for k in range(3)]
    assert agent.custody.view().waiting == 0
    assert lost.kid in agent.keyring.keyset.revoked


def test_what_waited_for_a_key_that_was_away_is_opened_when_the_loader_starts_with_it(
    agent_and_centre: tuple[Agent, Centre], tmp_path: Path
) -> None:
    agent, centre = agent_and_centre
    (record,) = read_records(centre.place, EPOCH)
    path = private_file(centre.place, EPOCH, record.kid)
    away = path.rename(tmp_path / "away.key")
    agent.read(T0)
    agent.exchange(centre)
    assert centre.ends() == []
    away.rename(path)
    assert centre.loader.try_sealed_again() == 1
    assert centre.ends() == [T0]
