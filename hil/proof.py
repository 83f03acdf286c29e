"""Does central hold what the meters kept? Compares its readings with the meters' own ledger.

Two claims. A meter with a load profile: every interval is there and equal to
the meter's own, to the Wh. A meter without one: every interval since the
first is either there or reported missing; each stored raw register is one
that the meter showed at that instant, and each register at an edge lies
between what the meter showed before and after it.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from central.config import load_config
from central.readings.query import Readings
from hil.ledger import INTERVAL_S, Ledger
from hil.site.installation import Installation
from wire.quality import Quality

REGISTERS = ("import_wh", "export_wh", "import_varh")
_SAME_INSTANT_REAL_S = 1.0
"""How far, in real seconds, the agent's idea of a read's instant may lie from the meter's.

While a late answer may still come, as after a line was lost and found again,
an answer may belong to the question now or to the one before it; its instant
is then the middle between the two, and they lie up to two seconds apart.
"""


@dataclass(slots=True)
class Proof:
    """What was compared, and every difference in words."""

    intervals: int = 0
    """Intervals of meters with a profile that equal the meter's own."""
    interpolated: int = 0
    """Intervals of meters without a profile that lie within their bounds."""
    missing: int = 0
    """Intervals of meters without a profile that are reported missing."""
    wrong: list[str] = field(default_factory=list)


def prove(site: Installation, first_end_utc_s: int, last_end_utc_s: int, speed: float) -> Proof:
    """Compare all meters over ends in [first, last]; `speed` is the fastest the clock ran."""
    proof = Proof()
    readings = Readings(load_config(site.layout.central_config))
    ledger = Ledger(site.town)
    reads = read_logs(site.layout.reads)
    for meter in site.town.meters:
        series = readings.meter_series(meter.id, first_end_utc_s, last_end_utc_s).to_pylist()
        ends = [row["end_utc_s"] for row in series]
        if len(set(ends)) != len(ends):
            proof.wrong.append(f"{meter.id}: an interval is there twice")
        if meter.protocol == "dlms":
            _prove_profile(proof, ledger, meter.id, series, first_end_utc_s, last_end_utc_s)
        else:
            shown = reads.get(meter.serial, [])
            _prove_sampled(proof, meter.id, series, shown, last_end_utc_s, speed)
    return proof


def read_logs(folder: Path) -> dict[str, list[tuple[float, tuple[int, ...]]]]:
    """What each meter without a profile showed: (instant, registers), in order of time."""
    shown: dict[str, list[tuple[float, tuple[int, ...]]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            serial, at_utc_s, *registers = json.loads(line)
            shown.setdefault(serial, []).append((at_utc_s, tuple(registers)))
    return shown


def _prove_profile(
    proof: Proof,
    ledger: Ledger,
    meter: str,
    series: Sequence[Mapping[str, Any]],
    first_end_utc_s: int,
    last_end_utc_s: int,
) -> None:
    stored = {row["end_utc_s"]: row for row in series}
    for own in ledger.rows(meter, first_end_utc_s, last_end_utc_s):
        row = stored.pop(own.end_utc_s, None)
        if row is None or row["flags"] & Quality.NO_DATA:
            proof.wrong.append(f"{meter}: the interval ending {own.end_utc_s} is not there")
            continue
        came = tuple(row[name] for name in (*REGISTERS, "voltage_dv", "current_ca"))
        kept = (
            own.import_wh,
            own.export_wh,
            own.import_varh,
            own.voltage_dv,
            own.current_ca,
        )
        if came != kept:
            proof.wrong.append(f"{meter}: ending {own.end_utc_s}: meter {kept}, central {came}")
        elif not row["flags"] & Quality.PROFILE:
            proof.wrong.append(f"{meter}: ending {own.end_utc_s}: not marked as from the profile")
        else:
            proof.intervals += 1
    for end_utc_s in stored:
        proof.wrong.append(f"{meter}: ending {end_utc_s}: the meter has no such interval")


def _prove_sampled(
    proof: Proof,
    meter: str,
    series: Sequence[Mapping[str, Any]],
    shown: Sequence[tuple[float, tuple[int, ...]]],
    last_end_utc_s: int,
    speed: float,
) -> None:
    if not series:
        proof.wrong.append(f"{meter}: no interval at all")
        return
    wanted = set(range(series[0]["end_utc_s"], last_end_utc_s + 1, INTERVAL_S))
    lacking = wanted - {row["end_utc_s"] for row in series}
    for end_utc_s in sorted(lacking):
        proof.wrong.append(f"{meter}: ending {end_utc_s} is neither there nor reported missing")
    for row in series:
        if row["flags"] & Quality.NO_DATA:
            proof.missing += 1
            continue
        faults = list(_bound_faults(row, shown, _SAME_INSTANT_REAL_S * speed))
        proof.wrong.extend(f"{meter}: ending {row['end_utc_s']}: {fault}" for fault in faults)
        proof.interpolated += not faults


def _bound_faults(
    row: Mapping[str, Any], shown: Sequence[tuple[float, tuple[int, ...]]], near_s: float
) -> Iterator[str]:
    read_utc_s = row["end_utc_s"] - row["raw_age_ms"] / 1000
    first = bisect_left(shown, (read_utc_s - near_s,))
    last = bisect_left(shown, (read_utc_s + near_s,))
    after = bisect_left(shown, (row["end_utc_s"] + near_s,))
    for position, name in enumerate(REGISTERS):
        raw, edge = row[f"raw_{name}"], row[name]
        if raw is None and edge is None:
            continue
        if raw not in {registers[position] for _, registers in shown[first:last]}:
            yield f"raw_{name} {raw} was not shown by the meter at {read_utc_s:.1f}"
        if edge < raw:
            yield f"{name} {edge} lies below the sample before the edge, {raw}"
        if after < len(shown) and edge > shown[after][1][position]:
            yield f"{name} {edge} lies above the sample after, {shown[after][1][position]}"
