"""`./dev bench`: measures the parts asked for, prints a table, writes JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hil.bench.figure import Figure


def _chain() -> Iterator[Figure]:
    from hil.bench.agent import agent_figures
    from hil.bench.aggregate import aggregate_figures
    from hil.bench.block import block_figures
    from hil.bench.central import central_figures

    yield from block_figures()
    yield from aggregate_figures()
    yield from central_figures()
    yield from agent_figures()


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {"chain": _chain}


def run_bench(part: str | None, json_file: Path | None) -> int:
    """Measure `part` (None: all); 0: every figure keeps its limit, 1: one does not, 2: no such part."""
    if part is not None and part not in PARTS:
        print(f"bench: there is no part {part!r}; choose of: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    print(_row("figure", "value", "unit", "limit", "peer", ""))
    for name in [part] if part else list(PARTS):
        for figure in PARTS[name]():
            figures.append(figure)
            print(_line(figure), flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps([_as_json(figure) for figure in figures], indent=1) + "\n")
    return 0 if all(figure.keeps_limit for figure in figures) else 1


def _as_json(figure: Figure) -> dict[str, str | float | None]:
    return {
        "name": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "limit": figure.limit,
        "peer": figure.peer,
        "peer_value": figure.peer_value,
    }


def _line(figure: Figure) -> str:
    limit = ""
    if figure.limit is not None:
        limit = ("<= " if figure.better == "lower" else ">= ") + _number(figure.limit)
    peer = ""
    if figure.peer is not None:
        measured = "not measured" if figure.peer_value is None else _number(figure.peer_value)
        peer = f"{figure.peer}: {measured}"
    verdict = "" if figure.keeps_limit else "LIMIT MISSED"
    return _row(figure.name, _number(figure.value), figure.unit, limit, peer, verdict)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(name: str, value: str, unit: str, limit: str, peer: str, verdict: str) -> str:
    return f"{name:34} {value:>12} {unit:24} {limit:>10}  {peer:44} {verdict}".rstrip()
