"""Voltages of a radial low-voltage grid by backward-forward sweep, many steps at once.

Balanced three-phase; loads draw constant power; the 20 kV side is fixed and
the transformer's short-circuit impedance lies between it and the busbar. Line
charging and the magnetising branch are left out: they move a voltage here by
less than 0.05 V. Nodes stand in depth-first order, where the currents of all
subtrees and the drops along all paths are differences of running sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.town.tables import Line, Transformer

Complex = NDArray[np.complex128]
Ints = NDArray[np.int64]

_TOLERANCE_V = 1e-4
_MOST_SWEEPS = 40


class NotRadial(ValueError):
    """The lines do not form one tree below the transformer."""


class VoltageCollapse(ArithmeticError):
    """The sweep found no voltage: the loads ask for more than the grid can carry."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Phase voltages in volts [node][step] and the power at the busbar in VA [step]."""

    voltage_v: Complex
    busbar_va: Complex
    line_a: NDArray[np.float64]
    """Phase current of the line above each node, A; row 0 is the transformer's."""


class RadialGrid:
    """The tree below one transformer; `nodes` gives the row of each node."""

    def __init__(
        self, transformer: Transformer, lines: Iterable[Line], *, primary_pu: float
    ) -> None:
        order, parent_line = _depth_first(transformer.station_node, lines)
        self.nodes: dict[str, int] = {node: row for row, node in enumerate(order)}
        self.lines: list[Line | None] = [parent_line[node] for node in order]
        self._open_v = primary_pu * transformer.secondary_v / math.sqrt(3.0)
        self._impedance = np.array(
            [
                short_circuit_ohm(transformer) if line is None else complex(line.r_ohm, line.x_ohm)
                for line in self.lines
            ]
        )[:, None]
        self._after = self._subtree_ends()
        self._leaving = np.argsort(self._after, kind="stable")
        self._left_before = np.searchsorted(
            self._after[self._leaving], np.arange(len(order)), side="right"
        )

    def _subtree_ends(self) -> Ints:
        size = np.ones(len(self.lines), dtype=np.int64)
        for row in range(len(self.lines) - 1, 0, -1):
            line = self.lines[row]
            assert line is not None
            ends = (self.nodes[line.from_node], self.nodes[line.to_node])
            size[min(ends)] += size[row]
        return np.arange(len(self.lines)) + size

    def solve(self, load_va: Complex) -> Solution:
        """Voltages for loads in VA [node][step], all three phases together; import is positive."""
        phase_va = load_va / 3.0
        voltage = np.full(load_va.shape, self._open_v, dtype=np.complex128)
        for _ in range(_MOST_SWEEPS):
            current = self._line_currents(np.conj(phase_va / voltage))
            risen = self._open_v - self._drops(current * self._impedance)
            change_v = float(np.abs(risen - voltage).max())
            voltage = risen
            if not change_v < 1e6:
                break
            if change_v < _TOLERANCE_V:
                current = self._line_currents(np.conj(phase_va / voltage))
                busbar_va = 3.0 * voltage[0] * np.conj(current[0])
                return Solution(voltage, busbar_va, np.abs(current))
        raise VoltageCollapse(
            f"expected the sweep to settle within {_MOST_SWEEPS} rounds, it did not; "
            f"the largest load of a step is {np.abs(load_va.sum(axis=0)).max() / 1000:.0f} kVA: "
            "lower the loads of the town"
        )

    def _line_currents(self, node_a: Complex) -> Complex:
        running = np.zeros((node_a.shape[0] + 1, node_a.shape[1]), dtype=np.complex128)
        np.cumsum(node_a, axis=0, out=running[1:])
        return np.asarray(running[self._after] - running[:-1])

    def _drops(self, drop_v: Complex) -> Complex:
        entered = np.cumsum(drop_v, axis=0)
        left = np.zeros((drop_v.shape[0] + 1, drop_v.shape[1]), dtype=np.complex128)
        np.cumsum(drop_v[self._leaving], axis=0, out=left[1:])
        return np.asarray(entered - left[self._left_before])


def short_circuit_ohm(transformer: Transformer) -> complex:
    """Series impedance of one phase, seen from the low-voltage side."""
    rated_va = transformer.rated_kva * 1000.0
    base_ohm = transformer.secondary_v**2 / rated_va
    resistance = transformer.load_loss_w / rated_va
    reactance = math.sqrt((transformer.impedance_pct / 100.0) ** 2 - resistance**2)
    return complex(resistance, reactance) * base_ohm


def _depth_first(root: str, lines: Iterable[Line]) -> tuple[list[str], dict[str, Line | None]]:
    """Nodes so that a subtree is one run of rows, and the line above each node."""
    beside: dict[str, list[Line]] = {}
    count = 0
    for line in lines:
        beside.setdefault(line.from_node, []).append(line)
        beside.setdefault(line.to_node, []).append(line)
        count += 1
    above: dict[str, Line | None] = {root: None}
    order: list[str] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        for line in beside.get(node, []):
            other = line.to_node if line.from_node == node else line.from_node
            if line is above[node]:
                continue
            if other in above:
                raise NotRadial(f"line {line.id} closes a loop at node {other}; open it")
            above[other] = line
            waiting.append(other)
    if len(order) != count + 1:
        raise NotRadial(
            f"expected {count} lines to reach {count + 1} nodes below {root}, "
            f"they reach {len(order)}: some lines hang on no transformer"
        )
    return order, above
