"""One real agent with Modbus meters only: its lines, its keys, a real broker and collector.

The agent is started by its own command and reads its meters over PTYs that
are served in a thread of the bench; it seals, sends over TLS, and gets signed
receipts. Nothing is stored or drawn at the centre.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.status_file import read_status
from central.collect.broker import write_broker_config
from central.keys.authority import init_authority
from central.keys.device import issue_device
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer, Responder
from hil.site.configs import central_toml
from hil.site.installation import NotReady
from hil.site.layout import Layout
from hil.site.ports import free_port
from hil.site.processes import Processes
from hil.site.settings import Settings
from wire.clock import SharedClock, set_shared_clock

DEVICE: Final = "bench"
AGENT: Final = f"agent-{DEVICE}"
START_UTC_S: Final = 1_774_699_320
"""2026-03-28 12:02 UTC, two minutes into an interval."""
_BROKER_PATIENCE_S: Final = 15.0
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class BenchLine:
    """One serial line: its responder, and the models of its meters by unit."""

    name: str
    responder: Responder
    models: Mapping[int, str]
    """A shipped profile's name, or the path of one."""
    baud: int
    paced: bool


@dataclass(slots=True)
class Asked:
    """Passes requests on, and notes when each of them came (monotonic s)."""

    responder: Responder
    requests: list[tuple[float, bytes]] = field(default_factory=list)

    def receive(self, data: bytes) -> list[Answer]:
        self.requests.append((time.monotonic(), data))
        return self.responder.receive(data)


@dataclass(slots=True)
class ModbusSite:
    """The running installation."""

    layout: Layout
    processes: Processes
    clock: SharedClock

    @property
    def agent_pid(self) -> int:
        return self.processes.pid(AGENT)

    def set_speed(self, speed: float) -> None:
        """Let the shared clock run `speed` times as fast from the instant shown now on."""
        set_shared_clock(self.layout.clock_file, self.clock.now_utc_s(), speed)

    def status(self) -> dict[str, Any] | None:
        """What the agent wrote last."""
        return read_status(self.layout.agent(DEVICE) / "data")

    def wait(self, ready: Callable[[dict[str, Any]], bool], patience_s: float) -> dict[str, Any]:
        """The agent's first status that is `ready`; raises NotReady after `patience_s` real s."""
        until_s = time.monotonic() + patience_s
        while True:
            self.processes.check()
            status = self.status()
            if status is not None and ready(status):
                return status
            if time.monotonic() > until_s:
                raise NotReady(f"the agent is not there after {patience_s:.0f} s; status: {status}")
            time.sleep(_LOOK_S)


@contextmanager
def modbus_site(
    root: Path, lines: Sequence[BenchLine], *, sample_s: int, speed: float = 1.0
) -> Iterator[ModbusSite]:
    """An agent below `root` that reads `lines` every `sample_s` of a clock of `speed`."""
    layout, settings = Layout(root), Settings(start_utc_s=START_UTC_S)
    broker_port = free_port()
    set_shared_clock(layout.clock_file, START_UTC_S, speed)
    init_authority(layout.keys, settings.tenant, broker_hosts=["127.0.0.1"], now_utc_s=START_UTC_S)
    write_broker_config(layout.keys, broker_port, layout.broker)
    layout.central.mkdir()
    layout.lines.mkdir()
    layout.central_config.write_text(central_toml(layout, settings, broker_port, free_port()))
    issue_device(layout.keys, DEVICE, layout.bundle(DEVICE).directory)
    (layout.agent(DEVICE) / "data").mkdir()
    text = _agent_toml(layout, settings, broker_port, lines, sample_s)
    layout.agent_config(DEVICE).write_text(text)
    ptys = [
        PtyLine(layout.line(DEVICE, line.name), line.responder, baud=line.baud, paced=line.paced)
        for line in lines
    ]
    processes = Processes(layout.logs)
    with ExitStack() as stack:
        stack.enter_context(served(*ptys))
        stack.callback(processes.stop_all)
        processes.start("broker", ["mosquitto", "-c", str(layout.broker / "mosquitto.conf")])
        _await_broker(processes, broker_port)
        processes.start(
            "collect",
            [*_module("central.cli"), "collect", "--config", str(layout.central_config)],
        )
        processes.start(
            AGENT,
            [*_module("agent.cli"), "run", "--config", str(layout.agent_config(DEVICE))],
        )
        yield ModbusSite(layout, processes, SharedClock(layout.clock_file))


def _agent_toml(
    layout: Layout,
    settings: Settings,
    broker_port: int,
    lines: Sequence[BenchLine],
    sample_s: int,
) -> str:
    bundle = layout.bundle(DEVICE)
    tables: list[tuple[str, dict[str, object]]] = [
        (
            "[agent]",
            {
                "tenant": settings.tenant,
                "device": DEVICE,
                "data_dir": str(layout.agent(DEVICE) / "data"),
                "recover_days": 1,
                "sample_s": sample_s,
                "clock_file": str(layout.clock_file),
            },
        ),
        (
            "[broker]",
            {
                "host": "127.0.0.1",
                "port": broker_port,
                "ca_file": str(bundle.authority_certificate),
                "cert_file": str(bundle.tls_certificate),
                "key_file": str(bundle.tls_key),
            },
        ),
        (
            "[keys]",
            {
                "sign_key_file": str(bundle.sign_key),
                "root_public_file": str(bundle.root_public),
                "keyset_file": str(bundle.keyset),
            },
        ),
    ]
    for line in lines:
        port = str(layout.line(DEVICE, line.name))
        tables.append(
            (
                "[[line]]",
                {"name": line.name, "port": port, "protocol": "modbus", "baud": line.baud},
            )
        )
        for unit, model in line.models.items():
            meter = {"id": f"{line.name}-{unit}", "line": line.name, "model": model, "unit": unit}
            tables.append(("[[meter]]", meter))
    # A JSON scalar is a TOML scalar for the strings and integers used here.
    return "".join(
        f"{head}\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for head, table in tables
    )


def _await_broker(processes: Processes, port: int) -> None:
    import socket

    until_s = time.monotonic() + _BROKER_PATIENCE_S
    while True:
        processes.check()
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until_s:
            raise NotReady(f"the broker did not listen within {_BROKER_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
