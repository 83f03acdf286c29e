"""A town: its grid files, its meters and what they show.

A town is read from a folder with `grid/` (the open files that the centre loads
too) and `load/` (shapes and elements, which only the simulated meters know).
Nothing is simulated until a meter is asked.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hil.town.faces import DAY_S, MeterFace, TransformerFaces
from hil.town.loads import CustomerLoads
from hil.town.shapes import Shapes, read_shapes
from hil.town.sweep import RadialGrid
from hil.town.tables import (
    Asset,
    ClimateMonth,
    Element,
    Line,
    MeterRow,
    RatedUnit,
    ServicePoint,
    TownFileError,
    Transformer,
    read_lines,
    read_table,
    write_lines,
    write_table,
)

TOWNS = Path(__file__).parent.parent / "towns"
DEFAULT_HISTORY_DAYS = 36


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter with its place and its address on a serial line of its concentrator."""

    id: str
    serial: str
    service_point: str
    transformer: str
    protocol: str
    model: str
    line: str
    address: str
    kind: str
    """household, trade, charger, plant or check."""
    lon: float
    lat: float

    @property
    def unit(self) -> int:
        """Modbus unit id; raises `TownFileError` on a DLMS meter."""
        if self.protocol != "modbus":
            raise TownFileError(f"meter {self.id} speaks {self.protocol}: it has no Modbus unit id")
        return int(self.address)

    @property
    def server_address(self) -> str:
        """DLMS logical/physical server address like 1/17; raises on a Modbus meter."""
        if self.protocol != "dlms":
            raise TownFileError(f"meter {self.id} speaks {self.protocol}: it has no server address")
        return self.address


@dataclass(frozen=True)
class Town:
    """Everything of one town; `shown` gives the faces of a transformer's meters."""

    about: Mapping[str, Any]
    """The content of grid/town.json."""
    transformers: tuple[Transformer, ...]
    assets: tuple[Asset, ...]
    lines: tuple[Line, ...]
    service_points: tuple[ServicePoint, ...]
    meters: tuple[Meter, ...]
    chargers: tuple[RatedUnit, ...]
    plants: tuple[RatedUnit, ...]
    climate: tuple[ClimateMonth, ...]
    elements: tuple[Element, ...]
    seed: int
    primary_pu: float
    """Voltage of the 20 kV side, referred to the rated ratio."""
    shapes_file: Path
    """Shapes of 2016; the shipped towns share one file."""
    origin_utc_s: int
    """The instant at which the simulated town begins; a UTC midnight."""

    @property
    def id(self) -> str:
        return str(self.about["id"])

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.about["timezone"])

    @cached_property
    def shapes(self) -> Shapes:
        return read_shapes(self.shapes_file, self.zone)

    @cached_property
    def _faces(self) -> dict[str, TransformerFaces]:
        return {}

    def transformer(self, transformer_id: str) -> Transformer:
        """The transformer of that id; raises KeyError when the town has none."""
        for transformer in self.transformers:
            if transformer.id == transformer_id:
                return transformer
        raise KeyError(
            f"{self.id} has no transformer {transformer_id!r}, "
            f"only {self.transformers[0].id} to {self.transformers[-1].id}"
        )

    def meters_of(self, transformer_id: str) -> tuple[Meter, ...]:
        """All meters of one transformer, the check meter among them."""
        return tuple(meter for meter in self.meters if meter.transformer == transformer_id)

    def shown(self, transformer_id: str) -> dict[str, MeterFace]:
        """What each meter of a transformer shows, by meter id; worked out when asked."""
        return self.simulation(transformer_id).faces()

    def simulation(self, transformer_id: str) -> TransformerFaces:
        """The simulated meters of one transformer, all together."""
        if transformer_id not in self._faces:
            self._faces[transformer_id] = self._simulate(self.transformer(transformer_id))
        return self._faces[transformer_id]

    def grid(self, transformer_id: str) -> RadialGrid:
        """The cable tree below one transformer."""
        lines = [line for line in self.lines if line.transformer == transformer_id]
        return RadialGrid(self.transformer(transformer_id), lines, primary_pu=self.primary_pu)

    def loads(self, transformer_id: str) -> tuple[tuple[Meter, ...], CustomerLoads]:
        """The customers' meters of a transformer in row order, and their loads."""
        customers = tuple(m for m in self.meters_of(transformer_id) if m.kind != "check")
        rows = {meter.id: row for row, meter in enumerate(customers)}
        limits = {c.meter: float(c.rated_w) for c in self.chargers if c.meter in rows}
        elements = [element for element in self.elements if element.meter in rows]
        return customers, CustomerLoads(elements, rows, limits, self.shapes, self.zone, self.seed)

    def subset(self, transformers: Sequence[str], meters_per_transformer: int) -> Town:
        """A small town of some transformers, with chargers, plants and both protocols in it.

        Each transformer keeps its check meter and `meters_per_transformer` - 1
        customers, which show what they show in the large town but for the voltage.
        """
        from hil.town.small import kept_meters

        kept = kept_meters(self, transformers, meters_per_transformer)
        return replace(
            self,
            about={**self.about, "title": f"{self.about['title']} (part)"},
            transformers=tuple(self.transformer(transformer) for transformer in transformers),
            assets=tuple(a for a in self.assets if a.position in transformers),
            lines=tuple(line for line in self.lines if line.transformer in transformers),
            service_points=tuple(s for s in self.service_points if s.meter in kept),
            meters=tuple(m for m in self.meters if m.id in kept),
            chargers=tuple(c for c in self.chargers if c.meter in kept),
            plants=tuple(p for p in self.plants if p.meter in kept),
            elements=tuple(e for e in self.elements if e.meter in kept),
        )

    def write_grid(self, folder: Path) -> None:
        """Write the grid files, as `loadscape-central grid load` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.about, indent=2, ensure_ascii=False)
        (folder / "town.json").write_text(text + "\n", encoding="utf-8")
        write_table(folder / "transformers.csv", Transformer, self.transformers)
        write_table(folder / "assets.csv", Asset, self.assets)
        write_lines(folder / "lines.geojson", self.lines)
        write_table(folder / "service_points.csv", ServicePoint, self.service_points)
        rows = [
            MeterRow(
                m.id, m.serial, m.service_point, m.transformer, m.protocol, m.model, m.line,
                m.address,
            )
            for m in self.meters
        ]  # fmt: skip
        write_table(folder / "meters.csv", MeterRow, rows)
        write_table(folder / "chargers.csv", RatedUnit, self.chargers)
        write_table(folder / "plants.csv", RatedUnit, self.plants)
        write_table(folder / "climate.csv", ClimateMonth, self.climate)

    def _simulate(self, transformer: Transformer) -> TransformerFaces:
        customers, loads = self.loads(transformer.id)
        grid = self.grid(transformer.id)
        node_of_meter = {point.meter: point.node for point in self.service_points}
        check = [meter for meter in self.meters_of(transformer.id) if meter.kind == "check"]
        return TransformerFaces(
            [*customers, *check],
            [grid.nodes[node_of_meter[meter.id]] for meter in customers],
            loads,
            grid,
            seed=self.seed,
            origin_utc_s=self.origin_utc_s,
        )


def load_town(name_or_dir: str | Path, *, origin_utc_s: int | None = None) -> Town:
    """Read a shipped town by name (`schutterwald`, `city`) or a folder with grid/ and load/.

    The simulated meters begin at `origin_utc_s`, brought down to a UTC midnight;
    they hold load profile from there on. Left out, it is 36 days before today.
    Every process of one demo must be given the same origin.
    """
    folder = _folder_of(name_or_dir)
    grid = folder / "grid"
    about = json.loads((grid / "town.json").read_text(encoding="utf-8"))
    simulation = json.loads((folder / "load" / "load.json").read_text(encoding="utf-8"))
    points = read_table(grid / "service_points.csv", ServicePoint)
    transformers = read_table(grid / "transformers.csv", Transformer)
    if origin_utc_s is None:
        origin_utc_s = int(time.time()) - DEFAULT_HISTORY_DAYS * DAY_S
    return Town(
        about=about,
        transformers=transformers,
        assets=read_table(grid / "assets.csv", Asset),
        lines=read_lines(grid / "lines.geojson"),
        service_points=points,
        meters=_meters(read_table(grid / "meters.csv", MeterRow), points, transformers),
        chargers=read_table(grid / "chargers.csv", RatedUnit),
        plants=read_table(grid / "plants.csv", RatedUnit),
        climate=read_table(grid / "climate.csv", ClimateMonth),
        elements=read_table(folder / "load" / "elements.csv", Element),
        seed=int(simulation["seed"]),
        primary_pu=float(simulation["primary_pu"]),
        shapes_file=(folder / "load" / simulation["shapes"]).resolve(),
        origin_utc_s=origin_utc_s // DAY_S * DAY_S,
    )


def midnight_utc_s(year: int, month: int, day: int) -> int:
    """A UTC midnight, s since 1970; for a town's origin."""
    return int(dt.datetime(year, month, day, tzinfo=dt.UTC).timestamp())


def _folder_of(name_or_dir: str | Path) -> Path:
    for folder in (TOWNS / str(name_or_dir), Path(name_or_dir)):
        if (folder / "grid" / "town.json").is_file():
            return folder
    known = sorted(p.parent.parent.name for p in TOWNS.glob("*/grid/town.json"))
    raise TownFileError(
        f"no town {str(name_or_dir)!r}: expected one of {', '.join(known)} "
        "or a folder with grid/town.json"
    )


def _meters(
    rows: Sequence[MeterRow], points: Sequence[ServicePoint], transformers: Sequence[Transformer]
) -> tuple[Meter, ...]:
    point_of = {point.id: point for point in points}
    site_of = {transformer.id: transformer for transformer in transformers}
    meters = []
    for row in rows:
        point = point_of.get(row.service_point)
        if point is None and row.service_point:
            raise TownFileError(f"meter {row.id}: no service point {row.service_point}")
        kind = "check" if point is None else point.kind
        site = site_of[row.transformer] if point is None else point
        meters.append(
            Meter(
                row.id, row.serial, row.service_point, row.transformer, row.protocol, row.model,
                row.line, row.address, kind, site.lon, site.lat,
            )
        )  # fmt: skip
    return tuple(meters)
