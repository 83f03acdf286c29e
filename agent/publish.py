"""Carries sealed batches to the broker and central's answers back.

MQTT 5 over TLS 1.3 with a client certificate. What goes out when is decided by
`agent.sending`. PUBACK deletes nothing: only a receipt that central has signed
does. Every message on `down` is verified before it is believed; one that fails
is counted and dropped.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.backoff import Backoff
from agent.config import BrokerConfig
from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.keys.at_rest import read_secret, unit_secret
from agent.sending import WINDOW, Sending
from agent.store.writer import Writer
from agent.takeover import TakeOvers
from agent.telling import Telling, without_names
from agent.tls_time import ClockedContext
from wire import topics

_log = logging.getLogger("loadscape.agent")

KEEPALIVE_S = 1200
"""More than a quarter of an hour, so that a batch per interval needs no ping besides."""
SESSION_EXPIRY_S = 7 * 86_400
_STATE_EXPIRES_S = 86_400
_TAKEN_OVER = 0x8E
_LASTING_S = 60.0
"""A connection that ends sooner counts as another failure: not every broker says that it was
taken over."""


class Publisher:
    """Owns the MQTT client. `tick` is called often from the agent's main thread."""

    def __init__(
        self,
        broker: BrokerConfig,
        tenant: str,
        device: str,
        *,
        boot: bytes,
        keyring: Keyring,
        writer: Writer,
        counters: Counters,
        faults: Faults,
        state: Callable[[], dict[str, Any]],
        wake: Callable[[], None],
        tls_utc_s: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        self._broker = broker
        self._tenant = tenant
        self._device = device
        self._cn = topics.common_name(tenant, device)
        self._boot = boot
        self._keyring = keyring
        self._writer = writer
        self._counters = counters
        self._faults = faults
        self._state = state
        self._wake = wake
        self._lock = threading.Lock()
        self._sending = Sending(partial(counters.add, "batches_repeated_total"))
        self._mids: dict[int, tuple[bytes, int]] = {}
        # paho calls on_publish while it holds the lock that publish() needs: taking ours there
        # as well would lock both threads for ever. So acknowledgements are left here.
        self._acknowledged: deque[int] = deque()
        self._backoff = backoff or Backoff()
        self._lasting_s = float("inf")
        self._takeovers = TakeOvers()
        self._telling = Telling(broker.state_every_s)
        self._last_receipt_utc_s: int | None = None
        self._tls = tls_context(broker, tls_utc_s)
        self._client = self._new_client()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the session."""
        return self._sending.connected

    @property
    def last_receipt_utc_s(self) -> int | None:
        """When central committed what the newest receipt tells of; None before the first."""
        return self._last_receipt_utc_s

    def start(self) -> None:
        """Begin to connect; raises nothing when the broker is away, it is tried again."""
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=_expiring(PacketTypes.CONNECT, "SessionExpiryInterval", SESSION_EXPIRY_S),
        )
        self._client.loop_start()

    def show_new_certificate(self, broker: BrokerConfig) -> None:
        """Connect anew with what lies in the files now; raises OSError or KeyringError.

        Waits a second at most for paho's thread. While there is no connection, the next one
        shows the new certificate; another address of the broker then waits for the next start.
        """
        show_certificate(self._tls, broker)
        if self.connected:
            self._broker = broker
            self._client.disconnect()
            self._client.loop_stop()
            self.start()

    def stop(self) -> None:
        """Say that the agent goes away, and disconnect."""
        if not self.connected:
            # paho's thread may be inside a connect; it is a daemon and ends with the process.
            self._client.disconnect()
            return
        info = self._client.publish(topics.state(self._cn), self._offline(), qos=1, retain=True)
        info.wait_for_publish(0.3)
        self._client.disconnect()
        self._client.loop_stop()

    def tick(self) -> None:
        """Send what may be sent now; publish the state if it changed."""
        now_s = time.monotonic()
        if self._takeovers.over(now_s):
            self._faults.over("clone")
        if not self.connected:
            return
        if now_s >= self._lasting_s:
            self._backoff.lasted()
        self._send_more(now_s)
        self._show_state(now_s)

    # --- sending

    def _send_more(self, now_s: float) -> None:
        with self._lock:
            while self._acknowledged:
                batch = self._mids.pop(self._acknowledged.popleft(), None)
                if batch is not None:
                    self._sending.acknowledged(*batch)
            wanted = self._sending.want(self._writer.view, now_s)
        if wanted is not None:
            self._writer.fetch(wanted.stream, wanted.after, wanted.limit, self._send)

    def _send(self, stream: bytes, batches: list[tuple[int, bytes]]) -> None:
        """Called in the writer's thread with what `fetch` found."""
        with self._lock:
            if not self._sending.fetched(stream):
                return
            for seq, sealed in batches:
                if self._sending.is_due(seq):
                    info = self._client.publish(topics.up(self._cn), sealed, qos=1)
                    if info.rc != mqtt.MQTT_ERR_SUCCESS:
                        return
                    self._mids[info.mid] = (stream, seq)
                    self._counters.add("batches_sent_total")
                self._sending.sent(seq, time.monotonic())
        self._wake()

    # --- the retained state

    def _show_state(self, now_s: float) -> None:
        state = without_names(self._state())
        with self._lock:
            due = self._telling.due(state, now_s)
        if not due:
            return
        self._client.publish(
            topics.state(self._cn),
            json.dumps(state),
            qos=1,
            retain=True,
            properties=_expiring(PacketTypes.PUBLISH, "MessageExpiryInterval", _STATE_EXPIRES_S),
        )

    def _offline(self) -> bytes:
        return json.dumps({"online": False, "boot": self._boot.hex()}).encode()

    # --- what paho calls, in its own thread

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._cn,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=True,
        )
        client.tls_set_context(self._tls)
        client.max_inflight_messages_set(WINDOW + 4)
        client.will_set(topics.state(self._cn), self._offline(), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        self._draw_reconnect_delay(client)
        return client

    def _draw_reconnect_delay(self, client: mqtt.Client) -> None:
        delay_s = self._backoff.delay_s()
        # Both ends equal: paho then waits exactly this long. It takes fractions, too.
        client.reconnect_delay_set(delay_s, delay_s)  # type: ignore[arg-type]

    def _on_connect(
        self, client: mqtt.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any
    ) -> None:
        if reason.is_failure:
            self._faults.report(
                "broker", f"refused the connection: {reason}; check the certificate"
            )
            self._draw_reconnect_delay(client)
            return
        self._lasting_s = time.monotonic() + _LASTING_S
        client.subscribe(topics.down(self._cn), qos=1)
        now_s = time.monotonic()
        with self._lock:
            self._sending.connect(self._writer.view, now_s)
            self._telling.begin()
        self._faults.over("broker")
        self._wake()

    def _on_connect_fail(self, client: mqtt.Client, _u: Any) -> None:
        self._faults.report(
            "broker", f"{self._broker.host}:{self._broker.port} cannot be reached; tried again"
        )
        self._draw_reconnect_delay(client)

    def _on_disconnect(
        self, client: mqtt.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any
    ) -> None:
        with self._lock:
            self._sending.disconnect()
        if reason.value == _TAKEN_OVER:
            self._taken_over()
        if reason.is_failure:
            self._faults.report("broker", f"connection lost: {reason}; tried again")
            self._draw_reconnect_delay(client)

    def _taken_over(self) -> None:
        self._backoff.taken_over()
        if self._takeovers.seen(time.monotonic()):
            self._faults.report(
                "clone",
                f"another client takes over the connection of {self._cn} again and again: a copy "
                "of this card runs elsewhere; revoke the device and enrol it anew",
            )

    def _on_publish(self, _c: mqtt.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._acknowledged.append(mid)
        if reason.is_failure:
            self._counters.add("puback_refused_total")
            self._faults.report("publish", f"the broker refused a publication: {reason}")
        else:
            self._faults.over("publish")
        self._wake()

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self._believe(bytes(message.payload))
        except ValueError as error:
            self._counters.add("receipts_refused_total")
            self._faults.report("down", f"a message from central was refused: {error}")
        except OSError as error:
            # Used it is already; central shows it again at every start.
            self._faults.report("keyset_file", f"the keyset is not kept: {error}; free space")

    # --- central's answers

    def _believe(self, data: bytes) -> None:
        from wire.cose import read_sign1
        from wire.keyset import KEYSET_CONTENT
        from wire.receipt import verify_receipt

        if read_sign1(data).content == KEYSET_CONTENT:
            if self._keyring.accept(data):
                _log.info("keyset %d taken", self._keyring.version)
                self._faults.over("keyset_file")
            return
        receipt = verify_receipt(data, self._keyring.keyset)
        if receipt.tenant != self._tenant or receipt.device != self._device:
            raise ValueError(f"receipt for {receipt.tenant}-{receipt.device}, this is {self._cn}")
        newest = self._last_receipt_utc_s
        if newest is None or receipt.committed_at_utc_s > newest:
            self._last_receipt_utc_s = receipt.committed_at_utc_s
        self._faults.over("down")
        self._writer.receipt(receipt)
        with self._lock:
            self._sending.answered(receipt, time.monotonic())
        self._wake()


def tls_context(broker: BrokerConfig, now_utc_s: Callable[[], float] = time.time) -> ssl.SSLContext:
    """TLS 1.3 only, the broker's name checked, our certificate shown.

    Certificates are held against `now_utc_s` where the machine's clock is behind it.
    Raises OSError or ssl.SSLError (also an OSError) if a file is missing or no certificate,
    KeyringError if others may read the key, or its secret is missing.
    """
    context = ClockedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.now_utc_s = now_utc_s
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(broker.ca_file)
    show_certificate(context, broker)
    return context


def show_certificate(context: ssl.SSLContext, broker: BrokerConfig) -> None:
    """Let connections to come show what lies in the files; raises as `tls_context` does."""
    read_secret(broker.key_file)
    # Without a password OpenSSL would ask for one at the terminal.
    secret = unit_secret(broker.systemd) or b""
    context.load_cert_chain(broker.cert_file, broker.key_file, password=secret)


def _expiring(packet: int, name: str, seconds: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    setattr(properties, name, seconds)
    return properties
