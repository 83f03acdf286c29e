"""The larger city: SimBench's grid `1-MVLV-comm-all-2-sw`, laid out anew around its stations.

SimBench draws its low-voltage grids schematically and gives them no weak
links. Here every tree is drawn around its station's medium-voltage node with
the real cable lengths, and the transformers are chosen from the common sizes so
that most reach 45 to 85 % of their rating and a few more than 100 %.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hil.extract.draft import Customer, Site
from hil.extract.sources import FARMS, HEAT_PUMPS, HOMES, TRADES
from hil.extract.tune import Wish
from hil.town.sweep import Complex
from hil.town.tables import Line, Transformer

GRID = "1-MVLV-comm-all-2-sw"
SEED = 20161001
PRIMARY_PU = 1.02
TITLE = "SimBench city"
NOTICES = [
    "Contains information from SimBench (https://simbench.de), which is made available under "
    "the Open Database License (ODbL) 1.0.",
    "Contains modified Copernicus Climate Change Service information (ERA5, 2016).",
]
SYNTHETIC_NOTE = (
    "Not a real place: SimBench's grid drawn anew around its stations, transformers sized for "
    "the demonstration; loads, meters and the transformers' identities are simulated."
)
DRAWN_SHARE = 0.8
"""Share of a cable's length that its straight line on the map takes."""

_M_PER_DEGREE = 111_320.0
_OVERLOADED, _FULL = 3, 6
_BACK_FEED = "t07"
_SUMMER_SHARE = 0.42
"""Highest feed of many plants together as a share of their ratings, about."""
_THIN_CABLE = "t15-l004"
_THIN = ("NAYY 4x50", 0.642, 0.083, 142.0)
"""Type, ohm per km, ohm per km, A; pandapower's NAYY 4x50 SE."""
_RATING_OF_CHARGER = {3.7: 3700, 11.0: 11000, 22.0: 22000, 50.0: 50000}


@dataclass(frozen=True, slots=True)
class Size:
    """A transformer size with the losses of EN 50464-1 list C0/Ck and 4 % impedance."""

    kva: float
    no_load_w: float
    load_w: float


SIZES = (
    Size(50, 125, 1100),
    Size(100, 210, 1750),
    Size(160, 300, 2350),
    Size(250, 425, 3250),
    Size(400, 610, 4600),
    Size(630, 860, 6500),
)


def sites(hours: dict[str, float]) -> list[Site]:
    """All stations with their trees and customers; SimBench's nominal powers are kept."""
    import simbench

    net = simbench.get_simbench_net(GRID)
    del net["profiles"]
    chance = random.Random(SEED)
    low = net.trafo[net.trafo.vn_lv_kv < 1.0]
    below = _neighbours(net)
    behind = {
        "load": dict(list(net.load.groupby("bus"))),
        "sgen": dict(list(net.sgen.groupby("bus"))),
    }
    made = []
    for number, (_, row) in enumerate(low.iterrows(), start=1):
        site, buses = _station(net, row, f"t{number:02d}", below)
        _add_customers(site, buses, behind, chance)
        made.append(site)
    return made


def prepare(site: Site, by_kind: dict[str, Complex]) -> Wish:
    """Choose the station's transformer and say how far its customers may be scaled."""
    chance = random.Random(f"{SEED} {site.transformer.id}")
    number = int(site.transformer.id[1:])
    wished = chance.uniform(0.52, 0.80)
    if number % 13 == 3:
        wished = chance.uniform(0.87, 0.98)
    if number in (11, 38, 64)[:_OVERLOADED]:
        wished = chance.uniform(1.08, 1.25)
    peak_kva = float(np.abs(sum(by_kind.values())).max()) / 1000.0
    size = min(SIZES, key=lambda s: abs(math.log(peak_kva / s.kva / wished)))
    site.transformer = replace(
        site.transformer,
        rated_kva=size.kva,
        no_load_loss_w=size.no_load_w,
        load_loss_w=size.load_w,
        impedance_pct=4.0,
    )
    _fit_plants(site, size.kva)
    narrow = (0.75, 1.35)
    return Wish(wished, heat_pumps=narrow, trades=narrow, homes=(0.85, 1.15))


def _fit_plants(site: Site, kva: float) -> None:
    """Keep the sun's feed below the rating, but for one station that it fills."""
    summer_kva = _SUMMER_SHARE * sum(c.rated_w for c in site.customers if c.kind == "plant") / 1e3
    if site.transformer.id == _BACK_FEED:
        site.scale("plant", 1.10 * kva / summer_kva)
    elif summer_kva > 0.60 * kva:
        site.scale("plant", 0.60 * kva / summer_kva)


def _neighbours(net: Any) -> dict[int, list[Any]]:
    open_lines = set(net.switch[(net.switch.et == "l") & ~net.switch.closed].element)
    below: dict[int, list[Any]] = {}
    for row in net.line.itertuples():
        if row.Index not in open_lines:
            below.setdefault(row.from_bus, []).append(row)
            below.setdefault(row.to_bus, []).append(row)
    return below


def _station(
    net: Any, row: Any, name: str, below: dict[int, list[Any]]
) -> tuple[Site, dict[int, tuple[float, float]]]:
    """A station at its medium-voltage node, with its tree drawn around it."""
    lon, lat = json.loads(net.bus.geo[row.hv_bus])["coordinates"]
    transformer = Transformer(
        id=name,
        name=f"Station {int(name[1:]):02d}",
        lon=round(lon, 5),
        lat=round(lat, 5),
        rated_kva=row.sn_mva * 1000,
        primary_v=row.vn_hv_kv * 1000,
        secondary_v=row.vn_lv_kv * 1000,
        no_load_loss_w=row.pfe_kw * 1000,
        load_loss_w=round(row.vkr_percent / 100 * row.sn_mva * 1e6, 1),
        impedance_pct=row.vk_percent,
        station_node=f"n{row.lv_bus}",
        check_meter="",
        concentrator="",
    )
    tree = _tree(row.lv_bus, below)
    places = _radial_places(row.lv_bus, tree, (transformer.lon, transformer.lat))
    lines: list[Line] = []
    for bus, branches in tree.items():
        for child, line in branches:
            lines.append(_line(name, len(lines) + 1, line, bus, child, places, not tree[child]))
    return Site(transformer, lines), places


def _tree(root: int, below: dict[int, list[Any]]) -> dict[int, list[tuple[int, Any]]]:
    """Children of every bus with the line to them, breadth first."""
    tree: dict[int, list[tuple[int, Any]]] = {root: []}
    waiting = [root]
    for bus in waiting:
        for line in below.get(bus, []):
            other = line.to_bus if line.from_bus == bus else line.from_bus
            if other not in tree:
                tree[other] = []
                tree[bus].append((other, line))
                waiting.append(other)
    return tree


def _radial_places(
    root: int, tree: dict[int, list[tuple[int, Any]]], centre: tuple[float, float]
) -> dict[int, tuple[float, float]]:
    """Each subtree gets a sector as wide as it has ends; cables keep their length x 0.8."""
    ends: dict[int, int] = {}
    for bus in reversed(tree):
        ends[bus] = sum(ends[child] for child, _ in tree[bus]) or 1
    places = {root: centre}
    sectors = {root: (0.0, 2 * math.pi)}
    for bus in tree:
        start, stop = sectors[bus]
        for child, line in tree[bus]:
            width = (stop - start) * ends[child] / max(ends[bus], 1)
            sectors[child] = (start, start + width)
            angle = start + width / 2
            start += width
            reach = line.length_km * 1000 * DRAWN_SHARE / _M_PER_DEGREE
            lon, lat = places[bus]
            places[child] = (
                lon + reach * math.cos(angle) / math.cos(math.radians(lat)),
                lat + reach * math.sin(angle),
            )
    return {bus: (round(lon, 5), round(lat, 5)) for bus, (lon, lat) in places.items()}


def _line(
    name: str,
    number: int,
    row: Any,
    bus: int,
    child: int,
    places: dict[int, tuple[float, float]],
    last: bool,
) -> Line:
    line_id = f"{name}-l{number:03d}"
    cable = (row.std_type.split("SE")[0], row.r_ohm_per_km, row.x_ohm_per_km, row.max_i_ka * 1000)
    if line_id == _THIN_CABLE:
        cable = _THIN
    return Line(
        id=line_id,
        transformer=name,
        kind="service" if last else "main",
        type=cable[0],
        length_m=round(row.length_km * 1000, 1),
        i_max_a=round(cable[3], 1),
        r_ohm=round(cable[1] * row.length_km, 6),
        x_ohm=round(cable[2] * row.length_km, 6),
        from_node=f"n{bus}",
        to_node=f"n{child}",
        points=(places[bus], places[child]),
    )


def _add_customers(
    site: Site,
    places: dict[int, tuple[float, float]],
    behind: dict[str, dict[int, Any]],
    chance: random.Random,
) -> None:
    """One customer per load point; a heat pump goes behind a home of its bus where there is one."""
    for bus, place in places.items():
        loads = behind["load"].get(bus)
        if loads is not None:
            _add_loads(site, f"n{bus}", place, loads)
        plants = behind["sgen"].get(bus)
        for row in () if plants is None else plants.itertuples():
            watts = round(row.p_mw * 1e6 / 100) * 100
            elements = [("plant", row.profile, float(watts))]
            site.customers.append(Customer(f"n{bus}", "plant", *place, elements, watts))
    chance.shuffle(site.customers)


def _add_loads(site: Site, node: str, place: tuple[float, float], loads: Any) -> None:
    homes: list[Customer] = []
    heat_pumps = []
    for row in loads.itertuples():
        watts = row.p_mw * 1e6
        if row.profile in HOMES:
            homes.append(Customer(node, "household", *place, [("home", row.profile, watts)]))
        elif row.profile in HEAT_PUMPS:
            heat_pumps.append(("heat_pump", row.profile, watts))
        elif row.profile in (*TRADES, *FARMS):
            site.customers.append(Customer(node, "trade", *place, [("trade", row.profile, watts)]))
        else:
            rated = _RATING_OF_CHARGER[float(row.profile.rsplit("_", 1)[1])]
            elements = [("charger", row.profile, float(rated))]
            site.customers.append(Customer(node, "charger", *place, elements, rated))
    for number, heat_pump in enumerate(heat_pumps):
        if homes:
            homes[number % len(homes)].elements.append(heat_pump)
        else:
            site.customers.append(Customer(node, "trade", *place, [heat_pump]))
    site.customers += homes
