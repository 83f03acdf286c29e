"""The agent's systemd unit: sound, little exposed, and it says what the agent does."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "loadscape-agent.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine"
)


def exposure(unit: Path) -> subprocess.CompletedProcess[str]:
    """Fails above an exposure of 2.0."""
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    return subprocess.run([*words, str(unit)], capture_output=True, text=True, check=False)


@needs_systemd
def test_it_is_exposed_no_more_than_it_must_be(tmp_path: Path) -> None:
    judged = exposure(UNIT)
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(bare).returncode != 0


@needs_systemd
def test_systemd_understands_every_line_of_it(tmp_path: Path) -> None:
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace("/usr/bin/loadscape-agent", "/bin/true"))
    words = ["systemd-analyze", "verify", "--man=no", str(there)]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in judged.stderr.splitlines() if there.name in line]
    assert said == []


def test_systemd_waits_for_ready_and_restarts_a_starved_agent_for_ever() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert int(service["WatchdogSec"]) == 90
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["ExecStart"].endswith("loadscape-agent run")
