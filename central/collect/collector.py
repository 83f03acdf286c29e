"""The collector's connection: MQTT 5 over TLS 1.3, acknowledged only after the commit.

Messages wait in a queue; groups of up to 100, or what came within a short
time, are handed to the reception and acknowledged when it returns. The
process ends with an error when the journal cannot be written: the broker and
the devices keep what was not acknowledged.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from central.collect.fleet import Fleet
from central.collect.journal import SqliteJournal
from central.collect.reception import Answer, Message, Reception
from central.config import Config
from central.keys.place import KeyPlace, collector_name
from central.metrics import MetricSet
from central.readings.ledger import LoaderProgress

log = logging.getLogger("central.collect")

GROUP_BATCHES = 100
GROUP_S = 0.03
_SESSION_S = 7 * 86_400
_KEEPALIVE_S = 60
_LOOK_AROUND_S = 1.0
_SUBSCRIPTIONS = [("loadscape/1/up/+/+", 1), ("loadscape/1/state/+", 1)]

CONNECTED = "loadscape_collector_connected"


class CollectorRefused(Exception):
    """The broker does not let the collector in or does not let it subscribe."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    connection: int
    message: Message
    mid: int
    qos: int


class Collector:
    """One collector process. `run` blocks until `stop` is set."""

    def __init__(self, config: Config, metrics: MetricSet) -> None:
        """Opens journal and keys; raises JournalError or KeysError."""
        clock = config.clock()
        today = datetime.fromtimestamp(clock.now_utc_s(), UTC).date()
        self._journal = SqliteJournal(config.journal_dir, today)
        self._fleet = Fleet(config.journal_dir)
        self._reception = Reception(
            config.tenant,
            KeyPlace(config.keys_dir),
            self._journal,
            self._fleet,
            LoaderProgress(config.loader_file),
            clock,
            metrics,
        )
        self._metrics = metrics
        metrics.gauge(CONNECTED, "1 while connected to the broker.", {})
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._connection = 0
        self._refused: str | None = None
        self._broker = config.broker
        self._client = self._make_client(config)

    def run(self, stop: threading.Event) -> None:
        """Collect until `stop`; raises CollectorRefused, sqlite3.Error, OSError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_S
        properties.ReceiveMaximum = GROUP_BATCHES
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=_KEEPALIVE_S,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()
        try:
            looked_s = time.monotonic()
            while not stop.is_set():
                if self._refused:
                    raise CollectorRefused(self._refused)
                self._take(self._gather())
                # Some of it is told once only: not while nobody listens.
                due = time.monotonic() - looked_s >= _LOOK_AROUND_S
                if due and self._client.is_connected():
                    looked_s = time.monotonic()
                    self._send(self._reception.look_around())
        finally:
            connected = self._client.is_connected()
            self._client.disconnect()
            if connected:
                self._client.loop_stop()
            # Else paho's thread sleeps until its next attempt; it is a daemon and must not
            # keep the collector from ending.
            self._fleet.close()
            self._journal.close()

    def _gather(self) -> list[_Arrival]:
        group: list[_Arrival] = []
        wait_until_s = time.monotonic() + 0.2
        while len(group) < GROUP_BATCHES:
            left_s = wait_until_s - time.monotonic()
            try:
                group.append(self._arrivals.get(timeout=max(0.0, left_s)))
            except queue.Empty:
                break
            if len(group) == 1:
                wait_until_s = time.monotonic() + GROUP_S
        return group

    def _take(self, group: list[_Arrival]) -> None:
        if not group:
            return
        answers = self._reception.take([arrival.message for arrival in group])
        for arrival in group:
            # A message id means another message on another connection.
            if arrival.connection == self._connection:
                self._client.ack(arrival.mid, arrival.qos)
        self._send(answers)

    def _send(self, answers: list[Answer]) -> None:
        if not self._client.is_connected():
            return  # devices ask again: by sending again, or with their next birth
        for answer in answers:
            self._client.publish(answer.topic, answer.payload, qos=1)

    def _make_client(self, config: Config) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=collector_name(config.tenant),
            protocol=MQTTv5,
            manual_ack=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(config.broker.ca_file)
        context.load_cert_chain(config.broker.cert_file, config.broker.key_file)
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("the broker refuses the connection: %s", reason)
            return
        self._connection += 1
        self._metrics.set(CONNECTED, 1)
        log.info("connected to %s:%d", self._broker.host, self._broker.port)
        client.subscribe(_SUBSCRIPTIONS)

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        log.warning("no connection to %s:%d; trying again", self._broker.host, self._broker.port)

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._connection += 1
        self._metrics.set(CONNECTED, 0)
        if reason.is_failure:
            log.warning("connection to the broker lost: %s; trying again", reason)

    def _on_subscribe(
        self,
        client: Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = (
                f"the broker refuses a subscription ({', '.join(map(str, reasons))}); "
                "write its configuration anew with loadscape-central broker-config"
            )

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self._arrivals.put(
            _Arrival(
                self._connection,
                Message(message.topic, bytes(message.payload)),
                message.mid,
                message.qos,
            )
        )
