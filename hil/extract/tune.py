"""Bring transformers to a wished peak by scaling their customers, never their ratings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hil.extract.draft import Site
from hil.town.sweep import Complex
from hil.town.town import Town

SEASON_DAYS = 14


@dataclass(frozen=True, slots=True)
class Wish:
    """Peak of the present season as a share of the rating, and how far each kind may be scaled."""

    peak: float
    heat_pumps: tuple[float, float] = (0.35, 1.6)
    trades: tuple[float, float] = (0.2, 2.5)
    homes: tuple[float, float] = (1.0, 1.0)


def days_of_season(first: dt.date) -> range:
    """Days since 1970-01-01 that the peaks are looked for in."""
    start = (first - dt.date(1970, 1, 1)).days
    return range(start, start + SEASON_DAYS)


def apparent_by_kind(town: Town, transformer: str, days: Sequence[int]) -> dict[str, Complex]:
    """Complex power of each kind of element, all customers together, per step (VA)."""
    meters = {m.id for m in town.meters_of(transformer)}
    kinds = sorted({e.kind for e in town.elements if e.meter in meters})
    totals = {}
    for kind in kinds:
        part = _only(town, kind)
        _, loads = part.loads(transformer)
        powers = [loads.power(day) for day in days]
        totals[kind] = np.concatenate(
            [p.active_w.sum(axis=0) + 1j * p.reactive_var.sum(axis=0) for p in powers]
        )
    return totals


def tune(site: Site, wish: Wish, by_kind: dict[str, Complex]) -> float:
    """Scale trades, then heat pumps, then homes toward the wish; returns the peak reached."""
    rated_va = site.transformer.rated_kva * 1000.0
    scales = dict.fromkeys(by_kind, 1.0)

    def peak() -> float:
        total = sum(by_kind[kind] * scales[kind] for kind in by_kind)
        return float(np.abs(total).max()) / rated_va

    bounds = (("trade", wish.trades), ("heat_pump", wish.heat_pumps), ("home", wish.homes))
    for kind, (low, high) in bounds:
        if kind not in by_kind:
            continue
        for _ in range(30):
            scales[kind] = (low + high) / 2
            if peak() < wish.peak:
                low = scales[kind]
            else:
                high = scales[kind]
        site.scale(kind, scales[kind])
    return peak()


def _only(town: Town, kind: str) -> Town:
    """The same town with the elements of other kinds drawing nothing; draws stay the same."""
    elements = tuple(e if e.kind == kind else replace(e, nominal_w=0.0) for e in town.elements)
    return replace(town, elements=elements)
