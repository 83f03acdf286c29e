"""The fault matrix: what goes wrong on a Modbus line, and what a reader must make of it.

Each case is a line with a fault and three reads of different registers of one
meter, without a repeat. A read is right (r), wrong (W: a value that the meter
did not show for these registers, taken as a success) or none (-). `CASES` are
the 23 faults with which four libraries were compared first; `MORE` are further
devices that the field reports. `prototype` says how many right reads a
40-line prototype of our rules had: 49 of 69.

Where RTU has nothing by which a wrong answer could be known, `known` is False
and `ours` says what then happens; docs/modbus.md tells what catches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.modbus.transaction import ReadRequest
from hil.bench.modbus_peers import BAUD, FUNCTION, UNIT, Step
from hil.line import faults
from hil.line.company import (
    BusLow,
    Hurried,
    Impostor,
    SameUnitTwice,
    SecondTryOnly,
    TwoMasters,
)
from hil.line.faults import Fault, Faulty
from hil.line.responder import Responder
from hil.line.uart import Uart
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

MODEL: Final = "eastron_sdm120"
NEIGHBOUR: Final = 2
FACE: Final = Steady()
NEIGHBOURS_FACE: Final = Steady(
    serial="21000036", import_wh=7_000_000, export_wh=1_000_000, voltage_v=228.7
)
ADDRESSES: Final = (0, 72, 74)
"""Voltage, imported and exported energy: three registers with different values."""
THREE: Final = tuple(Step(address, 2) for address in ADDRESSES)
UNEQUAL: Final = (Step(0, 2), Step(72, 4), Step(74, 2))
"""As a plan would have it: successive reads differ in count."""

FarEnd = Callable[[], Responder]


@dataclass(frozen=True, slots=True)
class Case:
    """One line with one fault. `ours` is what our own reader must make of the three reads."""

    name: str
    far_end: FarEnd
    ours: str
    prototype: int | None = None
    steps: Sequence[Step] = THREE
    known: bool = True
    pulled_before: int | None = None
    """The read during whose request the adapter is pulled out, to come back 0.3 s later."""
    uart: Uart | None = None
    """The meter's serial settings, where they are not the reader's."""
    gap_s: float = 0.0
    """The pause that the meter's profile gives; only our reader can be told."""

    def met_by(self, letters: str) -> bool:
        """Whether our reader did what it must; a ? stands for any outcome."""
        return all(must in ("?", came) for must, came in zip(self.ours, letters, strict=True))


def bus() -> ModbusBus:
    """The meter that is asked, and a neighbour with other values."""
    meters = {UNIT: ModbusMeter(MODEL, FACE), NEIGHBOUR: ModbusMeter(MODEL, NEIGHBOURS_FACE)}
    return ModbusBus(meters, SystemClock())


def _alone(unit: int, face: Steady) -> ModbusBus:
    return ModbusBus({unit: ModbusMeter(MODEL, face)}, SystemClock())


def _twice(lag_s: float) -> Responder:
    return SameUnitTwice(_alone(UNIT, FACE), _alone(UNIT, NEIGHBOURS_FACE), lag_s)


def _impostor() -> Responder:
    return Impostor(_alone(NEIGHBOUR, NEIGHBOURS_FACE), NEIGHBOUR, UNIT)


def truth(step: Step) -> bytes:
    """The bytes of the registers as the meter that is asked holds them."""
    answer = ModbusMeter(MODEL, FACE).read(FUNCTION, step.address, step.count, 0.0)
    assert isinstance(answer, bytes)
    return answer


def _suffers(*script: Fault) -> FarEnd:
    return lambda: Faulty(bus(), script)


def _always(fault: Fault) -> FarEnd:
    return _suffers(fault, fault, fault)


def _question(unit: int, address: int) -> bytes:
    return ReadRequest(unit, FUNCTION, address, 2).frame


def _rival() -> Responder:
    return TwoMasters(bus(), _question(UNIT, 12))


CASES: Final = (
    Case("bad CRC, once", _suffers(faults.bad_crc), "-rr", 2),
    Case("half a frame, once", _suffers(faults.half), "-rr", 2),
    Case("answer late, 0.4 then 0.25 s", _suffers(faults.late(0.4), faults.late(0.25)), "-rr", 2),
    Case("other function code, once", _suffers(faults.other_function), "-rr", 2),
    Case("fewer registers, once", _suffers(faults.fewer_registers), "-rr", 2),
    Case("more registers, once", _suffers(faults.more_registers), "-rr", 2),
    Case("other unit id, once", _suffers(faults.other_unit), "-rr", 2),
    Case("other unit, then right", _always(faults.other_unit_before(0.03)), "rrr", 3),
    Case("request echoed, apart", _always(faults.echo_apart(0.03)), "rrr", 3),
    Case("request echoed, glued", _always(faults.echo), "rrr", 3),
    Case("0x00 before the answer", _always(faults.before(b"\0")), "rrr", 3),
    Case("0xFF before the answer", _always(faults.before(b"\xff")), "rrr", 3),
    Case("3 bytes before the answer", _always(faults.before(b"\x5a\xc3\x17")), "rrr", 3),
    Case("0x00 after the answer", _always(faults.after(b"\0")), "rrr", 3),
    Case("0xFF after the answer", _always(faults.after(b"\xff")), "rrr", 3),
    Case("3 bytes after the answer", _always(faults.after(b"\x5a\xc3\x17")), "rrr", 3),
    Case("50 ms hole in the frame", _always(faults.hole(0.05)), "rrr", 3),
    Case("5 ms per byte", _always(faults.trickle(0.005)), "rrr", 3),
    Case("exception 02", _always(faults.exception(2)), "---", 0),
    Case("exception 06", _always(faults.exception(6)), "---", 0),
    Case("exception 0B", _always(faults.exception(11)), "---", 0),
    Case("flood of 0x00, 0.6 s", lambda: BusLow(bus(), 0.6), "-rr", 2),
    Case("dead unit", _always(faults.dead), "---", 0),
)
"""The faults of the first comparison; 69 reads."""

MORE: Final = (
    Case(
        "caller cancelled",
        _always(faults.late(0.1)),
        "-rr",
        steps=(Step(0, 2, cancelled=True), *THREE[1:]),
    ),
    Case("other unit, glued to the right", _always(faults.other_unit_first), "rrr"),
    Case("late, each by 0.45 s", _always(faults.late(0.45)), "---"),
    Case("late by 0.85 s, once", _suffers(faults.late(0.85)), "-rr"),
    Case("later than the window, other count", _suffers(faults.late(1.12)), "-rr", steps=UNEQUAL),
    Case("later than the window", _suffers(faults.late(1.12)), "-Wr", known=False),
    Case("bad CRC, a burst of two", _suffers(faults.bad_crc, faults.bad_crc), "--r"),
    Case("half, the rest 0.4 s later", _suffers(faults.hole(0.4)), "-rr"),
    Case("as many bytes, none right", _suffers(faults.garbage), "-rr"),
    Case(
        "second master asks a neighbour", lambda: TwoMasters(bus(), _question(NEIGHBOUR, 0)), "rrr"
    ),
    Case("second master asks this unit", _rival, "---"),
    Case("bus low for 2 s", lambda: BusLow(bus(), 2.0), "--r"),
    Case("meter at twice the baud", bus, "---", uart=Uart(2 * BAUD)),
    Case("meter at half the baud", bus, "---", uart=Uart(BAUD // 2)),
    Case("meter with even parity", bus, "---", uart=Uart(BAUD, "E")),
    Case("exception 02 for the first, once", _suffers(faults.exception(2)), "-rr"),
    Case("exception 0A, path unavailable", _suffers(faults.exception(10)), "-rr"),
    Case("answers the second try only", lambda: SecondTryOnly(bus()), "---"),
    Case("deaf for 50 ms after an answer", lambda: Hurried(bus(), 0.05, "deaf"), "rrr", gap_s=0.06),
    Case("busy for 50 ms after an answer", lambda: Hurried(bus(), 0.05, "busy"), "rrr", gap_s=0.06),
    Case("reboots when hurried", lambda: Hurried(bus(), 0.05, "reboot"), "rrr", gap_s=0.06),
    Case("adapter pulled in a read", bus, "r-r", pulled_before=1),
    Case("two meters, one unit: collision", lambda: _twice(0.0), "---"),
    Case("two meters, one unit: 30 ms apart", lambda: _twice(0.03), "rW?", known=False),
    Case("a neighbour answers in its name", _impostor, "WWW", known=False),
)
"""Further devices of the field."""
