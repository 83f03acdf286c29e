from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from agent_bench import T0, Central, S, SetClock, edge, start_writer
from broker_bench import Broker, issue
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from agent.backoff import Backoff
from agent.health import ALARMS, Counters, Faults
from agent.publish import Publisher, tls_context
from hil.bench.metered_link import MeteredLink
from hil.site.ports import free_port
from wire import topics

CN = "demo-t07"


class Collector:
    """Central's client: takes batches, keeps what it saw, answers with receipts if told to."""

    def __init__(self, broker: Broker, central: Central) -> None:
        self.central = central
        self.seen: list[bytes] = []
        self.states: list[dict[str, Any]] = []
        self.answering = True
        self.changed = threading.Condition()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="central", protocol=mqtt.MQTTv5
        )
        self.client.tls_set_context(tls_context(broker.config("central")))
        self.client.on_connect = lambda c, *_: c.subscribe("loadscape/1/#", qos=1)
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(0.1, 0.3)
        self.client.connect_async("127.0.0.1", broker.port, clean_start=False)
        self.client.loop_start()

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        with self.changed:
            if message.topic == topics.up(CN):
                self.seen.append(message.payload)
                with contextlib.suppress(AssertionError):  # a repetition; the chain stands
                    self.central.take(message.payload)
                if self.answering:
                    self.answer()
            elif message.topic == topics.state(CN):
                self.states.append(json.loads(message.payload))
            self.changed.notify_all()

    def answer(self, data: bytes | None = None) -> None:
        signed = data or self.central.signed(self.central.receipt())
        self.client.publish(topics.down(CN), signed, qos=1)

    def wait(self, condition: Callable[[], bool], patience_s: float = 20) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, patience_s)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Site:
    """An agent's writer and publisher, its broker and central."""

    def __init__(
        self,
        folder: Path,
        *,
        started: bool = True,
        backoff: Backoff | None = None,
        link_port: int | None = None,
    ) -> None:
        self.broker = Broker(folder / "broker")
        if started:
            self.broker.start()
        self.central = Central()
        self.counters = Counters()
        keyring = self.central.enrol(folder)
        self.keyring = keyring
        self.writer = start_writer(
            folder / "data", keyring, SetClock(T0 + 9 * S), counters=self.counters
        )
        self.boot = os.urandom(8)
        self.faults = Faults()
        config = self.broker.config(CN)
        self.publisher = Publisher(
            config if link_port is None else replace(config, port=link_port),
            "demo",
            "t07",
            boot=self.boot,
            keyring=keyring,
            writer=self.writer,
            counters=self.counters,
            faults=self.faults,
            state=self.state,
            wake=lambda: None,
            backoff=backoff,
        )
        if started:
            self.publisher.start()
        self.collector = Collector(self.broker, self.central)
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(0.05):
            self.publisher.tick()

    def state(self) -> dict[str, Any]:
        return {
            "online": True,
            "boot": self.boot.hex(),
            "next": self.writer.view.last_seq + 1,
            "alarms": [key for key in ALARMS if key in self.faults.present()],
            "receipt_age_s": int(time.monotonic()),
        }

    def until(self, condition: Callable[[], bool], patience_s: float = 20) -> bool:
        """Whether `condition` comes true in time; looks whenever something may have changed."""
        until_s = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > until_s:
                return False
            self.collector.wait(condition, 0.05)
        return True

    def close(self) -> None:
        self._stop.set()
        self._ticker.join()
        self.publisher.stop()
        self.collector.stop()
        self.writer.finish(5)
        self.broker.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_batches_go_out_in_order_and_leave_the_outbox_on_a_receipt_only(site: Site) -> None:
    site.collector.answering = False
    for k in range(5):
        site.writer.hand_over(edge(T0 + k * S, "m1", "m2"))
    assert site.until(lambda: site.central.upto == 5)
    assert site.writer.view.waiting == 5

    site.collector.answer()
    assert site.until(lambda: site.writer.view.waiting == 0)
    assert len(site.central.values) == 10


def test_a_forged_receipt_deletes_nothing_and_is_counted(site: Site) -> None:
    site.collector.answering = False
    site.writer.hand_over(edge(T0, "m1"))
    assert site.until(lambda: site.central.upto == 1)
    forged = bytearray(site.central.signed(site.central.receipt()))
    forged[-1] ^= 1
    site.collector.answer(bytes(forged))
    site.collector.answer(b"no cose at all")
    assert site.until(lambda: site.counters.snapshot()["receipts_refused_total"] == 2)
    assert site.writer.view.waiting == 1
    site.collector.answer()
    assert site.until(lambda: site.writer.view.waiting == 0)


def test_a_killed_broker_costs_no_batch(site: Site) -> None:
    for k in range(3):
        site.writer.hand_over(edge(T0 + k * S, "m1"))
    assert site.until(lambda: site.writer.view.waiting == 0)
    site.broker.stop()
    assert site.until(lambda: not site.publisher.connected)
    for k in range(3, 6):
        site.writer.hand_over(edge(T0 + k * S, "m1"))
    site.broker.start()
    assert site.until(lambda: site.central.upto == 6 and site.writer.view.waiting == 0, 40)
    assert len(site.central.values) == 6


def test_the_retained_state_tells_birth_changes_and_the_end(site: Site) -> None:
    assert site.until(lambda: bool(site.collector.states))
    assert site.collector.states[0]["online"] is True
    site.faults.report("clone", "a copy runs elsewhere")
    assert site.until(lambda: site.collector.states[-1].get("alarms") == ["clone"])
    site.writer.hand_over(edge(T0, "m1"))
    assert site.until(lambda: site.writer.view.waiting == 0)
    count = len(site.collector.states)
    assert not site.collector.wait(lambda: len(site.collector.states) > count, 2.5)
    site._stop.set()
    site.publisher.stop()
    assert site.until(lambda: site.collector.states[-1]["online"] is False)
    assert site.collector.states[-1]["boot"] == site.boot.hex()


def test_a_connection_that_breaks_is_told_by_the_will(tmp_path: Path) -> None:
    site = Site(tmp_path, started=False, link_port=(port := free_port()))
    site.broker.start()
    link = MeteredLink(port, site.broker.port)
    site.publisher.start()
    try:
        assert site.until(lambda: bool(site.collector.states))
        assert site.collector.states[-1]["online"] is True
        link.close()
        assert site.until(lambda: site.collector.states[-1]["online"] is False)
        assert site.collector.states[-1]["boot"] == site.boot.hex()
    finally:
        site.close()


def test_a_newer_keyset_is_taken_and_kept_an_older_refused(site: Site, tmp_path: Path) -> None:
    assert site.until(lambda: bool(site.collector.states))
    site.collector.answer(site.central.keyset(5))
    assert site.until(lambda: site.keyring.version == 5)
    site.collector.answer(site.central.keyset(4))
    assert site.until(lambda: site.counters.snapshot()["receipts_refused_total"] == 1)
    assert site.keyring.version == 5
    assert (tmp_path / "kept.cose").exists()


def test_a_keyset_that_cannot_be_written_is_used_and_a_fault_until_one_can(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "kept.cose.new").mkdir()
    assert site.until(lambda: bool(site.collector.states))
    site.collector.answer(site.central.keyset(5))
    assert site.until(lambda: "keyset_file" in site.faults.present())
    assert site.keyring.version == 5
    (tmp_path / "kept.cose.new").rmdir()
    site.collector.answer(site.central.keyset(6))
    assert site.until(lambda: site.keyring.version == 6 and not site.faults.present())


def issue_anew(broker: Broker, name: str) -> None:
    """Another key and certificate for the device, in the files that it has."""
    pem = (broker.folder / "ca.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = x509.load_pem_x509_certificate((broker.folder / "ca.crt").read_bytes())
    issue(broker.folder, CN, name, (authority, key))


def test_a_new_certificate_is_shown_on_a_new_connection_and_nothing_is_lost(site: Site) -> None:
    site.writer.hand_over(edge(T0, "m1"))
    assert site.until(lambda: site.writer.view.waiting == 0)
    issue_anew(site.broker, CN)
    site.collector.answering = False
    site.writer.hand_over(edge(T0 + S, "m1"))
    assert site.until(lambda: site.central.upto == 2)
    site.publisher.show_new_certificate(site.broker.config(CN))
    assert site.until(lambda: site.publisher.connected)
    site.collector.answering = True
    site.writer.hand_over(edge(T0 + 2 * S, "m1"))
    assert site.until(lambda: site.writer.view.waiting == 0)
    assert len(site.central.values) == 3
    assert site.faults.present() == {}
    assert all(state["online"] for state in site.collector.states)


def test_the_broker_sees_the_new_certificate_and_not_the_one_before(site: Site) -> None:
    assert site.until(lambda: site.publisher.connected and bool(site.collector.states))
    # Another name, so that what the broker saw shows in what it allows.
    issue_anew(site.broker, "demo-t08")
    site.publisher.show_new_certificate(site.broker.config(CN))
    assert site.until(lambda: site.counters.snapshot()["puback_refused_total"] > 0)


def test_a_new_certificate_waits_for_a_broker_that_is_away(site: Site) -> None:
    assert site.until(lambda: site.publisher.connected)
    site.broker.stop()
    assert site.until(lambda: not site.publisher.connected)
    issue_anew(site.broker, CN)
    site.publisher.show_new_certificate(site.broker.config(CN))
    site.broker.start()
    assert site.until(lambda: site.publisher.connected, 40)


def test_a_connection_that_is_taken_over_twice_within_the_hour_is_an_alarm(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, started=False, backoff=Backoff(lambda least, most: least))
    served = threading.Thread(target=take_over_all, args=(site.broker, 2))
    served.start()
    site.publisher.start()
    try:
        assert site.until(lambda: "clone" in site.faults.present())
        assert "revoke" in site.faults.present()["clone"]
    finally:
        served.join()
        site.close()


def take_over_all(broker: Broker, times: int) -> None:
    """Answer as a broker does that lets another client of the same name in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(broker.folder / "broker.crt", broker.folder / "broker.key")
    with socket.create_server(("127.0.0.1", broker.port)) as listening:
        while times:
            connection, _ = listening.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                greeting = tls.recv(4096)
                if CN.encode() not in greeting:
                    continue  # central's own client, which comes by as well
                times -= 1
                assert greeting[0] == 0x10, "CONNECT"
                tls.sendall(bytes.fromhex("2003000000"))  # CONNACK
                tls.sendall(bytes.fromhex("e0018e"))  # DISCONNECT: session taken over
                with contextlib.suppress(OSError):
                    tls.unwrap()
