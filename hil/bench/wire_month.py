"""What a concentrator of 200 meters costs a month on a metered link, both ways, all layers.

The agent's own writer and connection, a real broker, the real collector, the demo
town's customers as readings; between agent and broker a link that counts. Batches
with their receipts, a ping, a state and a connection are measured each by itself;
a month is what the agent's own rules make of them. Events, device log, repetitions
and reconnections come on top: what one costs is said.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.config import BrokerConfig
from agent.publish import KEEPALIVE_S, tls_context
from agent.store.rows import MeterEpoch, MeterRows
from agent.telling import EVERY_S
from central.collect.broker import write_broker_config
from central.keys.authority import init_authority
from central.keys.device import DeviceBundle, issue_device
from hil.bench.block import Whole, load_customers
from hil.bench.figure import Figure
from hil.bench.metered_link import MeteredLink
from hil.site.bare_agent import INTERVAL_S, BareAgent, bare_agent
from hil.site.ports import free_port, is_free
from hil.site.processes import Processes

METERS: Final = 200
LIMITS: Final = {"hourly": (4, 4.2), "quarterly": (1, 9.5)}
"""Intervals per batch, and the limit, MB."""
MONTH_S: Final = 30 * 86_400
_TENANT, _DEVICE = "demo", "t07"
_CYCLES: Final = 24
_PINGS: Final = 3
_PATIENCE_S: Final = 20.0


def wire_figures() -> Iterator[Figure | str]:
    """`wire.mb_month_200_hourly` and `wire.mb_month_200_quarterly`, and what they are made of."""
    for name, (batch_intervals, limit) in LIMITS.items():
        with tempfile.TemporaryDirectory(prefix="loadscape-wire-") as folder:
            costs = _measured(Path(folder), batch_intervals)
        yield Figure(f"wire.mb_month_200_{name}", costs.month_mb, "MB, both ways", limit=limit)
        yield str(costs)


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes on the link, both ways."""

    between_s: int
    """From batch to batch."""
    cycle: float
    """A batch, its acknowledgement, its receipt, the acknowledgement of that."""
    ping: float
    state: float
    connection: float
    """TCP, TLS, MQTT, the birth and central's answer to it."""

    @property
    def batches(self) -> int:
        """In a month."""
        return MONTH_S // self.between_s

    @property
    def pings(self) -> int:
        """In a month; each batch puts the next one off."""
        return self.batches * ((self.between_s - 1) // KEEPALIVE_S)

    @property
    def states(self) -> int:
        """In a month in which nothing happens."""
        return MONTH_S // EVERY_S

    @property
    def month_mb(self) -> float:
        """Of one connection, which lasts."""
        lasting = self.batches * self.cycle + self.pings * self.ping + self.states * self.state
        return (self.connection + lasting) / 1e6

    def __str__(self) -> str:
        return (
            f"{self.batches} batches with receipts at {self.cycle:.0f} B, {self.pings} pings at "
            f"{self.ping:.0f} B, {self.states} states at {self.state:.0f} B, one connection at "
            f"{self.connection:.0f} B; each reconnection adds as much"
        )


def _measured(folder: Path, batch_intervals: int) -> Costs:
    _, channels = load_customers()
    state = agent_state()
    with _centre(folder) as (bundle, broker_port):
        link = MeteredLink(link_port := free_port(), broker_port)
        files = (bundle.authority_certificate, bundle.tls_certificate, bundle.tls_key)
        broker = BrokerConfig("127.0.0.1", link_port, *files)
        try:
            with bare_agent(
                folder / "data",
                _TENANT,
                _DEVICE,
                bundle,
                broker,
                batch_intervals=batch_intervals,
                state=lambda: dict(state),
            ) as agent:
                _must(agent.wait(lambda: agent.publisher.connected))
                connection = link.billed_when_quiet()
                _cycle(agent, channels, 0, batch_intervals)  # carries the roster
                before = link.billed_when_quiet()
                for number in range(1, _CYCLES + 1):
                    _cycle(agent, channels, number, batch_intervals)
                after = link.billed_when_quiet()
                state["alarms"] = ["clone"]
                _must(agent.wait(lambda: link.billed_bytes > after))
                told = link.billed_when_quiet() - after
            ping = _ping(broker, link)
        finally:
            link.close()
    cycle = (after - before) / _CYCLES
    return Costs(batch_intervals * INTERVAL_S, cycle, ping, told, connection)


def _ping(broker: BrokerConfig, link: MeteredLink) -> float:
    name = f"{_TENANT}-{_DEVICE}"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
    client.tls_set_context(tls_context(broker))
    answered = threading.Semaphore(0)

    def said(_c: mqtt.Client, _u: Any, _level: int, text: str) -> None:
        if "PINGRESP" in text:
            answered.release()

    client.on_log = said
    client.connect(broker.host, broker.port, keepalive=1)
    client.loop_start()
    try:
        grown = []
        for _ in range(_PINGS + 1):
            if not answered.acquire(timeout=_PATIENCE_S):
                raise RuntimeError("the broker answers no ping: the figure is void")
            grown.append(link.billed_when_quiet())
        return (grown[-1] - grown[0]) / _PINGS
    finally:
        client.disconnect()
        client.loop_stop()


# --- what the agent closes and says


def _cycle(agent: BareAgent, channels: Whole, number: int, batch_intervals: int) -> None:
    """Close the intervals of a batch; until the centre has signed for it."""
    # Whole batches, the last of which is over now.
    span_s = INTERVAL_S * batch_intervals
    begin_utc_s = (int(time.time()) // span_s - _CYCLES - 1) * span_s
    first = number * batch_intervals
    for at in range(first, first + batch_intervals):
        # From batch to batch over the hours of the day and the days of three weeks.
        step = (number * 83 * batch_intervals + at) % channels.shape[2]
        end_utc_s = begin_utc_s + (at + 1) * INTERVAL_S
        rows = [
            MeterRows(
                MeterEpoch(f"m{meter:06d}", f"{meter:08d}", 1, 0b111111),
                [(end_utc_s, tuple(channels[:, meter, step].tolist()))],
            )
            for meter in range(METERS)
        ]
        agent.close_interval(end_utc_s, rows)
    _must(agent.wait(lambda: agent.writer.view.receipted_upto > number))


def _must(done: bool) -> None:
    if not done:
        raise RuntimeError("broker or collector do not answer: the figure is void")


def agent_state() -> dict[str, Any]:
    """As an agent of four lines publishes it: `agent.run.Agent.state`."""
    line = {
        "name": "modbus-1",
        "open": True,
        "failing": [],
        "round_ms": 12_345,
        "busy_share": 0.412,
        "cycle_ms": 60_000,
        "cycle_share": 0.412,
        "cycle_ratio": 1.031,
        "missed_samples": 0,
    }
    return {
        "online": True,
        "boot": os.urandom(8).hex(),
        "stream": os.urandom(8).hex(),
        "next": 12_345,
        "head": os.urandom(16).hex(),
        "keyset": 12,
        "versions": {"agent": "0.1.0"},
        "outbox": 1,
        "receipt_age_s": 812,
        "clock": "trusted",
        "clock_by": "timesyncd",
        "certificate_ends_utc_s": 1_800_000_000,
        "held": 0,
        "alarms": [],
        "recovery": {"known": 1_190_400, "expected": 1_190_400},
        "last_end_utc_s": 1_800_000_000,
        "meter_clocks": {
            "read": METERS,
            "untrusted": 0,
            "off": 0,
            "worst": {"meter": "m000123", "ahead_s": 4.0, "drift_s_per_day": -1.3},
        },
        "lines": [line] * 4,
    }


# --- broker and collector


@contextmanager
def _centre(folder: Path) -> Iterator[tuple[DeviceBundle, int]]:
    keys, port = folder / "central-keys", free_port()
    place = init_authority(keys, _TENANT, broker_hosts=["127.0.0.1"], now_utc_s=time.time())
    bundle = issue_device(keys, _DEVICE, folder / "keys")
    conf = write_broker_config(keys, port, folder / "broker")
    toml = folder / "central.toml"
    toml.write_text(
        f'tenant = "{_TENANT}"\ndata_dir = "central"\n[keys]\ndir = "{keys}"\n[broker]\n'
        f'host = "127.0.0.1"\nport = {port}\nca_file = "{place.authority_certificate}"\n'
        f'cert_file = "{place.collector_certificate}"\nkey_file = "{place.collector_key}"\n'
    )
    processes = Processes(folder / "logs")
    try:
        processes.start("broker", ["mosquitto", "-c", str(conf)])
        until_s = time.monotonic() + _PATIENCE_S
        while is_free(port):
            processes.check()
            if time.monotonic() > until_s:
                raise RuntimeError("the broker does not listen: the figure is void")
            time.sleep(0.02)  # nothing announces that a port is open
        command = [sys.executable, "-m", "central.cli", "collect", "--config", str(toml)]
        processes.start("collector", command)
        yield bundle, port
        processes.check()
    finally:
        processes.stop_all()
