"""What was made: peaks of the present season, and how far the sweep is from pandapower."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np

from hil.town.draws import Floats
from hil.town.loading import day_loading, node_loads
from hil.town.sweep import Complex, RadialGrid
from hil.town.tables import Line
from hil.town.town import Town

TOLERANCE_V = 0.5
_STEPS = (4, 26, 50, 73, 76)
"""Quarter hours of a UTC day that are checked: night, morning, noon, evening twice."""


def print_peaks(town: Town, days: Sequence[int]) -> None:
    """Print per transformer its peak, its fullest cable and its lowest voltage."""
    homes = [e for e in town.elements if e.kind == "home"]
    print(f"{town.id}: {len(town.transformers)} transformers, {len(town.meters)} meters")
    yearly = {
        name: float(town.shapes.local[row].sum()) / 4e4 for name, row in town.shapes.row.items()
    }
    kwh = [e.nominal_w * yearly[f"{e.profile}_p"] / 1000 for e in homes]
    print(f"  {len(homes)} homes, mean {np.mean(kwh):.0f} kWh a year")
    for transformer in town.transformers:
        figures = [day_loading(town, transformer.id, day) for day in days]
        summer = [day_loading(town, transformer.id, day - 160) for day in days[::3]]
        line, share = max((f.fullest_line for f in figures), key=lambda pair: pair[1])
        print(
            f"  {transformer.id} {transformer.rated_kva:4.0f} kVA "
            f"peak {100 * max(f.peak for f in figures):5.1f} % "
            f"summer {100 * max(f.peak for f in summer):5.1f} % "
            f"back-feed {100 * max(f.back_feed for f in summer):5.1f} % "
            f"fullest cable {line} {100 * share:5.1f} % "
            f"voltage {min(f.lowest_v for f in figures):5.1f} V "
            f"meters {len(town.meters_of(transformer.id))}"
        )


def check_sweep(town: Town, day: dt.date) -> float:
    """Largest difference in V between the sweep and pandapower; prints it."""
    count = (day - dt.date(1970, 1, 1)).days
    worst = 0.0
    for transformer in town.transformers:
        grid = town.grid(transformer.id)
        load_va = node_loads(town, transformer.id, grid, count)[:, _STEPS]
        ours = np.abs(grid.solve(load_va).voltage_v)
        theirs = _pandapower(town, grid, transformer.id, load_va)
        worst = max(worst, float(np.abs(ours - theirs).max()))
    print(f"  sweep against pandapower: {worst:.4f} V at worst, limit {TOLERANCE_V} V")
    return worst


def _pandapower(town: Town, grid: RadialGrid, name: str, load_va: Complex) -> Floats:
    """Phase voltages [node][step] of the same tree and loads by Newton-Raphson."""
    import pandapower as pp

    transformer = town.transformer(name)
    net = pp.create_empty_network()
    high = pp.create_bus(net, transformer.primary_v / 1000)
    buses = [pp.create_bus(net, transformer.secondary_v / 1000) for _ in grid.nodes]
    pp.create_ext_grid(net, high, vm_pu=town.primary_pu)
    pp.create_transformer_from_parameters(
        net, high, buses[0],
        sn_mva=transformer.rated_kva / 1000,
        vn_hv_kv=transformer.primary_v / 1000,
        vn_lv_kv=transformer.secondary_v / 1000,
        vkr_percent=transformer.load_loss_w / transformer.rated_kva / 10,
        vk_percent=transformer.impedance_pct,
        pfe_kw=transformer.no_load_loss_w / 1000,
        i0_percent=0.3,
    )  # fmt: skip
    for line in grid.lines:
        if line is not None:
            _add_line(net, line, grid, buses)
    loads = [pp.create_load(net, bus, 0.0, 0.0) for bus in buses]
    volts = []
    for step in range(load_va.shape[1]):
        net.load.loc[loads, "p_mw"] = load_va[:, step].real / 1e6
        net.load.loc[loads, "q_mvar"] = load_va[:, step].imag / 1e6
        pp.runpp(net, calculate_voltage_angles=False)
        share = net.res_bus.vm_pu.loc[buses].to_numpy()
        volts.append(share * transformer.secondary_v / np.sqrt(3.0))
    return np.asarray(np.stack(volts, axis=1))


def _add_line(net: object, line: Line, grid: RadialGrid, buses: list[int]) -> None:
    import pandapower as pp

    km = line.length_m / 1000
    pp.create_line_from_parameters(
        net, buses[grid.nodes[line.from_node]], buses[grid.nodes[line.to_node]],
        length_km=km, r_ohm_per_km=line.r_ohm / km, x_ohm_per_km=line.x_ohm / km,
        c_nf_per_km=210.0, max_i_ka=line.i_max_a / 1000,
    )  # fmt: skip
