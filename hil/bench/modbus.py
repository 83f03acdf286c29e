"""The Modbus part of the bench: right values, bus time, CPU and memory, beside their peers."""

from __future__ import annotations

from collections.abc import Iterator

from hil.bench.figure import Figure
from hil.bench.modbus_cpu import cpu_figures
from hil.bench.modbus_cycle import cycle_figures
from hil.bench.modbus_matrix import matrix_figures
from hil.bench.modbus_memory import memory_figures
from hil.bench.modbus_plan import plan_figures


def modbus_figures() -> Iterator[Figure | str]:
    """All figures, the quick ones first; the fault matrix as a table of its own."""
    yield from plan_figures()
    yield from cpu_figures()
    yield from matrix_figures()
    yield from cycle_figures()
    yield from memory_figures()
