"""The definitions of the map's layers, read from `layers.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what it shows, in which unit and in which classes."""

    id: str
    title: str
    unit: str
    description: str
    breaks: tuple[float, ...]
    """Limits between the classes, in `unit`."""
    resolution: float
    """Step of the stored values, in `unit`."""
    palette: str


@cache
def layers() -> tuple[Layer, ...]:
    """All layers in the order in which the page offers them."""
    document = tomllib.loads((Path(__file__).parent / "layers.toml").read_text(encoding="utf-8"))
    return tuple(
        Layer(
            id=entry["id"],
            title=entry["title"],
            unit=entry["unit"],
            description=entry["description"],
            breaks=tuple(float(limit) for limit in entry["breaks"]),
            resolution=float(entry["resolution"]),
            palette=entry["palette"],
        )
        for entry in document["layer"]
    )
