"""`./dev bench`: measures the parts asked for, prints a table, writes JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hil.bench.figure import Figure

Part = Callable[[], Iterator[Figure | str]]
"""Yields figures, and text that is printed between them."""


def _chain() -> Iterator[Figure | str]:
    from hil.bench.agent import agent_figures
    from hil.bench.aggregate import aggregate_figures
    from hil.bench.central import central_figures

    yield from aggregate_figures()
    yield from central_figures()
    yield from agent_figures()


def _block() -> Iterator[Figure | str]:
    from hil.bench.block import block_figures
    from hil.bench.envelope import envelope_figures

    yield from block_figures()
    yield from envelope_figures()


def _modbus() -> Iterator[Figure | str]:
    from hil.bench.modbus import modbus_figures

    yield from modbus_figures()


def _dlms() -> Iterator[Figure | str]:
    from hil.bench.dlms import dlms_figures

    yield from dlms_figures()


def _powercut() -> Iterator[Figure | str]:
    from hil.bench.powercut import powercut_figures

    yield from powercut_figures()


def _store() -> Iterator[Figure | str]:
    from hil.bench.flash import flash_figures

    yield from flash_figures()


def _wire() -> Iterator[Figure | str]:
    from hil.bench.wire_month import wire_figures

    yield from wire_figures()


PARTS: Mapping[str, Part] = {
    "block": _block,
    "chain": _chain,
    "dlms": _dlms,
    "modbus": _modbus,
    "powercut": _powercut,
    "store": _store,
    "wire": _wire,
}


def run_bench(part: str | None, json_file: Path | None, parts: Mapping[str, Part] = PARTS) -> int:
    """Measure `part` of `parts` (None: all); print a table and write JSON.

    Returns 0: every figure keeps its limit, 1: one does not, 2: there is no
    such part. If a part cannot be measured its error is raised, and the JSON
    holds what was measured until then.
    """
    if part is not None and part not in parts:
        print(f"bench: there is no part {part!r}; choose of: {', '.join(parts)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    print(_row("figure", "value", "unit", "limit", "peer", ""))
    try:
        for name in [part] if part else list(parts):
            for figure in parts[name]():
                if isinstance(figure, str):
                    print(f"\n{figure}\n", flush=True)
                    continue
                figures.append(figure)
                print(_line(figure), flush=True)
    finally:
        if json_file is not None:
            text = json.dumps([_as_json(figure) for figure in figures], indent=1)
            json_file.write_text(text + "\n")
    missed = [figure.name for figure in figures if not figure.keeps_limit]
    if missed:
        print(f"bench: limit missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


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
    limit = "-"
    if figure.limit is not None:
        limit = ("<= " if figure.better == "lower" else ">= ") + _number(figure.limit)
    peer = "-"
    if figure.peer is not None:
        measured = "not measured" if figure.peer_value is None else _number(figure.peer_value)
        peer = f"{figure.peer}: {measured}"
    verdict = "" if figure.keeps_limit else "LIMIT MISSED"
    return _row(figure.name, _number(figure.value), figure.unit, limit, peer, verdict)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(name: str, value: str, unit: str, limit: str, peer: str, verdict: str) -> str:
    return f"{name:26} {value:>12} {unit:22} {limit:>9}  {peer:48} {verdict}".rstrip()
