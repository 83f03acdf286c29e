"""A town in the making: customers are added transformer by transformer, then become a `Town`.

Ids, serial numbers, meter models and line addresses are given out here, so both
shipped towns follow the same rules.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hil.town.tables import (
    Asset,
    ClimateMonth,
    Element,
    Line,
    RatedUnit,
    ServicePoint,
    Transformer,
)
from hil.town.town import Meter, Town

METERS_A_LINE = 60
FIRST_PHYSICAL_ADDRESS = 17
_MODBUS_SHARE = 0.10


@dataclass(slots=True)
class Customer:
    """A service point to be: what stands behind its meter."""

    node: str
    kind: str
    lon: float
    lat: float
    elements: list[tuple[str, str, float]]
    """(kind, profile, nominal W)."""
    rated_w: int = 0


@dataclass(slots=True)
class Site:
    """A transformer to be, with its lines and customers."""

    transformer: Transformer
    lines: list[Line]
    customers: list[Customer] = field(default_factory=list)

    def scale(self, kind: str, factor: float) -> None:
        """Multiply the nominal power of all elements of a kind, and the rating of plants."""
        for customer in self.customers:
            customer.elements = [
                (k, p, w * factor if k == kind else w) for k, p, w in customer.elements
            ]
            if customer.kind == kind == "plant":
                customer.rated_w = round(customer.rated_w * factor)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a town has besides its sites."""

    about: Mapping[str, Any]
    climate: tuple[ClimateMonth, ...]
    seed: int
    primary_pu: float
    shapes_file: Path
    origin_utc_s: int


def town_of(sites: Sequence[Site], frame: Frame) -> Town:
    """Number everything and put the town together."""
    maker = _Numbers(random.Random(frame.seed))
    transformers: list[Transformer] = []
    for site in sites:
        transformers.append(maker.site(site))
    lon = [p[0] for site in sites for line in site.lines for p in line.points]
    lat = [p[1] for site in sites for line in site.lines for p in line.points]
    bbox = [round(v, 6) for v in (min(lon), min(lat), max(lon), max(lat))]
    return Town(
        about={**frame.about, "bbox": bbox},
        transformers=tuple(transformers),
        assets=tuple(_asset(t, n, frame.seed) for n, t in enumerate(transformers, start=1)),
        lines=tuple(line for site in sites for line in site.lines),
        service_points=tuple(maker.points),
        meters=tuple(maker.meters),
        chargers=tuple(maker.chargers),
        plants=tuple(maker.plants),
        climate=frame.climate,
        elements=tuple(maker.elements),
        seed=frame.seed,
        primary_pu=frame.primary_pu,
        shapes_file=frame.shapes_file,
        origin_utc_s=frame.origin_utc_s,
    )


class _Numbers:
    """Gives out ids and collects the rows."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.points: list[ServicePoint] = []
        self.meters: list[Meter] = []
        self.elements: list[Element] = []
        self.chargers: list[RatedUnit] = []
        self.plants: list[RatedUnit] = []

    def site(self, site: Site) -> Transformer:
        """Number one transformer's meters; returns it with its check meter."""
        lines = _Addresses()
        transformer = site.transformer
        check = self._meter(transformer, None, "transformer_check", "dlms", lines)
        for customer in site.customers:
            model = self._model(customer)
            protocol = "dlms" if model == "idis_residential" else "modbus"
            meter = self._meter(transformer, customer, model, protocol, lines)
            self.elements += [Element(meter.id, k, p, round(w, 1)) for k, p, w in customer.elements]
            unit = (meter.service_point, meter.id, customer.rated_w)
            if customer.kind == "charger":
                self.chargers.append(RatedUnit(f"ch{len(self.chargers) + 1:05d}", *unit))
            if customer.kind == "plant":
                self.plants.append(RatedUnit(f"pv{len(self.plants) + 1:05d}", *unit))
        return replace(transformer, check_meter=check.id, concentrator=transformer.id)

    def _meter(
        self,
        transformer: Transformer,
        customer: Customer | None,
        model: str,
        protocol: str,
        lines: _Addresses,
    ) -> Meter:
        meter_id = f"m{len(self.meters) + 1:06d}"
        point, kind, lon, lat = "", "check", transformer.lon, transformer.lat
        if customer is not None:
            point, kind = f"sp{len(self.points) + 1:06d}", customer.kind
            lon, lat = round(customer.lon, 6), round(customer.lat, 6)
            self.points.append(
                ServicePoint(point, transformer.id, customer.node, kind, lon, lat, meter_id)
            )
        line, address = lines.next(protocol)
        serial = self._serial(protocol, len(self.meters) + 1)
        meter = Meter(
            meter_id, serial, point, transformer.id, protocol, model, line, address, kind, lon, lat
        )
        self.meters.append(meter)
        return meter

    def _model(self, customer: Customer) -> str:
        draw = self._chance.random()
        if customer.kind == "plant":
            return ("eastron_sdm630", "abb_b23_b24", "carlo_gavazzi_em340")[int(draw * 3)]
        if customer.kind == "charger":
            if customer.rated_w < 5000:
                return "eastron_sdm120"
            return ("eastron_sdm630", "abb_b23_b24", "carlo_gavazzi_em340")[int(draw * 3)]
        if draw < _MODBUS_SHARE:
            return "eastron_sdm120" if draw < _MODBUS_SHARE * 0.3 else "eastron_sdm630"
        return "idis_residential"

    @staticmethod
    def _serial(protocol: str, number: int) -> str:
        # Digits alone fit a Modbus serial number register; DIN 43863-5 asks for 14 characters.
        return f"{21_000_000 + number * 7}" if protocol == "modbus" else f"1LSC{number * 7:010d}"


class _Addresses:
    """Serial lines of one concentrator, filled one after the other."""

    def __init__(self) -> None:
        self._given = {"modbus": 0, "dlms": 0}

    def next(self, protocol: str) -> tuple[str, str]:
        line, place = divmod(self._given[protocol], METERS_A_LINE)
        self._given[protocol] += 1
        address = f"{place + 1}" if protocol == "modbus" else f"1/{FIRST_PHYSICAL_ADDRESS + place}"
        return f"{protocol}-{line + 1}", address


def _asset(transformer: Transformer, number: int, seed: int) -> Asset:
    """A unit of drawn age, maker and batch; nothing of it is known of the real place."""
    chance = random.Random(f"{seed} asset {transformer.id}")
    year = int(chance.triangular(1972, 2021, 1996))
    maker = chance.choice(("Maker A", "Maker B", "Maker C"))
    series = chance.choice(("ON", "OT"))
    price_eur = 4000 + 16 * transformer.rated_kva
    return Asset(
        asset_id=f"tr{number:04d}",
        position=transformer.id,
        asset_class="20kV Transformer (GM)",
        manufacturer=maker,
        model=f"{series} {transformer.rated_kva:.0f}/20",
        batch=f"{maker[-1]}{year}-{chance.randint(1, 4)}",
        serial=f"{chance.randint(100_000, 999_999)}",
        manufactured_year=year,
        installed_on=f"{year + chance.randint(0, 1)}-{chance.randint(3, 11):02d}-"
        f"{chance.randint(1, 28):02d}",
        price_eur_cent=math.floor(price_eur) * 100,
        cooling="ONAN",
        indoor=chance.random() < 0.8,
        synthetic=True,
    )
