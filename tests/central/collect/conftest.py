"""A real centre for tests: keys, Mosquitto with TLS, collector and loader as processes."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from central.collect.broker import write_broker_config
from central.config import Config, load_config
from central.keys.authority import init_authority
from central.keys.device import issue_device
from hil.bench.device import BenchDevice


@dataclass
class Centre:
    """One tenant's centre on this machine; `start` and `kill` its parts by name."""

    root: Path
    port: int
    config: Config
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def device(self, name: str) -> BenchDevice:
        """Enrol a device; it is not connected yet."""
        issue_device(self.root / "keys", name, self.root / name)
        return BenchDevice("demo", name, self.root / name)

    def start(self, part: str) -> None:
        """Start `broker`, `collect` or `load` and wait until it works."""
        if part == "broker":
            command = ["mosquitto", "-c", str(self.root / "broker" / "mosquitto.conf")]
        else:
            config = str(self.config.source)
            command = [sys.executable, "-m", "central.cli", part, "--config", config]
        self.metrics_file(part).unlink(missing_ok=True)
        with (self.root / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(command, stderr=log, stdout=log)
        self.wait(lambda: self._is_up(part), f"{part} to work")

    def kill(self, part: str) -> None:
        """kill -9."""
        process = self.processes.pop(part)
        process.kill()
        process.wait()

    def log(self, part: str) -> str:
        return (self.root / f"{part}.log").read_text()

    def metrics_file(self, part: str) -> Path:
        name = {"collect": "collector", "load": "loader"}.get(part, part)
        return self.config.data_dir / "run" / f"{name}.metrics"

    def metric(self, part: str, name: str) -> float:
        """The value of `name{labels}` as /metrics shows it, 0 while it does not answer."""
        file = self.metrics_file(part)
        if not file.exists():
            return 0
        try:
            with urllib.request.urlopen(file.read_text().strip(), timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0

    def wait(self, condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
        until_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until_s, f"waited {within_s} s for {what}\n{self._logs()}"
            time.sleep(0.05)

    def _is_up(self, part: str) -> bool:
        process = self.processes[part]
        assert process.poll() is None, f"{part} ended\n{self._logs()}"
        if part == "broker":
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        if part == "collect":
            return self.metric(part, "loadscape_collector_connected") == 1
        return self.metrics_file(part).exists()

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.root.glob("*.log"))

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    """A centre with keys and broker configuration; nothing runs yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = tmp_path / "keys"
    init_authority(keys, "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time())
    write_broker_config(keys, port, tmp_path / "broker")
    toml = tmp_path / "central.toml"
    toml.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {port}\nca_file = "keys/ca.crt"\n'
        'cert_file = "keys/collector.crt"\nkey_file = "keys/collector.key"\n'
    )
    centre = Centre(tmp_path, port, load_config(toml))
    yield centre
    centre.stop()
