"""What the bench's meters send unasked: lists as data-notifications, and what carries them.

The three ways in which makers name the values of a list: each with its name
(and scaler and unit), names and values in turn, or the push object list
(class 40) before the values. Built from the Green Book (9.4.6.12 and 9.2), IEC
62056-6-2 and what captures of real meters show; nothing of the agent's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag, obis
from hil.meters.dlms.general_blocks import GeneralBlocks
from hil.meters.dlms.hdlc import build
from hil.meters.dlms.meter import DlmsMeter

TO_ANY_CLIENT: Final = b"\x41"
_UI: Final = 0x13
_LLC: Final = b"\xe6\xe7\x00"
_NOTIFICATION: Final = 0x0F
_WINDOW: Final = 63
_WH, _VARH, _W, _V, _A = 30, 32, 27, 35, 33


def _octets(value: bytes) -> bytes:
    return axdr.octets(value)


def _u32(value: float) -> bytes:
    return axdr.number(Tag.U32, round(value))


def labelled(meter: DlmsMeter, at_utc_s: float) -> bytes:
    """Structures of name and value, with scaler and unit where it is a register."""
    registers, gauges = meter.shown.registers(at_utc_s), meter.shown.gauges(at_utc_s)
    rows = (
        ("1.0.1.8.0.255", registers.import_wh, 0, _WH),
        ("1.0.1.8.1.255", registers.import_wh, 0, _WH),
        ("1.0.2.8.0.255", registers.export_wh, 0, _WH),
        ("1.0.2.8.2.255", registers.export_wh, 0, _WH),
        ("1.0.1.7.0.255", max(0.0, gauges.power_w), 0, _W),
        ("1.0.2.7.0.255", max(0.0, -gauges.power_w), 0, _W),
        ("1.0.32.7.0.255", gauges.voltage_v * 10, -1, _V),
        ("1.0.31.7.0.255", gauges.current_a * 100, -2, _A),
    )
    serial = axdr.structure(_octets(obis("0.0.96.1.0.255")), _octets(meter.shown.serial.encode()))
    return axdr.structure(
        serial,
        *(
            axdr.structure(
                _octets(obis(name)),
                _u32(value),
                axdr.structure(axdr.number(Tag.I8, scaler), axdr.number(Tag.ENUM, unit)),
            )
            for name, value, scaler, unit in rows
        ),
    )


def pairs(meter: DlmsMeter, at_utc_s: float) -> bytes:
    """A list's name, then names and values in turn: energies in 10 Wh and 10 varh, U in V."""
    registers, gauges = meter.shown.registers(at_utc_s), meter.shown.gauges(at_utc_s)
    rows = (
        ("1.1.0.0.1.255", _octets(meter.shown.serial.encode())),
        ("1.1.1.7.0.255", _u32(max(0.0, gauges.power_w))),
        ("1.1.2.7.0.255", _u32(max(0.0, -gauges.power_w))),
        ("1.1.31.7.0.255", _u32(gauges.current_a * 100)),
        ("1.1.32.7.0.255", _u32(gauges.voltage_v)),
        ("1.1.1.8.0.255", _u32(registers.import_wh // 10)),
        ("1.1.2.8.0.255", _u32(registers.export_wh // 10)),
        ("1.1.3.8.0.255", _u32(registers.import_varh // 10)),
    )
    elements = [each for name, value in rows for each in (_octets(obis(name)), value)]
    return axdr.structure(_octets(b"Kamstrup_V0001"), *elements)


def described(meter: DlmsMeter, at_utc_s: float) -> bytes:
    """The push object list (class, name, attribute, data index), then the values in its order."""
    registers, gauges = meter.shown.registers(at_utc_s), meter.shown.gauges(at_utc_s)
    rows = (
        (1, "0.0.42.0.0.255", _octets(meter.shown.serial.encode())),
        (3, "1.1.1.7.0.255", _u32(max(0.0, gauges.power_w))),
        (3, "1.1.2.7.0.255", _u32(max(0.0, -gauges.power_w))),
        (3, "1.1.1.8.0.255", _u32(registers.import_wh)),
        (3, "1.1.2.8.0.255", _u32(registers.export_wh)),
        (3, "1.1.3.8.0.255", _u32(registers.import_varh)),
        (3, "1.0.32.7.0.255", _u32(gauges.voltage_v * 10)),
        (3, "1.0.31.7.0.255", _u32(gauges.current_a * 100)),
    )
    objects = [(40, "0.6.25.9.0.255"), *((class_id, name) for class_id, name, _ in rows)]
    head = axdr.array(
        axdr.structure(
            axdr.number(Tag.U16, class_id),
            _octets(obis(name)),
            axdr.number(Tag.I8, 2),
            axdr.number(Tag.U16, 0),
        )
        for class_id, name in objects
    )
    return axdr.structure(head, *(value for _, _, value in rows))


LISTS: Final[dict[str, Callable[[DlmsMeter, float], bytes]]] = {
    "iskra_am550": labelled,
    "kamstrup_omnipower": pairs,
    "iskra_am550_described": described,
}
"""By the kind of meter that sends its list so."""


def notification(meter: DlmsMeter, kind: str, at_utc_s: float, number: int = 0) -> bytes:
    """The data-notification of one list at a true instant, ciphered where the meter has keys."""
    stamp = meter.zone.date_time(meter.clock.shown_s(at_utc_s))
    head = bytes([_NOTIFICATION]) + number.to_bytes(4, "big") + axdr.length(len(stamp))
    plain = head + stamp + LISTS[kind](meter, at_utc_s)
    return plain if meter.security is None else meter.security.general_glo(plain)


def in_general_blocks(apdu: bytes, longest: int) -> list[bytes]:
    """An APDU in pieces of at most `longest` bytes, none of which is acknowledged."""
    return GeneralBlocks(bytes, longest).answer(apdu, _WINDOW)


def ui_frames(apdu: bytes, address: bytes, size: int = 2030) -> bytes:
    """An APDU in UI frames from the meter at `address`, in segments of at most `size` bytes."""
    whole = _LLC + apdu
    return b"".join(
        build(TO_ANY_CLIENT, address, _UI, whole[at : at + size], at + size < len(whole))
        for at in range(0, len(whole), size)
    )
