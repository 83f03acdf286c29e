"""Hosts simulated meters: one process, one loop, many serial lines.

Reads a plan (JSON) that says which transformers' meters of which town, where
the links to the lines go and which clock is shown. What a meter without a
load profile shows to a reader is noted in a file of its own, so that a test
can compare what was stored with what was shown.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from hil.line.faults import Faulty, garbage, only
from hil.line.pty import LineLoop, PtyLine
from hil.line.responder import Responder
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.incidents import write_incidents
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Registers, Shown
from hil.site.town_choice import TownChoice
from hil.town import Meter
from wire.clock import SharedClock

BAUD = {"modbus": 19200, "dlms": 9600}


def host(plan_file: Path) -> None:
    """Serve the lines of the plan until SIGTERM or SIGINT."""
    plan: dict[str, Any] = json.loads(plan_file.read_text())
    clock = SharedClock(Path(plan["clock_file"]))
    town = TownChoice.from_json(plan["town"]).load()
    lines: list[PtyLine] = []
    for transformer in plan["transformers"]:
        shown = town.shown(transformer)
        reads = (Path(plan["reads"]) / f"{transformer}.jsonl").open("a", buffering=1)
        meters = town.meters_of(transformer)
        for name in sorted({meter.line for meter in meters}):
            on_line = [meter for meter in meters if meter.line == name]
            protocol = on_line[0].protocol
            lines.append(
                PtyLine(
                    Path(plan["lines"]) / f"{transformer}-{name}",
                    _garbled(
                        _bus(protocol, on_line, shown, clock, reads),
                        [meter for meter in on_line if meter.id in plan["garbled"]],
                    ),
                    baud=BAUD[protocol],
                    paced=plan["paced"],
                )
            )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    LineLoop(lines).run(stop)


def _bus(
    protocol: str,
    meters: list[Meter],
    shown: Mapping[str, Shown],
    clock: SharedClock,
    reads: TextIO,
) -> Responder:
    if protocol == "modbus":
        return ModbusBus(
            {int(m.address): ModbusMeter(m.model, shown[m.id]) for m in meters},
            clock,
            on_read=_note_reads(reads),
        )
    on_bus = {m.address: DlmsMeter(shown[m.id], m.model) for m in meters}
    for meter in on_bus.values():
        write_incidents(meter, clock.now_utc_s())
    return DlmsBus(on_bus, clock)


def _garbled(bus: Responder, meters: list[Meter]) -> Responder:
    """The bus with some meters that answer every request with garbage."""
    for meter in meters:
        concerns = _asks(meter)
        bus = Faulty(bus, itertools.repeat(only(concerns, garbage)))
    return bus


def _asks(meter: Meter) -> Callable[[bytes], bool]:
    """Whether a request is for this meter."""
    if meter.protocol == "modbus":
        return lambda request: request[0] == meter.unit
    logical, physical = map(int, meter.address.split("/"))
    # HDLC: flag and two format bytes, then the server's two-byte address (IEC 62056-46, 6.4.2.3).
    address = bytes([logical << 1, physical << 1 | 1])
    return lambda request: request[3:5] == address


def _note_reads(reads: TextIO) -> Callable[[str, float, Registers], None]:
    def note(serial: str, at_utc_s: float, registers: Registers) -> None:
        reads.write(
            json.dumps(
                [
                    serial,
                    at_utc_s,
                    registers.import_wh,
                    registers.export_wh,
                    registers.import_varh,
                ]
            )
            + "\n"
        )

    return note
