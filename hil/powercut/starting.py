"""The real processes, started by their own commands on what a power cut left behind.

Neither broker nor serial lines are there: a concentrator that comes up after a
cut may find none of them. Up means that the process says so itself: the agent
in its status file, the collector by serving its metrics.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.powercut.disk import Image, lay_out
from hil.site.installation import Installation

_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.02
_END_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """How many states the process came up from, and what it said where it did not."""

    up: int
    failures: tuple[str, ...]


def start_agent_from(site: Installation, images: Sequence[Image]) -> Started:
    """Run `loadscape-agent run` on each image as its data folder."""
    (device,) = site.devices
    config = site.layout.agent_config(device).read_text()
    broker = f"port = {site.broker_port}"

    def prepare(folder: Path, image: Image) -> tuple[list[str], Callable[[int], bool]]:
        data = folder / "data"
        data.mkdir()
        lay_out(image, data)
        written = folder / "agent.toml"
        moved = _replaced(config, "data_dir", str(data))
        written.write_text(moved.replace(broker, "port = 1"))
        status = data / "status.json"
        status.unlink(missing_ok=True)
        command = [sys.executable, "-m", "agent.cli", "run", "--config", str(written)]
        return command, lambda pid: _says(status, pid)

    return _start(images, prepare)


def start_collector_from(site: Installation, images: Sequence[Image]) -> Started:
    """Run `loadscape-central collect` on each image as its journal's folder."""
    config = site.layout.central_config.read_text()
    broker = f"port = {site.broker_port}"

    def prepare(folder: Path, image: Image) -> tuple[list[str], Callable[[int], bool]]:
        data = folder / "central"
        (data / "journal").mkdir(parents=True)
        lay_out(image, data / "journal")
        written = folder / "central.toml"
        written.write_text(_replaced(config, "data_dir", str(data)).replace(broker, "port = 1"))
        metrics = data / "run" / "collector.metrics"
        command = [sys.executable, "-m", "central.cli", "collect", "--config", str(written)]
        return command, lambda _: metrics.exists()

    return _start(images, prepare)


_Prepare = Callable[[Path, Image], tuple[list[str], Callable[[int], bool]]]


def _start(images: Sequence[Image], prepare: _Prepare) -> Started:
    up, failures = 0, []
    for image in images:
        folder = Path(tempfile.mkdtemp(prefix="powercut-start-"))
        try:
            command, is_up = prepare(folder, image)
            said = _come_up(command, is_up, folder / "said.log")
        finally:
            shutil.rmtree(folder)
        if said is None:
            up += 1
        else:
            failures.append(said)
    return Started(up, tuple(failures))


def _come_up(command: Sequence[str], is_up: Callable[[int], bool], log: Path) -> str | None:
    """None if the process came up; else the end of what it said."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ends_s = time.monotonic() + _PATIENCE_S
        while process.poll() is None and time.monotonic() < ends_s:
            if is_up(process.pid):
                return None
            time.sleep(_LOOK_S)
    finally:
        process.terminate()
        process.wait(_END_S)
    return log.read_text(errors="replace")[-600:]


def _says(status: Path, pid: int) -> bool:
    if not status.exists():
        return False
    told = json.loads(status.read_text())
    return bool(told["running"]) and told["pid"] == pid


def _replaced(config: str, key: str, value: str) -> str:
    line = f"{key} = {json.dumps(value)}"
    changed, count = re.subn(rf"^{key} = .*$", lambda _: line, config, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"expected one {key} in the configuration, found {count} ({os.getpid()})")
    return changed
