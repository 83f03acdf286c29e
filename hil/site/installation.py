"""Builds and runs a whole installation of one town on this machine.

Everything that runs is the product itself, started by its own commands; only
the meters are simulated, behind real PTYs. Nothing but grid and asset master
data reaches central except through a serial line.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from central.collect.broker import write_broker_config
from central.grid.load import load_folder
from central.keys.authority import init_authority
from central.keys.device import issue_device
from hil.meters.password import LLS_PASSWORD
from hil.site.configs import PASSWORD, agent_toml, central_toml
from hil.site.layout import Layout
from hil.site.ports import free_port
from hil.site.processes import Processes
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice
from hil.town import Town
from wire.clock import SharedClock, set_shared_clock


class NotReady(RuntimeError):
    """A part of the installation did not come up in time."""


@dataclass(slots=True)
class Installation:
    """One town's installation below `root`; `stop` ends everything that it started."""

    choice: TownChoice
    root: Path
    settings: Settings
    town: Town = field(init=False)
    layout: Layout = field(init=False)
    processes: Processes = field(init=False)
    clock: SharedClock = field(init=False)
    api_port: int = field(init=False)
    broker_port: int = field(init=False)
    under: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Words before the command of a part or an agent: what it is to run under."""

    def __post_init__(self) -> None:
        self.town = self.choice.load()
        self.layout = Layout(self.root)
        self.processes = Processes(self.layout.logs)
        self.api_port = self.settings.api_port or free_port()
        self.broker_port = self.settings.broker_port or free_port()

    @property
    def devices(self) -> list[str]:
        """Names of the concentrators, one per transformer."""
        return [transformer.concentrator for transformer in self.town.transformers]

    @property
    def page(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.api_port}/"

    # --- making ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write clock, keys, certificates, configurations; load the grid master data."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.set_clock(self.settings.start_utc_s, 1.0)
        self.clock = SharedClock(self.layout.clock_file)
        init_authority(
            self.layout.keys,
            self.settings.tenant,
            broker_hosts=["127.0.0.1", "localhost"],
            now_utc_s=self.clock.now_utc_s(),
        )
        write_broker_config(self.layout.keys, self.broker_port, self.layout.broker)
        self.layout.central_config.write_text(
            central_toml(self.layout, self.settings, self.broker_port, self.api_port)
        )
        self.town.write_grid(self.layout.grid)
        self.layout.central.mkdir(exist_ok=True)
        load_folder(self.layout.central / "registry.db", self.layout.grid)
        for device in self.devices:
            bundle = issue_device(self.layout.keys, device, self.layout.bundle(device).directory)
            password = bundle.directory / PASSWORD
            password.write_bytes(LLS_PASSWORD)
            password.chmod(0o600)
            (self.layout.agent(device) / "data").mkdir()
            self.layout.agent_config(device).write_text(
                agent_toml(self.layout, self.settings, self.broker_port, self.town, device)
            )

    def set_clock(self, utc_s: float, speed: float) -> None:
        """Show `utc_s` to all processes and let time run `speed` times as fast."""
        set_shared_clock(self.layout.clock_file, utc_s, speed)

    def set_speed(self, speed: float) -> None:
        """Go on from the instant shown now at another speed."""
        self.set_clock(self.clock.now_utc_s(), speed)

    # --- running --------------------------------------------------------------------------

    def start_broker(self) -> None:
        config = self.layout.broker / "mosquitto.conf"
        self.processes.start("broker", ["mosquitto", "-c", str(config)])
        self._wait_for(self._broker_listens, "the broker", 15.0)

    def start_central(self, parts: Sequence[str] = ("collect", "load", "api")) -> None:
        for part in parts:
            self.start_central_part(part)
        if "api" in parts:
            self._wait_for(self._api_answers, "the page", 60.0)

    def start_central_part(self, part: str) -> None:
        """Start `collect`, `load` or `api`."""
        config = str(self.layout.central_config)
        command = [*_module("central.cli"), part, "--config", config]
        self.processes.start(part, [*self.under.get(part, ()), *command])

    def start_meters(self) -> None:
        """Start the processes that host the simulated meters, and wait for their lines."""
        self.layout.lines.mkdir(exist_ok=True)
        self.layout.reads.mkdir(exist_ok=True)
        hosts = min(self.settings.meter_hosts, len(self.devices))
        for host in range(hosts):
            plan = self.root / f"meters-{host}.json"
            plan.write_text(json.dumps(self._meter_plan(host, hosts)))
            self.processes.start(
                f"meters-{host}", [*_module("hil.cli"), "meters", "--plan", str(plan)]
            )
        lines = {self.layout.line(meter.transformer, meter.line) for meter in self.town.meters}
        self._wait_for(lambda: all(link.exists() for link in lines), "the meters", 120.0)

    def _meter_plan(self, host: int, hosts: int) -> dict[str, Any]:
        return {
            "town": self.choice.as_json(),
            "transformers": [t.id for t in self.town.transformers][host::hosts],
            "clock_file": str(self.layout.clock_file),
            "lines": str(self.layout.lines),
            "reads": str(self.layout.reads),
            "paced": self.settings.paced,
            "garbled": list(self.settings.garbled),
        }

    def start_agents(self) -> None:
        for device in self.devices:
            self.start_agent(device)

    def start_agent(self, device: str) -> None:
        name = f"agent-{device}"
        command = [*_module("agent.cli"), "run", "--config", str(self.layout.agent_config(device))]
        self.processes.start(name, [*self.under.get(name, ()), *command])

    def kill_and_start(self, name: str) -> None:
        """kill -9 the process and start it again as it was."""
        self.processes.start(name, self.processes.kill(name).command)

    def restart_broker(self) -> None:
        """End the broker and start it again with what it has on disk."""
        self.processes.stop("broker")
        self.start_broker()

    def stop(self) -> None:
        """Stop everything that was started."""
        self.processes.stop_all()

    # --- watching -------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """JSON that the API gives for `path` (without the leading slash)."""
        with urllib.request.urlopen(self.page + path, timeout=30) as answer:
            return json.load(answer)

    def devices_seen(self) -> list[dict[str, Any]]:
        """The agents as the collector sees them."""
        devices: list[dict[str, Any]] = self.get("api/v1/devices")["devices"]
        return devices

    def _broker_listens(self) -> bool:
        import socket

        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.broker_port)) == 0

    def _api_answers(self) -> bool:
        try:
            self.get("api/v1/catalog")
        except OSError:
            return False
        return True

    def _wait_for(self, ready: Any, what: str, patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while not ready():
            self.processes.check()
            if time.monotonic() > deadline_s:
                raise NotReady(
                    f"{what} did not come up within {patience_s:.0f} s; look into "
                    f"{os.fspath(self.layout.logs)}"
                )
            time.sleep(0.05)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
