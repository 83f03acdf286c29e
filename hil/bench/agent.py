"""What one agent costs its machine: memory, and CPU per read, with 200 meters of both protocols.

The agent is the real process, started by its own command: four serial lines,
TLS to a real Mosquitto, a real collector that signs receipts. It recovers two
days from its meters' load profiles and then reads live intervals. The lines
answer at once, so CPU is not hidden behind waiting.

PSS shares a page's size among the processes that map it. The simulated meters
and the collector run the same interpreter, so `agent.rss_mib` stands beside
it: what the agent would take if it shared nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.status_file import read_status
from hil.bench.figure import Figure
from hil.site.installation import Installation, NotReady
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice

METERS: Final = 200
TRANSFORMER: Final = "t03"
START_UTC_S: Final = 1_774_699_260
"""2026-03-28 12:01 UTC, one minute into an interval."""
RECOVER_DAYS: Final = 2
SPEED: Final = 60.0
LIVE_INTERVALS: Final = 3
INTERVAL_S: Final = 900
PSS_LIMIT_MIB: Final = 40.0
_DAY_S: Final = 86_400
_RECOVERY_PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """What the agent used in the live phase, and the memory that it held at the end of it."""

    pss_mib: float
    rss_mib: float
    cpu_s: float
    reads: int
    """Successful reads, as the agent counts them."""

    @property
    def cpu_ms_per_read(self) -> float:
        return 1000 * self.cpu_s / self.reads


def agent_figures() -> Iterator[Figure]:
    """`agent.pss_mib`, `agent.rss_mib` and `agent.cpu_ms_per_read` of one run of the agent.

    A read is one meter's answer to one question: all registers and gauges of a
    Modbus meter at one instant, or the newest rows of a DLMS meter's profile
    with the association around them. The CPU is all that the process used in
    the live phase, so closing, storing, sealing and sending are in it.
    """
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        cost = measure(Path(folder))
    yield Figure("agent.pss_mib", cost.pss_mib, "MiB", limit=PSS_LIMIT_MIB)
    yield Figure("agent.rss_mib", cost.rss_mib, "MiB")
    yield Figure(
        "agent.cpu_ms_per_read",
        cost.cpu_ms_per_read,
        "ms CPU per meter read",
        peer="80-register Modbus read alone",
    )


def measure(root: Path) -> Cost:
    """Run the installation below `root`; raises NotReady if the agent does not keep up."""
    origin_utc_s = (START_UTC_S // _DAY_S - RECOVER_DAYS - 2) * _DAY_S
    choice = TownChoice("schutterwald", origin_utc_s, (TRANSFORMER,), METERS)
    settings = Settings(start_utc_s=START_UTC_S, recover_days=RECOVER_DAYS)
    site = Installation(choice, root, settings)
    try:
        site.prepare()
        site.start_broker()
        site.start_meters()
        site.start_central(("collect",))
        site.start_agents()
        (device,) = site.devices
        return _cost(site, device)
    finally:
        site.stop()


def _cost(site: Installation, device: str) -> Cost:
    data_dir = site.layout.agent(device) / "data"
    pid = site.processes.pid(f"agent-{device}")
    _wait(site, data_dir, _recovered, _RECOVERY_PATIENCE_S)
    site.set_speed(SPEED)
    # One interval first: the figures are those of the steady state.
    first_end_utc_s = int(site.clock.now_utc_s() // INTERVAL_S + 1) * INTERVAL_S
    _wait(site, data_dir, lambda status: _closed(status, first_end_utc_s), _patience_s(1))
    before, cpu_before_s = _fresh_status(site, data_dir), cpu_s(pid)
    last_end_utc_s = int(site.clock.now_utc_s() // INTERVAL_S + LIVE_INTERVALS) * INTERVAL_S
    _wait(site, data_dir, lambda s: _closed(s, last_end_utc_s), _patience_s(LIVE_INTERVALS))
    after, cpu_after_s = _fresh_status(site, data_dir), cpu_s(pid)
    counts = ("reads_total", "read_errors_total")
    reads, errors = (after["counters"][name] - before["counters"][name] for name in counts)
    if errors or not reads:
        raise NotReady(f"{errors} reads failed and {reads} did not: the figure is void")
    return Cost(
        pss_mib=memory_mib(pid, "Pss"),
        rss_mib=memory_mib(pid, "Rss"),
        cpu_s=cpu_after_s - cpu_before_s,
        reads=reads,
    )


def memory_mib(pid: int, what: str) -> float:
    """`Pss` or `Rss` of a process with its children, from the kernel's own sum."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{what}: +(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/{pid}/smaps_rollup: expected a line {what}, found none")
    return int(found[1]) / 1024 + sum(memory_mib(child, what) for child in _children(pid))


def cpu_s(pid: int) -> float:
    """User and system CPU that all threads of a process have used, s."""
    # The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _recovered(status: dict[str, Any]) -> bool:
    recovery = status["recovery"]
    known: bool = 0 < recovery["expected"] <= recovery["known"]
    return known and bool(status["counters"]["batches_receipted_total"]) and not status["outbox"]


def _closed(status: dict[str, Any], end_utc_s: int) -> bool:
    return (status["last_end_utc_s"] or 0) >= end_utc_s and not status["outbox"]


def _fresh_status(site: Installation, data_dir: Path) -> dict[str, Any]:
    """The next status that the agent writes, so that its counters are those of this moment."""
    shown_utc_s = site.clock.now_utc_s()
    return _wait(site, data_dir, lambda s: bool(s["shown_utc_s"] >= shown_utc_s), 10.0)


def _patience_s(intervals: int) -> float:
    return 30.0 + 2 * intervals * INTERVAL_S / SPEED


def _wait(
    site: Installation,
    data_dir: Path,
    ready: Callable[[dict[str, Any]], bool],
    patience_s: float,
) -> dict[str, Any]:
    """The agent's first status that is `ready`; raises NotReady after `patience_s` real s."""
    deadline_s = time.monotonic() + patience_s
    while True:
        site.processes.check()
        status = read_status(data_dir)
        if status is not None and ready(status):
            return status
        if time.monotonic() > deadline_s:
            raise NotReady(f"the agent is not there after {patience_s:.0f} s; status: {status}")
        time.sleep(_LOOK_S)
