"""How close a full line comes to what the wire allows: 32 meters of 80 registers at 9600 Bd.

A real agent asks them without a pause, because its sampling period is shorter
than one round. Its cycle is the time from one request to a meter to the next
one to the same meter, seen from the far end of the line; the line formula
says what the requests, the answers, the silences and the meters' turnaround
take. Then one meter falls silent, and the cycle of the others is measured
again, held against the formula for the others alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final

from pymodbus import ModbusException
from pymodbus.client import ModbusSerialClient

from agent.modbus.planner import LineCost
from hil.bench.figure import Figure
from hil.bench.modbus_site import AGENT, DEVICE, Asked, BenchLine, ModbusSite, modbus_site
from hil.line.responder import Answer, Responder
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from hil.site.installation import NotReady
from wire.clock import SystemClock

METERS: Final = 32
REGISTERS: Final = 80
BAUD: Final = 9600
TURNAROUND_S: Final = 0.04
"""What makers call typical."""
SAMPLE_S: Final = 5
"""Shorter than a round, so that the line is never idle."""
ROUNDS: Final = 3
"""Rounds that a figure is measured over."""
_SETTLE_ROUNDS: Final = 2
DEAD_UNIT: Final = 17
_NEVER_S: Final = 30.0

_HEAD: Final = """
model = "bench_80"
title = "80 registers in one read"
phases = 1
function = 4
word_order = "big"
side = "primary"
serial = "unknown"
max_registers = 80
align = 2
response_timeout_ms = 300
[sample]
import_wh = ["active_energy_import"]
import_varh = ["reactive_energy_export"]
voltage_dv = ["voltage_l1", "hole_26", "hole_50"]
[sources]
bench = "the simulated SDM120 of this bench"
"""
_REGISTERS: Final = (
    ("voltage_l1", 0, "V"),
    ("hole_26", 26, "V"),
    ("hole_50", 50, "V"),
    ("active_energy_import", 72, "kWh"),
    ("reactive_energy_export", 78, "kvarh"),
)
"""Close enough together that one request for all is the cheapest; the holes read zero."""


class Mortal:
    """A bus on which one unit can fall silent."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self.dead: int | None = None

    def receive(self, data: bytes) -> list[Answer]:
        return [] if data[0] == self.dead else self._responder.receive(data)


def cycle_figures() -> Iterator[Figure]:
    """`modbus.cycle_ratio_32x80_9600` and `modbus.cycle_ratio_one_dead`, measured cycle / formula.

    The peer is pymodbus' blocking client with its defaults, which reads all
    units in turn on the same line once the agent has left it.
    """
    units = frozenset(range(1, METERS + 1))
    others = units - {DEAD_UNIT}
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        profile = Path(folder) / "bench_80.toml"
        profile.write_text(profile_text())
        mortal = Mortal(ModbusBus({unit: _meter() for unit in units}, SystemClock()))
        asked = Asked(mortal)
        line = BenchLine("full", asked, dict.fromkeys(units, str(profile)), BAUD, paced=True)
        with modbus_site(Path(folder), [line], sample_s=SAMPLE_S) as site:
            alive_s = _cycle_s(site, asked, units)
            mortal.dead = DEAD_UNIT
            others_s = _cycle_s(site, asked, others)
            site.processes.stop(AGENT)
            path = str(site.layout.line(DEVICE, line.name))
            peer_others_s = _peer_round_s(path, units)
            mortal.dead = None
            peer_alive_s = _peer_round_s(path, units)
    for name, cycle_s, peer_s, limit, meters in (
        ("modbus.cycle_ratio_32x80_9600", alive_s, peer_alive_s, 1.05, len(units)),
        ("modbus.cycle_ratio_one_dead", others_s, peer_others_s, 1.08, len(others)),
    ):
        yield Figure(
            name,
            cycle_s / formula_s(meters),
            "x formula",
            limit,
            peer="pymodbus sync, its defaults",
            peer_value=peer_s / formula_s(meters),
        )


def _peer_round_s(path: str, units: Iterable[int]) -> float:
    """How long pymodbus takes to read every unit once."""
    client = ModbusSerialClient(path, baudrate=BAUD)
    client.connect()
    begun_s = time.monotonic()
    try:
        for unit in sorted(units):
            with suppress(ModbusException):
                client.read_input_registers(0, count=REGISTERS, device_id=unit)
        return time.monotonic() - begun_s
    finally:
        client.close()  # type: ignore[no-untyped-call]


def _meter() -> ModbusMeter:
    return ModbusMeter("eastron_sdm120", Steady(), turnaround_s=TURNAROUND_S)


def profile_text() -> str:
    """A profile whose sample is one read of `REGISTERS` registers."""
    text = _HEAD
    for name, address, unit in _REGISTERS:
        text += f'[[register]]\nname = "{name}"\naddress = {address}\ntype = "float32"\n'
        text += f'scale = 1\nunit = "{unit}"\nsources = ["bench"]\n'
        text += "zero_is_missing = true\n" if unit == "V" else 'step = "float32"\n'
    return text


def formula_s(meters: int) -> float:
    """One read of each meter by the line formula; 8N1 has 10 bits a character."""
    return meters * LineCost(10 / BAUD, TURNAROUND_S).of(REGISTERS)


def _cycle_s(site: ModbusSite, asked: Asked, units: frozenset[int]) -> float:
    """Median time between two successive requests to the same unit, after the line has settled."""
    _await_rounds(site, asked, units, _SETTLE_ROUNDS)
    asked.requests.clear()
    _await_rounds(site, asked, units, ROUNDS + 1)
    times: dict[int, list[float]] = {unit: [] for unit in units}
    for at_s, request in list(asked.requests):
        if request[0] in units and int.from_bytes(request[4:6]) == REGISTERS:
            times[request[0]].append(at_s)
    return median((came[-1] - came[0]) / (len(came) - 1) for came in times.values())


def _await_rounds(site: ModbusSite, asked: Asked, units: frozenset[int], rounds: int) -> None:
    """Until each of `units` was asked so often from now on."""
    begun = len(asked.requests)
    until_s = time.monotonic() + _NEVER_S + 2 * rounds * formula_s(METERS)
    while True:
        site.processes.check()
        came = [request[0] for _, request in asked.requests[begun:]]
        if all(came.count(unit) >= rounds for unit in units):
            return
        if time.monotonic() > until_s:
            missing = sorted(unit for unit in units if came.count(unit) < rounds)
            raise NotReady(f"units {missing} were asked fewer than {rounds} times")
        time.sleep(0.2)
