"""The broker as we configure it lets in whom it must, and nobody says or hears another's."""

from __future__ import annotations

import os
import queue
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from central.collect.broker import write_broker_config
from central.keys.authority import init_authority
from central.keys.device import issue_device, revoke_device
from central.keys.place import KeyPlace
from hil.site.ports import free_port, is_free
from wire import topics

PATIENCE_S = 10.0
NOT_AUTHORISED, NOBODY_LISTENS = 0x87, 0x10
CONNECT = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03any"
"""MQTT 5, clean start; the broker takes the name from the certificate."""


@dataclass
class Identity:
    """What a client shows."""

    authority: Path
    certificate: Path | None
    key: Path | None

    def context(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority)
        context.minimum_version = context.maximum_version = version
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass
class Broker:
    """A real Mosquitto with the configuration that `loadscape-central broker-config` writes."""

    folder: Path
    place: KeyPlace
    port: int
    process: subprocess.Popen[bytes]

    def bundle(self, name: str) -> Identity:
        folder = self.folder / name
        if not folder.exists():
            issue_device(self.place.directory, name, folder)
        return Identity(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")

    @property
    def collector(self) -> Identity:
        place = self.place
        return Identity(
            place.authority_certificate, place.collector_certificate, place.collector_key
        )

    @property
    def log(self) -> str:
        return (self.folder / "broker.log").read_text()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    place = init_authority(
        folder / "keys", "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time()
    )
    conf = write_broker_config(place.directory, port := free_port(), folder / "broker")
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(["mosquitto", "-c", str(conf)], stdout=log, stderr=log)
    until_s = time.monotonic() + PATIENCE_S
    while is_free(port):
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.02)  # nothing announces that a port is open
    yield Broker(folder, place, port, process)
    process.kill()
    process.wait()


@dataclass
class Client:
    """An MQTT client that keeps what happens to it."""

    client: mqtt.Client
    connected: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    ended: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    answers: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)
    heard: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    subscribed: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def say(self, topic: str, payload: bytes = b"x") -> int:
        """Publish; the reason code of the answer."""
        self.client.publish(topic, payload, qos=1)
        return self.answers.get(timeout=PATIENCE_S)

    def listen(self, *filters: str) -> None:
        self.client.subscribe([(name, 1) for name in filters])
        self.subscribed.get(timeout=PATIENCE_S)

    def all_heard(self, last: str) -> list[str]:
        """Topics up to the one that was sent last."""
        topics_heard = []
        while not topics_heard or topics_heard[-1] != last:
            topics_heard.append(self.heard.get(timeout=PATIENCE_S))
        return topics_heard


@pytest.fixture
def connect(broker: Broker) -> Iterator[Any]:
    with ExitStack() as stack:

        def begin(
            identity: Identity,
            client_id: str,
            protocol: mqtt.MQTTProtocolVersion = mqtt.MQTTv5,
        ) -> Client:
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
            kept = Client(client)
            client.tls_set_context(identity.context())
            client.on_connect = lambda _c, _u, _f, reason, _p: kept.connected.put(reason)
            client.on_disconnect = lambda _c, _u, _f, reason, _p: kept.ended.put(reason)
            client.on_publish = lambda _c, _u, _m, reason, _p: kept.answers.put(reason.value)
            client.on_subscribe = lambda _c, _u, _m, reasons, _p: kept.subscribed.put(reasons)
            client.on_message = lambda _c, _u, message: kept.heard.put(message.topic)
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            stack.callback(client.loop_stop)
            stack.callback(client.disconnect)
            assert not kept.connected.get(timeout=PATIENCE_S).is_failure
            return kept

        yield begin


def refused(broker: Broker, context: ssl.SSLContext) -> bool:
    """Whether TLS with the broker fails before anything of MQTT was said."""
    with socket.create_connection(("127.0.0.1", broker.port), PATIENCE_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                # Under TLS 1.3 the client is through before the server has judged its certificate.
                secured.sendall(CONNECT)
                return secured.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True


def issued(broker: Broker, name: str, first: datetime, last: datetime) -> Identity:
    """A certificate of our authority for a span of our choice."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate(broker.place.authority_certificate.read_bytes())
    signer = serialization.load_pem_private_key(broker.place.authority_key.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .sign(signer, hashes.SHA256())
    )
    files = (broker.folder / f"{name}.crt", broker.folder / f"{name}.key")
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Identity(broker.place.authority_certificate, *files)


# --- who gets in


def test_a_device_of_ours_gets_in(broker: Broker) -> None:
    assert not refused(broker, broker.bundle("t01").context())
    now = datetime.now(UTC)
    valid = issued(broker, "demo-valid", now - timedelta(days=1), now + timedelta(days=1))
    assert not refused(broker, valid.context())


def test_without_a_certificate_nobody_gets_in(broker: Broker) -> None:
    ours = broker.bundle("t01")
    assert refused(broker, Identity(ours.authority, None, None).context())


def test_a_certificate_of_another_authority_does_not_get_in(broker: Broker, tmp_path: Path) -> None:
    other = init_authority(tmp_path, "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time())
    issue_device(other.directory, "t01", tmp_path / "t01")
    theirs = tmp_path / "t01"
    ours = broker.place.authority_certificate
    assert refused(broker, Identity(ours, theirs / "tls.crt", theirs / "tls.key").context())


def test_a_broker_of_another_authority_is_not_believed(broker: Broker, tmp_path: Path) -> None:
    other = init_authority(tmp_path, "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time())
    ours = broker.bundle("t01")
    context = Identity(other.authority_certificate, ours.certificate, ours.key).context()
    with (
        socket.create_connection(("127.0.0.1", broker.port), PATIENCE_S) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("days", [(-40, -10), (1, 31)], ids=["ended", "to come"])
def test_a_certificate_outside_its_span_does_not_get_in(
    broker: Broker, days: tuple[int, int]
) -> None:
    first, last = (datetime.now(UTC) + timedelta(days=count) for count in days)
    assert refused(broker, issued(broker, "demo-old", first, last).context())


def test_tls_1_2_does_not_get_in(broker: Broker) -> None:
    assert refused(broker, broker.bundle("t01").context(ssl.TLSVersion.TLSv1_2))


def test_a_revoked_device_does_not_get_in_again(broker: Broker) -> None:
    bundle = broker.bundle("t66")
    assert not refused(broker, bundle.context())
    revoke_device(broker.place.directory, "t66")
    broker.process.send_signal(signal.SIGHUP)
    until_s = time.monotonic() + PATIENCE_S
    while not refused(broker, bundle.context()):
        assert time.monotonic() < until_s
    assert not refused(broker, broker.bundle("t01").context())


# --- who may say and hear what


def test_another_devices_topic_is_refused_and_reaches_nobody(broker: Broker, connect: Any) -> None:
    collector = connect(broker.collector, "demo-collector")
    collector.listen("loadscape/1/up/+/+", "loadscape/1/state/+")
    device = connect(broker.bundle("t02"), "demo-t02")
    own = topics.up("demo-t02")
    for spoofed in (
        topics.up("demo-t01"),
        topics.state("demo-t01"),
        topics.down("demo-t01"),
        topics.down("demo-t02"),
        "loadscape/1/anything",
    ):
        assert device.say(spoofed) == NOT_AUTHORISED, spoofed
    assert device.say(own) == 0
    assert collector.all_heard(own) == [own]


def test_an_older_mqtt_gains_nothing_by_not_hearing_of_the_refusal(
    broker: Broker, connect: Any
) -> None:
    collector = connect(broker.collector, "demo-collector")
    collector.listen("loadscape/1/up/+/+")
    device = connect(broker.bundle("t02"), "demo-t02", mqtt.MQTTv311)
    device.client.publish(topics.up("demo-t01"), b"x", qos=1)
    own = topics.up("demo-t02")
    device.client.publish(own, b"x", qos=1)
    assert collector.all_heard(own) == [own]


def test_a_device_that_subscribes_to_everything_hears_only_its_own(
    broker: Broker, connect: Any
) -> None:
    nosy = connect(broker.bundle("t02"), "demo-t02")
    nosy.listen("#", "loadscape/1/up/+/+", "loadscape/1/down/demo-t01", "$SYS/#")
    other, collector = (
        connect(broker.bundle("t01"), "demo-t01"),
        connect(broker.collector, "demo-collector"),
    )
    assert other.say(topics.up("demo-t01")) in (0, NOBODY_LISTENS)
    assert other.say(topics.state("demo-t01")) in (0, NOBODY_LISTENS)
    collector.say(topics.down("demo-t01"))
    own = topics.down("demo-t02")
    collector.say(own)
    assert set(nosy.all_heard(own)) == {own}


def test_another_devices_client_id_takes_nobodys_connection(broker: Broker, connect: Any) -> None:
    first = connect(broker.bundle("t01"), "demo-t01")
    connect(broker.bundle("t02"), "demo-t01")
    assert first.say(topics.up("demo-t01")) in (0, NOBODY_LISTENS)
    assert first.ended.empty()


def test_a_message_larger_than_a_batch_may_be_ends_the_connection(
    broker: Broker, connect: Any
) -> None:
    device = connect(broker.bundle("t03"), "demo-t03")
    assert device.say(topics.up("demo-t03"), bytes(250_000)) in (0, NOBODY_LISTENS)
    with suppress(ssl.SSLError, OSError):
        device.client.publish(topics.up("demo-t03"), os.urandom(262_145), qos=1)
    assert device.ended.get(timeout=PATIENCE_S).is_failure


def test_the_broker_has_nothing_to_warn_of(broker: Broker) -> None:
    assert "Warning" not in broker.log.replace("Warning: Mosquitto should not be run as root", "")
