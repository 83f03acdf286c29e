"""The backward-forward sweep solves grids whose answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hil.town.sweep import NotRadial, RadialGrid, VoltageCollapse, short_circuit_ohm
from hil.town.tables import Line, Transformer

STATION = Transformer(
    "t01", "Station", 0.0, 0.0, 400.0, 20_000.0, 400.0, 1350.0, 5700.0, 6.0, "a", "m000001", "t01"
)


def _line(name: str, start: str, end: str, ohm: complex) -> Line:
    return Line(
        name, "t01", "main", "cable", 100.0, 270.0, ohm.real, ohm.imag, start, end, ((0, 0), (1, 1))
    )


def test_without_load_every_node_stands_at_the_open_voltage() -> None:
    grid = RadialGrid(STATION, [_line("1", "a", "b", 0.1 + 0j)], primary_pu=1.02)
    volts = np.abs(grid.solve(np.zeros((2, 3), dtype=complex)).voltage_v)
    assert volts == pytest.approx(np.full((2, 3), 1.02 * 400 / math.sqrt(3)))


def test_each_node_obeys_ohms_law_and_the_busbar_carries_load_and_losses() -> None:
    lines = [
        _line("1", "a", "b", 0.02 + 0.01j),
        _line("2", "b", "c", 0.05 + 0.01j),
        _line("3", "d", "b", 0.04 + 0.01j),
        _line("4", "a", "e", 0.03 + 0.02j),
    ]
    grid = RadialGrid(STATION, lines, primary_pu=1.0)
    load = np.zeros((5, 2), dtype=complex)
    for node, va in {"c": 12_000 + 3000j, "d": -20_000 + 0j, "e": 30_000 + 9000j}.items():
        load[grid.nodes[node]] = [va, va / 2]
    solution = grid.solve(load)
    volts = {node: solution.voltage_v[row, 0] for node, row in grid.nodes.items()}
    amps = {n: np.conj(load[r, 0] / 3 / volts[n]) for n, r in grid.nodes.items()}
    assert volts["b"] - volts["c"] == pytest.approx((0.05 + 0.01j) * amps["c"], abs=1e-3)
    assert volts["b"] - volts["d"] == pytest.approx((0.04 + 0.01j) * amps["d"], abs=1e-3)
    assert volts["a"] - volts["e"] == pytest.approx((0.03 + 0.02j) * amps["e"], abs=1e-3)
    total = amps["c"] + amps["d"] + amps["e"]
    open_v = 400 / math.sqrt(3)
    assert open_v - volts["a"] == pytest.approx(short_circuit_ohm(STATION) * total, abs=1e-3)
    assert solution.busbar_va[0].real > load[:, 0].sum().real


def test_a_loop_and_a_stray_line_are_refused() -> None:
    loop = [_line("1", "a", "b", 0.1j), _line("2", "b", "c", 0.1j), _line("3", "c", "a", 0.1j)]
    with pytest.raises(NotRadial, match="loop"):
        RadialGrid(STATION, loop, primary_pu=1.0)
    with pytest.raises(NotRadial, match="hang on no transformer"):
        RadialGrid(STATION, [_line("1", "x", "y", 0.1j)], primary_pu=1.0)


def test_a_load_beyond_what_the_grid_can_carry_is_told_not_guessed() -> None:
    grid = RadialGrid(STATION, [_line("1", "a", "b", 1 + 1j)], primary_pu=1.0)
    with pytest.raises(VoltageCollapse):
        grid.solve(np.array([[0.0], [900_000.0]], dtype=complex))
