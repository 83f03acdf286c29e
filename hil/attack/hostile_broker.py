"""A broker in the wrong hands: it has the broker's key, reads all that passes, and meddles with it.

Two real Mosquittos and what lies between them: agents connect to the first, the
collector to the second, both over TLS with certificates that they trust. Neither has
an access list, and each lets the middle in without a certificate. So the middle can
do whatever an operator of the broker can: say anything under any name to anybody.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from central.keys.place import KeyPlace
from hil.site.ports import free_port, is_free
from hil.site.processes import Processes

_CONF: Final = """\
user root
per_listener_settings true
persistence false
log_type error
max_packet_size 1048576

listener {port} 127.0.0.1
cafile {authority}
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false

listener {open_port} 127.0.0.1
allow_anonymous true
"""
UP, STATE, DOWN = "loadscape/1/up/", "loadscape/1/state/", "loadscape/1/down/"
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """One publication on its way; `up` if it comes from a device."""

    topic: str
    payload: bytes
    retained: bool = False

    @property
    def up(self) -> bool:
        return not self.topic.startswith(DOWN)


Meddle = Callable[[Said], list[Said]]
"""What passes in place of one publication."""


def honest(said: Said) -> list[Said]:
    """Hand it on."""
    return [said]


@dataclass
class Middle:
    """Hands on between the two brokers what `meddle` makes of it, and keeps all that it saw."""

    agents_port: int
    collector_port: int
    seen: list[Said] = field(default_factory=list)
    _meddle: Meddle = honest
    _clients: dict[bool, mqtt.Client] = field(default_factory=dict)
    _passing: queue.SimpleQueue[Said | None] = field(default_factory=queue.SimpleQueue)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meddle(self, how: Meddle) -> None:
        """From now on."""
        with self._lock:
            self._meddle = how

    def say(self, said: Said) -> None:
        """Of its own accord, to the collector (`up`) or to a device."""
        self._clients[said.up].publish(said.topic, said.payload, qos=1, retain=said.retained)

    def begin(self, open_agents_port: int, open_collector_port: int) -> None:
        """Connect to both brokers and begin to hand on."""
        # Keyed by the way that what it publishes goes.
        self._clients[True] = self._client(open_collector_port, f"{DOWN}#")
        self._clients[False] = self._client(open_agents_port, f"{UP}#", f"{STATE}#")
        threading.Thread(target=self._hand_on, daemon=True).start()

    def end(self) -> None:
        self._passing.put(None)
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    def _client(self, port: int, *topics: str) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        subscribed = threading.Event()

        def heard(_c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
            self._passing.put(Said(message.topic, bytes(message.payload), message.retain))

        client.on_message = heard
        client.on_subscribe = lambda *_: subscribed.set()
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe([(topic, 1) for topic in topics])
        if not subscribed.wait(_PATIENCE_S):
            raise RuntimeError("the hostile broker's own client was not let in")
        return client

    def _hand_on(self) -> None:
        while (said := self._passing.get()) is not None:
            self.seen.append(said)
            with self._lock:
                passed = self._meddle(said)
            for one in passed:
                self.say(one)


@contextmanager
def hostile_broker(place: KeyPlace, folder: Path) -> Iterator[Middle]:
    """Running until the block ends; `agents_port` and `collector_port` speak TLS."""
    folder.mkdir()
    processes = Processes(folder / "logs")
    ports = {name: (free_port(), free_port()) for name in ("agents", "collector")}
    try:
        for name, (port, open_port) in ports.items():
            conf = folder / f"{name}.conf"
            conf.write_text(
                _CONF.format(
                    port=port,
                    open_port=open_port,
                    authority=place.authority_certificate,
                    certificate=place.broker_certificate,
                    key=place.broker_key,
                )
            )
            processes.start(name, ["mosquitto", "-c", str(conf)])
            _listens(processes, open_port)
        middle = Middle(ports["agents"][0], ports["collector"][0])
        middle.begin(ports["agents"][1], ports["collector"][1])
        try:
            yield middle
        finally:
            middle.end()
    finally:
        processes.stop_all()


def _listens(processes: Processes, port: int) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while is_free(port):
        processes.check()
        if time.monotonic() > until_s:
            raise RuntimeError(f"mosquitto does not listen on port {port}")
        time.sleep(0.02)  # nothing announces that a port is open
