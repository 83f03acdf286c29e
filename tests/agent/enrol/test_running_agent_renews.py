"""A running agent gets new keys and goes on delivering, signed with them, through a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from broker_bench import Broker
from est_bench import EstServer, config_of, serving
from paho.mqtt.enums import CallbackAPIVersion

from agent.cli import main
from agent.enrol import issue
from agent.publish import tls_context
from agent.run import Agent
from agent.status_file import read_status
from central.keys.certificates import Authority
from wire.envelope import read_header
from wire.topics import up

DAY_S = 86_400.0


class Listener:
    """Central's client: keeps the key ids of the batches that it saw, in their order."""

    def __init__(self, broker: Broker) -> None:
        self.kids: list[bytes] = []
        self.changed = threading.Condition()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "central", protocol=mqtt.MQTTv5)
        client.tls_set_context(tls_context(broker.config("central")))
        client.on_connect = lambda c, *_: c.subscribe(up("demo-t01"), qos=1)
        client.on_message = self._on_message
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        self.client = client

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        with self.changed:
            self.kids.append(read_header(message.payload).kid)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, 20)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def server(broker: Broker, tmp_path: Path) -> Iterator[EstServer]:
    (tmp_path / "server").mkdir()
    pems = (broker.folder / "ca.key").read_bytes(), (broker.folder / "ca.crt").read_bytes()
    with serving(tmp_path / "server", authority=Authority.load(*pems)) as server:
        server.broker = ("127.0.0.1", broker.port)
        yield server


def test_a_running_agent_signs_with_its_new_key_as_soon_as_it_has_the_certificate(
    broker: Broker, server: EstServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    # As if it had been enrolled 22 days ago: a renewal is due when the agent starts.
    server.clock.utc_s -= 22 * DAY_S
    issue.enrol(config, server.token, server.server, time.time)
    server.clock.utc_s += 22 * DAY_S
    listener = Listener(broker)
    agent = Agent(config)
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        assert listener.wait(lambda: server.kids[-1] in listener.kids and len(server.kids) == 2)
        assert listener.kids[-1] == server.kids[1]
        assert agent.state()["certificate_ends_utc_s"] > time.time() + 29 * DAY_S
        assert {"renewal", "certificate", "broker"}.isdisjoint(agent.faults.present())
    finally:
        agent.stop()
        thread.join()
        listener.client.disconnect()
        listener.client.loop_stop()
    status = read_status(config.data_dir)
    assert status is not None
    assert status["counters"]["certificate_ends_utc_seconds"] > time.time() + 29 * DAY_S
    main(["status", "--config", str(config.places.path)])
    assert "certificate holds until" in capsys.readouterr().out
    # And it starts with them.
    assert Agent(config).state()["certificate_ends_utc_s"] == status["certificate_ends_utc_s"]


def test_an_agent_that_is_not_enrolled_says_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    assert main(["run", "--config", str(config.places.path)]) == 2
    assert "loadscape-agent enrol" in capsys.readouterr().err
