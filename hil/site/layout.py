"""Where the files of an installation lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from central.keys.device import DeviceBundle


@dataclass(frozen=True, slots=True)
class Layout:
    """All paths of one installation below `root`."""

    root: Path

    @property
    def clock_file(self) -> Path:
        return self.root / "clock.json"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def broker(self) -> Path:
        return self.root / "broker"

    @property
    def central(self) -> Path:
        return self.root / "central"

    @property
    def central_config(self) -> Path:
        return self.root / "central.toml"

    @property
    def grid(self) -> Path:
        """The grid and asset master data that central loads."""
        return self.root / "grid"

    @property
    def lines(self) -> Path:
        """Links to the PTYs of the simulated serial lines."""
        return self.root / "lines"

    @property
    def reads(self) -> Path:
        """What the simulated meters without a profile showed to whoever asked (JSON lines)."""
        return self.root / "reads"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def agent(self, device: str) -> Path:
        return self.root / "agents" / device

    def bundle(self, device: str) -> DeviceBundle:
        """The keys and certificates that the device was handed."""
        return DeviceBundle(self.agent(device) / "keys")

    def agent_config(self, device: str) -> Path:
        return self.agent(device) / "agent.toml"

    def line(self, device: str, line: str) -> Path:
        return self.lines / f"{device}-{line}"
