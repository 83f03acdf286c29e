"""One meter's driver against a meter that says anything: sample, profile, clock, event logs.

As in `hil/fuzz/client.py` an input is the answers that come in turn, and what
the driver makes of them is held within what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import UNITS, Tag
from agent.dlms.driver import DlmsDriver
from agent.dlms.link.carrier import Carrier
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.meter_class import ClockSetting, EventLog, load_meter_class
from agent.dlms.security.settings import Security
from agent.driver import ReadError
from hil.fuzz.apdu import as_records, records
from hil.fuzz.client import ScriptedCarrier, aare
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from hil.fuzz.seeds import ADDRESS, LAST_END_UTC_S, StoppedClock, Wire
from hil.fuzz.values import CAPTURE_OBJECTS
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.password import LLS_PASSWORD

_ROWS: Final = 20
_FIRST_END_UTC_S: Final = LAST_END_UTC_S - (_ROWS - 1) * 900
_LOG: Final = "standard"
_BUFFER: Final = Attribute.parse("7/0.0.99.98.0.255/2")
_CLASS: Final = replace(
    load_meter_class("idis_residential"),
    clock_setting=ClockSetting("set"),
    logs={_LOG: EventLog(_BUFFER)},
)
_ENTRIES: Final = replace(_CLASS, profile=replace(_CLASS.profile, access="entry"))

_TIME: Final = MeterTime(60)
_UNITS: Final = {name: code for code, name in UNITS.items()}
_SET: Final = b"SET"
"""Stands for the answer to a SET."""

Read = Callable[[DlmsDriver], object]


def _sample(driver: DlmsDriver) -> None:
    driver.sample()


def _profile(driver: DlmsDriver) -> None:
    rows = driver.profile(_FIRST_END_UTC_S, LAST_END_UTC_S)
    ends = [row.end_utc_s for row in rows]
    if ends != sorted(set(ends)) or not all(_FIRST_END_UTC_S <= e <= LAST_END_UTC_S for e in ends):
        raise Overgrown(f"rows out of order, twice or not asked for: {ends}")


def _clock(driver: DlmsDriver) -> None:
    driver.read_clock()
    driver.set_clock()


def _events(driver: DlmsDriver) -> None:
    found = driver.events(_LOG, _FIRST_END_UTC_S)
    if any(event.at_utc_s < _FIRST_END_UTC_S for event in found):
        raise Overgrown("an event from before the time that was asked for")


def _driver(carrier: Callable[[int], Carrier], *, by_entry: bool = False) -> DlmsDriver:
    return DlmsDriver(
        carrier,
        _ENTRIES if by_entry else _CLASS,
        StoppedClock(),
        security=Security("lls", password=LLS_PASSWORD),
        name="fuzzed",
    )


def _against(read: Read, *, by_entry: bool = False) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        carrier = ScriptedCarrier(records(data), numbered=True)
        read(_driver(lambda sap: carrier, by_entry=by_entry))

    return run


class _Recorder:
    """A `Carrier` over one of the bench's meters that keeps the answers."""

    def __init__(self, meter: DlmsMeter, kept: list[bytes]) -> None:
        self._kept = kept
        self._carrier = HdlcCarrier(
            Wire(DlmsBus({ADDRESS: meter}, StoppedClock())),
            LinkSettings(gap_s=0.0),
            client_address=client_address(1),
            server_address=server_address(ADDRESS),
            name="bench",
        )

    @property
    def longest_answer(self) -> int:
        return self._carrier.longest_answer

    def open(self) -> None:
        self._carrier.open()

    def close(self) -> None:
        self._carrier.close()

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        self._kept.append(self._carrier.request(apdu, what, tries=tries))
        return self._kept[-1]

    def more(self, what: str) -> bytes:
        self._kept.append(self._carrier.more(what))
        return self._kept[-1]


def _recorded(read: Read) -> Sequence[bytes]:
    """What the bench's meters answer to `read`, one script for each kind of meter."""
    scripts = []
    for meter in (DlmsMeter(Climbing()), DlmsMeter(Climbing(), lists=False, max_pdu=200)):
        kept: list[bytes] = []
        recorder = _Recorder(meter, kept)
        read(_driver(lambda sap, recorder=recorder: recorder))  # type: ignore[misc]
        scripts.append(as_records(kept))
    return scripts


def _answered(*answers: bytes) -> list[bytes]:
    """An association without lists: each value answers the next GET, and a SET is done."""
    return [
        aare(0x001014, 0),
        *(
            bytes([0xC5, 1, 0x40 | n, 0])
            if answer == _SET
            else bytes([0xC4, 1, 0x40 | n, 0]) + answer
            for n, answer in enumerate(answers, 1)
        ),
    ]


def _learnt() -> list[bytes]:
    """What the driver asks before its first read of the profile."""
    units = [_UNITS[quantity.unit] for quantity in _CLASS.profile.columns.values()]
    scalers = [
        axdr.structure(axdr.number(Tag.I8, -2), axdr.number(Tag.ENUM, unit)) for unit in units
    ]
    return [axdr.number(Tag.U32, 900), CAPTURE_OBJECTS, *scalers]


def _row(end_utc_s: int) -> bytes:
    return axdr.structure(
        axdr.octets(_TIME.octets(end_utc_s)),
        axdr.number(Tag.U8, 0),
        *(axdr.number(Tag.U32, 4711) for _ in _CLASS.profile.columns),
    )


def _entry_seeds() -> Sequence[bytes]:
    rows = axdr.array(map(_row, range(_FIRST_END_UTC_S - 3600, LAST_END_UTC_S + 1, 900)))
    asked = [
        axdr.octets(b"LS0000001"),
        axdr.number(Tag.U32, 24),
        axdr.array([_row(LAST_END_UTC_S)]),
    ]
    few = [asked[0], axdr.number(Tag.U32, 8), rows]
    scripts = [
        [*_learnt(), *asked, *[rows] * 6],
        [*_learnt(), *few],
    ]
    return [as_records(_answered(*script)) for script in scripts]


def _range_seeds() -> Sequence[bytes]:
    return [*_recorded(_profile), *_entry_seeds()]


def _clock_seeds() -> Sequence[bytes]:
    now, ahead = (axdr.octets(_TIME.octets(LAST_END_UTC_S + 300 + s)) for s in (3, 63))
    return [
        as_records([*_answered(ahead), *_answered(*_learnt(), ahead, _SET, now)]),
        as_records([*_answered(now), *_answered(*_learnt(), now)]),
    ]


def _event_seeds() -> Sequence[bytes]:
    serial = axdr.octets(b"LS0000001")
    captured = axdr.array(
        axdr.structure(
            axdr.number(Tag.U16, attribute.class_id),
            axdr.octets(attribute.name),
            axdr.number(Tag.I8, attribute.index),
            axdr.number(Tag.U16, 0),
        )
        for attribute in map(
            Attribute.parse, ("8/0.0.1.0.0.255/2", "1/0.0.96.11.0.255/2", "1/0.0.96.11.1.255/2")
        )
    )
    entries = axdr.array(
        axdr.structure(
            axdr.octets(_TIME.octets(_FIRST_END_UTC_S + 60 * row)),
            axdr.number(Tag.U8, row),
            axdr.visible("magnet"),
        )
        for row in range(12)
    )
    scripts = [[serial, captured, entries], [serial, captured, axdr.array([])]]
    return [as_records(_answered(*script)) for script in scripts]


DECODERS: Final = (
    Decoder("driver-sample", _against(_sample), (ReadError,), lambda: _recorded(_sample)),
    Decoder("driver-profile", _against(_profile), (ReadError,), _range_seeds),
    Decoder(
        "driver-profile-entries", _against(_profile, by_entry=True), (ReadError,), _entry_seeds
    ),
    Decoder("driver-events", _against(_events), (ReadError,), _event_seeds),
    Decoder("driver-clock", _against(_clock), (ReadError,), _clock_seeds),
)
