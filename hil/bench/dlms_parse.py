"""CPU from the bytes of the line to intervals: a day of load profile, 96 rows of 8 columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from agent.dlms import axdr
from agent.dlms.apdu.get import get_response
from agent.dlms.constants import Tag
from agent.dlms.link.frame import LinkParameters
from agent.dlms.link.hdlc import Link, Message
from agent.dlms.load_profile.columns import Columns, Scaling
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.meter_class import load_meter_class
from agent.driver import ProfileRow
from hil.bench.figure import Figure
from hil.meters.dlms.hdlc import build

LIMIT_MS: Final = 1.0
ROWS: Final = 96
FIRST_END_UTC_S: Final = 1_774_656_900
PERIOD_S: Final = 900
_ENERGIES: Final = 6
_INFO: Final = 128
_ROUNDS: Final = 200
_CLIENT: Final = b"\x03"
_METER: Final = b"\x23"


def parse_figures() -> Iterator[Figure]:
    """`dlms.parse_ms_96x8`, and beside it the same with the frames cut and checked."""
    columns, apdu = day_columns(), day_apdu()
    frames = frames_of(apdu)
    yield Figure("dlms.parse_ms_96x8", _least_ms(lambda: parsed(columns, apdu)), "ms CPU", LIMIT_MS)
    yield Figure(
        "dlms.parse_ms_96x8.with_frames",
        _least_ms(lambda: parsed(columns, heard(frames))),
        f"ms CPU with {len(frames)} frames",
    )


def parsed(columns: Columns, apdu: bytes) -> list[ProfileRow]:
    """The intervals in a GET response; raises ValueError unless they are all there."""
    rows = columns.rows(get_response(apdu, apdu[2] & 0x0F).data, 0, 1 << 40)
    if len(rows) != ROWS:
        raise ValueError(f"expected {ROWS} rows, found {len(rows)}: the figure is void")
    return rows


def heard(frames: list[bytes]) -> bytes:
    """The APDU that these frames carry, by way of the link."""
    link = Link(_CLIENT, _METER, LinkParameters(), longest_answer=1 << 20)
    link.open()
    link.receive(build(_CLIENT, _METER, 0x73))
    link.ask(b"\xc0")
    for frame in frames:
        for outcome in link.receive(frame):
            if isinstance(outcome, Message):
                return outcome.apdu
    raise ValueError("the frames carry no whole answer: the figure is void")


def frames_of(apdu: bytes) -> list[bytes]:
    """The frames in which a meter with the default sizes answers."""
    whole = b"\xe6\xe7\x00" + apdu
    parts = [whole[at : at + _INFO] for at in range(0, len(whole), _INFO)]
    return [
        build(_CLIENT, _METER, 0x30 | (number & 7) << 1, part, number < len(parts) - 1)
        for number, part in enumerate(parts)
    ]


def day_apdu() -> bytes:
    """A GET response with clock, status and six energies of four bytes, 96 times."""
    return bytes.fromhex("c4014100") + axdr.array(map(_row, range(ROWS)))


def _row(number: int) -> bytes:
    values = [axdr.number(Tag.U32, 1_000_000 * n + 7 * number * n) for n in range(_ENERGIES)]
    end = axdr.octets(MeterTime(60).octets(FIRST_END_UTC_S + PERIOD_S * number))
    return axdr.structure(end, axdr.number(Tag.U8, 0), *values)


def day_columns() -> Columns:
    """How such rows are read: five of the energies are taken, in the class's own unit."""
    profile = load_meter_class("idis_residential").profile
    assert profile.status is not None
    scalings = {
        attribute: Scaling(0, quantity.unit)
        for quantity in profile.columns.values()
        for attribute in quantity.attributes
    }
    captured = (profile.clock, profile.status, *scalings)
    positions = {attribute: position for position, attribute in enumerate(captured)}
    return Columns(profile, positions, scalings, PERIOD_S, MeterTime(60), "bench")


def _least_ms(work: Callable[[], object]) -> float:
    spent_s = []
    for _ in range(_ROUNDS):
        begun_s = time.thread_time()
        work()
        spent_s.append(time.thread_time() - begun_s)
    return 1000 * min(spent_s)
