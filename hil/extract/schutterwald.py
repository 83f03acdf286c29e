"""The demo town: the geometry and ratings of pandapower's `lv_schutterwald`, with customers."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from hil.extract.draft import Customer, Site
from hil.extract.sources import HOMES
from hil.extract.tune import Wish
from hil.town.sweep import Complex
from hil.town.tables import Line, Transformer

SEED = 20160148
PRIMARY_PU = 1.02
TITLE = "Schutterwald"
NOTICES = [
    "© OpenStreetMap contributors (ODbL 1.0): positions of buildings and lines, by way of "
    "pandapower's lv_schutterwald (doi 10.3390/en13164052).",
    "Electrical data from pandapower, BSD 3-Clause, © Fraunhofer IEE and University of Kassel.",
    "Contains information from SimBench (https://simbench.de), which is made available under "
    "the Open Database License (ODbL) 1.0.",
    "Contains modified Copernicus Climate Change Service information (ERA5, 2016).",
]
SYNTHETIC_NOTE = (
    "Streets, lines and transformer ratings are those of a real town's model; loads, "
    "chargers, plants, trades, meters and the transformers' identities are simulated."
)

WISHES = {
    "t01": Wish(0.62), "t02": Wish(0.52), "t03": Wish(1.18), "t04": Wish(0.93),
    "t05": Wish(0.70), "t06": Wish(0.60), "t07": Wish(0.50), "t08": Wish(0.82),
    "t09": Wish(0.70), "t10": Wish(0.80), "t11": Wish(1.12, heat_pumps=(0.35, 1.1)),
    "t12": Wish(0.88), "t13": Wish(0.74), "t14": Wish(0.42),
}  # fmt: skip
CHARGER_STREET = "t11"
SUN_STREET = "t02"
HUB = "t14"

_TRADES_EACH = {"t14": 6}
_TRADE_PROFILES = ("G1-A", "G2-A", "G2-A", "G3-A", "G4-A", "G4-B", "G5-A", "G6-A")
_HEAT_PUMP_KINDS = ("Air_Alternative_1", "Air_Parallel_1", "Air_Semi-Parallel_1",
                    "Air_Alternative_2", "Air_Parallel_2", "Air_Semi-Parallel_2",
                    "Soil_Alternative_1", "Soil_Alternative_2")  # fmt: skip
_HOME_KWH, _HOME_SIGMA = 2350.0, 0.45
_HEAT_PUMP_KWH = 3300.0


def sites(hours: dict[str, float]) -> list[Site]:
    """All transformers with their trees and customers; `hours` are full-load hours of shapes."""
    import pandapower.networks

    net = pandapower.networks.lv_schutterwald(include_heat_pumps=True)
    chance = random.Random(SEED)
    node = {bus: f"n{number:04d}" for number, bus in enumerate(net.bus.index, start=1)}
    open_lines = set(net.switch[(net.switch.et == "l") & ~net.switch.closed].element)
    neighbours: dict[int, list[int]] = {}
    for index, line in net.line.iterrows():
        if index not in open_lines:
            neighbours.setdefault(line.from_bus, []).append(index)
            neighbours.setdefault(line.to_bus, []).append(index)
    made = []
    for number, (_, row) in enumerate(net.trafo.iterrows(), start=1):
        transformer = _transformer(net, row, f"t{number:02d}", node)
        buses, lines = _tree(net, row.lv_bus, neighbours, transformer.id, node)
        site = Site(transformer, lines)
        _add_customers(site, net, buses, node, hours, chance)
        made.append(site)
    return made


def prepare(site: Site, by_kind: dict[str, Complex]) -> Wish:
    """The peak that the station is brought to; its rating stays."""
    return WISHES[site.transformer.id]


def _transformer(net: Any, row: Any, name: str, node: dict[int, str]) -> Transformer:
    lon, lat = _point(net.bus.geo[row.lv_bus])
    return Transformer(
        id=name,
        name=f"Station {int(name[1:]):02d}",
        lon=lon,
        lat=lat,
        rated_kva=row.sn_mva * 1000,
        primary_v=row.vn_hv_kv * 1000,
        secondary_v=row.vn_lv_kv * 1000,
        no_load_loss_w=round(row.pfe_kw * 1000, 1),
        load_loss_w=round(row.vkr_percent / 100 * row.sn_mva * 1e6, 1),
        impedance_pct=row.vk_percent,
        station_node=node[row.lv_bus],
        check_meter="",
        concentrator="",
    )


def _tree(
    net: Any, root: int, neighbours: dict[int, list[int]], transformer: str, node: dict[int, str]
) -> tuple[list[int], list[Line]]:
    """Buses below a transformer and the lines to them, each drawn away from the station."""
    buses, seen = [root], {root}
    lines: list[Line] = []
    for bus in buses:
        for index in neighbours.get(bus, []):
            row = net.line.loc[index]
            other = row.to_bus if row.from_bus == bus else row.from_bus
            if other in seen:
                continue
            seen.add(other)
            buses.append(other)
            points = json.loads(row.geo)["coordinates"]
            if row.from_bus != bus:
                points = points[::-1]
            lines.append(
                Line(
                    id=f"{transformer}-l{len(lines) + 1:03d}",
                    transformer=transformer,
                    kind="service" if "4x50" in row.std_type else "main",
                    type=row.std_type,
                    length_m=round(row.length_km * 1000, 1),
                    i_max_a=round(row.max_i_ka * 1000, 1),
                    r_ohm=round(row.r_ohm_per_km * row.length_km, 6),
                    x_ohm=round(row.x_ohm_per_km * row.length_km, 6),
                    from_node=node[bus],
                    to_node=node[other],
                    points=tuple((round(lon, 6), round(lat, 6)) for lon, lat in points),
                )
            )
    return buses, lines


def _add_customers(
    site: Site,
    net: Any,
    buses: list[int],
    node: dict[int, str],
    hours: dict[str, float],
    chance: random.Random,
) -> None:
    on_tree = set(buses)
    loads = net.load[net.load.bus.isin(on_tree)]
    homes = loads[loads.type == "HH"].bus.tolist()
    heated = set(loads[loads.type == "HP"].bus)
    name = site.transformer.id
    for bus in homes:
        lon, lat = _point(net.bus.geo[bus])
        elements = [_home(hours, chance)]
        if bus in heated:
            elements.append(_heat_pump(hours, chance))
        site.customers.append(Customer(node[bus], "household", lon, lat, elements))
    places = [(node[bus], *_point(net.bus.geo[bus])) for bus in homes]
    for place in _some(places, _TRADES_EACH.get(name, max(1, len(homes) // 30)), chance):
        watts = chance.uniform(8000, 24000)
        elements = [("trade", chance.choice(_TRADE_PROFILES), watts)]
        site.customers.append(Customer(place[0], "trade", place[1], place[2], elements))
    _add_chargers(site, places, chance)
    _add_plants(site, places, chance)


def _add_chargers(
    site: Site, places: list[tuple[str, float, float]], chance: random.Random
) -> None:
    name = site.transformer.id
    if name == CHARGER_STREET:
        for place in _neighbouring(site, places, 40):
            site.customers.append(_charger(place, 11000, "HLS_B_11.0", 2))
        return
    if name == HUB:
        for place in _some(places, 10, chance):
            site.customers.append(_charger(place, 22000, "HLS_C_3.7", 4))
    for place in _some(places, round(len(places) * 0.10), chance):
        watts, profile = chance.choice(
            ((3700, "HLS_A_3.7"), (3700, "HLS_B_3.7"), (11000, "HLS_A_11.0"),
             (11000, "HLS_B_11.0"), (11000, "HLS_B_11.0"), (22000, "HLS_A_22.0"))
        )  # fmt: skip
        site.customers.append(_charger(place, watts, profile, 1))


def _add_plants(site: Site, places: list[tuple[str, float, float]], chance: random.Random) -> None:
    sunny = site.transformer.id == SUN_STREET
    count = len(places) - 2 if sunny else round(len(places) * 0.12)
    for place in _some(places, count, chance):
        watts = int(chance.uniform(15000, 25000) if sunny else chance.uniform(3500, 12000))
        watts = watts // 100 * 100
        elements = [("plant", f"PV{chance.randint(1, 8)}", float(watts))]
        site.customers.append(Customer(place[0], "plant", place[1], place[2], elements, watts))


def _charger(place: tuple[str, float, float], watts: int, profile: str, cars: int) -> Customer:
    """A charger; several cars share a busy one, which never gives more than its rating."""
    elements = [("charger", profile, float(watts))] * cars
    return Customer(place[0], "charger", place[1], place[2], elements, watts)


def _home(hours: dict[str, float], chance: random.Random) -> tuple[str, str, float]:
    profile = chance.choice(HOMES)
    spread = math.exp(chance.gauss(0.0, _HOME_SIGMA) - _HOME_SIGMA**2 / 2)
    kwh = min(9000.0, max(600.0, _HOME_KWH * spread))
    return "home", profile, kwh * 1000 / hours[f"{profile}_p"]


def _heat_pump(hours: dict[str, float], chance: random.Random) -> tuple[str, str, float]:
    profile = chance.choice(_HEAT_PUMP_KINDS)
    kwh = _HEAT_PUMP_KWH * chance.uniform(0.6, 1.4)
    return "heat_pump", profile, kwh * 1000 / hours[f"{profile}_p"]


def _some(places: list[Any], count: int, chance: random.Random) -> list[Any]:
    return sorted(chance.sample(places, min(count, len(places))))


def _neighbouring(
    site: Site, places: list[tuple[str, float, float]], count: int
) -> list[tuple[str, float, float]]:
    """The homes around the one nearest to the station: the streets beside it."""
    near = min(places, key=lambda p: _away(p, site.transformer.lon, site.transformer.lat))
    return sorted(places, key=lambda p: _away(p, near[1], near[2]))[:count]


def _away(place: tuple[str, float, float], lon: float, lat: float) -> float:
    return math.hypot((place[1] - lon) * math.cos(math.radians(lat)), place[2] - lat)


def _point(geo: str) -> tuple[float, float]:
    lon, lat = json.loads(geo)["coordinates"]
    return round(lon, 6), round(lat, 6)
