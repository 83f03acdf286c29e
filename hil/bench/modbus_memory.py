"""What an agent with 32 Modbus meters takes of its machine's memory after 10,000 reads.

The agent is the real process with TLS up, on four lines with two meters of
each shipped model; its first batches are sealed, sent and receipted before
memory is looked at. The lines answer at once and the clock runs fast, so that
10,000 reads take minutes.

PSS shares a page's size among the processes that map it; the collector and
the bench run the same interpreter. The resident set stands beside it: what
the agent would take if it shared nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hil.bench.agent import memory_mib
from hil.bench.figure import Figure
from hil.bench.modbus_site import BenchLine, modbus_site
from hil.meters.modbus import ModbusBus, ModbusMeter, models
from hil.meters.steady import Steady
from hil.site.installation import NotReady
from wire.clock import SystemClock

METERS: Final = 32
LINES: Final = 4
READS: Final = 10_000
LIMIT_MIB: Final = 36.0
SPEED: Final = 600.0
SAMPLE_S: Final = 60
_BAUD: Final = 19200
_PATIENCE_S: Final = 900.0


def memory_figures() -> Iterator[Figure]:
    """`agent.pss_mib_32_modbus`, children included, and the resident set beside it."""
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        lines = [_line(number) for number in range(LINES)]
        with modbus_site(Path(folder), lines, sample_s=SAMPLE_S, speed=SPEED) as site:
            status = site.wait(_ready, _PATIENCE_S)
            if failed := status["counters"]["read_errors_total"]:
                raise NotReady(f"{failed} reads failed: the figure is void")
            pss_mib = memory_mib(site.agent_pid, "Pss")
            rss_mib = memory_mib(site.agent_pid, "Rss")
    yield Figure("agent.pss_mib_32_modbus", pss_mib, "MiB", limit=LIMIT_MIB)
    yield Figure("agent.rss_mib_32_modbus", rss_mib, "MiB")


def _line(number: int) -> BenchLine:
    each = METERS // LINES
    names = [*models(), *models()][number * each : (number + 1) * each]
    on_line = dict(enumerate(names, 1))
    bus = ModbusBus(
        {
            unit: ModbusMeter(model, Steady(serial=str(21_000_000 + number * each + unit)))
            for unit, model in on_line.items()
        },
        SystemClock(),
    )
    return BenchLine(f"modbus-{number + 1}", bus, on_line, _BAUD, paced=False)


def _ready(status: dict[str, Any]) -> bool:
    counters: dict[str, int] = status["counters"]
    return (
        counters.get("reads_total", 0) >= READS and counters.get("batches_receipted_total", 0) >= 1
    )
