"""What it takes on the wire to read everything that the shipped meters hold, as planned by us.

Beside it the rule of a well-known collector: one request as long as the hole
to the next value is no wider than 50 registers (Telegraf's `max_insert`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from agent.modbus.planner import Field, Limits, LineCost, Read, bus_time_s, plan
from agent.modbus.profile import models, shipped
from hil.bench.figure import Figure

COST: Final = LineCost(char_s=11 / 9600, turnaround_s=0.04)
"""8E1 or 8N2 at 9600 Bd and the turnaround that makers call typical; no pause between reads."""
PEER_HOLE: Final = 50
LIMIT_MS: Final = 5000.0
"""An exact search over the same maps, made before there was a planner."""


def plan_figures() -> Iterator[Figure]:
    """`modbus.plan_ms_16maps_9600`: bus time to read every register of every map once."""
    yield Figure(
        f"modbus.plan_ms_{len(models())}maps_9600",
        1000 * sum(bus_time_s(planned(model), COST) for model in models()),
        "ms of bus time",
        limit=LIMIT_MS,
        peer=f"holes <= {PEER_HOLE} read across",
        peer_value=1000
        * sum(bus_time_s(by_hole(*_asked(model), PEER_HOLE), COST) for model in models()),
    )


def planned(model: str) -> tuple[Read, ...]:
    """Our requests for everything in the map of `model`."""
    fields, limits = _asked(model)
    return plan(fields, COST, limits)


def by_hole(fields: Collection[Field], limits: Limits, widest: int) -> list[Read]:
    """Requests by the rule of a widest hole, within the meter's largest request."""
    reads: list[Read] = []
    for field in sorted(fields, key=lambda field: field.address):
        if reads:
            last = reads[-1]
            end = max(last.address + last.count, field.end)
            near = field.address - (last.address + last.count) <= widest
            if near and end - last.address <= limits.max_registers:
                reads[-1] = Read(last.address, end - last.address, (*last.fields, field))
                continue
        reads.append(Read(field.address, field.words, (field,)))
    return reads


def _asked(model: str) -> tuple[set[Field], Limits]:
    profile = shipped(model)
    return {register.field for register in profile.registers}, profile.limits
