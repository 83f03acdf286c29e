"""What is overheard rather than asked for: what meters push and whose it is, bytes in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.notification import data_notification
from agent.dlms.apdu.text import LONGEST, apdu_text
from agent.dlms.constants import UNITS, Apdu, Tag, obis
from agent.dlms.errors import AnswerMalformed, DlmsError, MeterDiffers
from agent.dlms.link.frame import FrameCutter
from agent.dlms.link.text import frame_text
from agent.dlms.push import ListUnknown, PushListener, read_list
from agent.dlms.push_class import Place, PushClass, load_push_class, push_classes
from agent.dlms.pushed_meters import PushedMeter, PushedMeters
from hil.fuzz.apdu import KEYS, METER_TITLE, as_records, pieces, records, sealed
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown, frame_records, frames_of
from hil.fuzz.seeds import bench_session, captured_with

_CLASSES: Final = tuple(map(load_push_class, push_classes()))
_BY_NAME: Final = {push_class.name: push_class for push_class in _CLASSES}
_HEAD: Final = bytes.fromhex("0f0000000100")
_PUSH_SETUP: Final = obis("0.0.25.9.0.255")
_STAMP: Final = axdr.octets(bytes.fromhex("07e90b16ff0e0f0000ffc400"))


def _list(data: bytes) -> None:
    """A notification, and the one class that its list fits."""
    read_list(data_notification(data), _CLASSES)


def _list_of(push_class: PushClass) -> bytes:
    """A notification whose list fits one class, with a value at every place that it names."""
    unit_of: dict[Place | None, str] = dict.fromkeys(push_class.needs, "Wh")
    for quantity in push_class.quantities.values():
        unit_of |= {quantity.place: quantity.unit, quantity.less: quantity.unit}
    places: list[Any] = [place for place in unit_of if place is not None]
    encoded = dict.fromkeys(places, axdr.number(Tag.U32, 4711))
    if push_class.clock is not None:
        encoded[push_class.clock] = _STAMP
    if push_class.serial is not None:
        encoded[push_class.serial] = axdr.octets(b"LS0000001")
    first = axdr.visible(push_class.begins) if push_class.begins else _STAMP
    if push_class.form == "positional":
        count = push_class.count or 0
        elements = [first, *(encoded.get(at, axdr.NULL) for at in range(1, count))]
        return _HEAD + axdr.structure(*elements)
    if push_class.form == "labelled":
        return _HEAD + axdr.array(
            axdr.structure(axdr.octets(name), value, *_scale(unit_of.get(name)))
            for name, value in encoded.items()
        )
    if push_class.form == "described":
        names = [_PUSH_SETUP, *encoded]
        return _HEAD + axdr.structure(axdr.array(map(_described, names)), *encoded.values())
    pairs = [part for name, value in encoded.items() for part in (axdr.octets(name), value)]
    return _HEAD + axdr.structure(first, *pairs)


def _scale(unit: str | None) -> list[bytes]:
    """Scaler and unit as they stand beside the value of a register."""
    code = next((code for code, known in UNITS.items() if known == unit), None)
    if code is None:
        return []
    return [axdr.structure(axdr.number(Tag.I8, 0), axdr.number(Tag.ENUM, code))]


def _described(name: bytes) -> bytes:
    return axdr.structure(
        axdr.number(Tag.U16, 3), axdr.octets(name), axdr.number(Tag.I8, 2), axdr.number(Tag.U16, 0)
    )


def _lists() -> Sequence[bytes]:
    return [*map(_list_of, _CLASSES), *captured_with(0x0F)]


def _listen(data: bytes) -> None:
    """A line on which meters speak by themselves: nothing that comes makes listening end."""
    listener = PushListener(_CLASSES)
    frames = frames_of(data)
    half = len(frames) // 2
    told = [*listener.receive(frames[:half], 0.0), *listener.receive(frames[half:], 0.1)]
    if len(told) > len(data):
        raise Overgrown(f"{len(told)} readings in {len(data)} bytes")


def _pushed() -> Sequence[bytes]:
    """Unasked frames, whole and in segments."""
    apdus = [b"\xe6\xe7\x00" + apdu for apdu in _lists()]
    return [frame_records(0x13, apdu, size) for apdu in apdus for size in (120, 20)]


def _whose(data: bytes) -> None:
    """APDUs of two senders: each is a reading of one meter of the line, or an error."""
    line = PushedMeters(
        [
            PushedMeter("ciphered", _BY_NAME["kamstrup_omnipower"], KEYS, title=METER_TITLE),
            PushedMeter("by address", _BY_NAME["aidon_3phase"], address=(1, 17)),
            PushedMeter("by serial", _BY_NAME["iskra_am550"], serial="LS0000001"),
            PushedMeter("by list", _BY_NAME["lg_e450_described"]),
        ]
    )
    refused: DlmsError | None = None
    for place, apdu in enumerate(records(data)):
        try:
            line.hear(place % 2, (1, 17), apdu)
        except DlmsError as error:
            refused = error
    if refused is not None:
        raise refused


def _of_meters() -> Sequence[bytes]:
    ciphered = sealed(Apdu.GENERAL_GLO_CIPHERING, 0x30, 1, _list_of(_BY_NAME["kamstrup_omnipower"]))
    in_blocks = [twice for piece in pieces(ciphered) for twice in (piece, piece)]
    plain = [as_records([apdu]) for apdu in _lists()]
    return [*plain, as_records([ciphered]), as_records(in_blocks)]


def _apdu_text(data: bytes) -> None:
    text = apdu_text(data)
    if len(text) > LONGEST or not text.isprintable():
        raise Overgrown(f"{len(text)} characters, or one that a terminal obeys")


def _apdus() -> Sequence[bytes]:
    session = bench_session()
    return [*session.apdus, *captured_with(*range(0xC0, 0xE1), 0x60, 0x61), *_lists()]


def _frame_text(data: bytes) -> None:
    for frame in FrameCutter().feed(frames_of(data)):
        for sent in (True, False):
            if not frame_text(frame, sent=sent).isprintable():
                raise Overgrown("a character that a terminal obeys")


def _frames() -> Sequence[bytes]:
    parameters = bytes.fromhex("8180140502008006020080070400000001080400000001")
    controls = (0x93, 0x73, 0x53, 0x1F, 0x97, 0x11, 0x15, 0x19, 0x10, 0x32, 0x13)
    return [frame_records(control, parameters, 120) for control in controls]


DECODERS: Final = (
    Decoder("push-list", _list, (AnswerMalformed, ListUnknown, MeterDiffers), _lists),
    Decoder("push-line", _listen, (), _pushed, lines_per_byte=60, bytes_per_byte=100),
    Decoder("pushed-meters", _whose, (DlmsError,), _of_meters, bytes_per_byte=100),
    Decoder("apdu-text", _apdu_text, (), _apdus),
    Decoder("frame-text", _frame_text, (), _frames),
)
