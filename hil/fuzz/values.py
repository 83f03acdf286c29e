"""Encoded values: A-XDR, rows of a load profile and what they mean, BER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.ber import content, tlvs
from agent.dlms.constants import Tag
from agent.dlms.errors import AnswerMalformed, MeterDiffers
from agent.dlms.load_profile.columns import Columns, Scaling, map_columns
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import load_meter_class
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from hil.fuzz.seeds import bench_session, captured_with

_PROFILE: Final = load_meter_class("idis_residential").profile
_CAPTURED: Final = (
    *(attribute for attribute in (_PROFILE.clock, _PROFILE.status) if attribute),
    *(attribute for quantity in _PROFILE.columns.values() for attribute in quantity.attributes),
)
_POSITIONS: Final = {attribute: at for at, attribute in enumerate(_CAPTURED)}
_SCALINGS: Final = {
    attribute: Scaling(-1, quantity.unit)
    for quantity in _PROFILE.columns.values()
    for attribute in quantity.attributes
}
_ROW: Final = axdr.structure(
    axdr.octets(bytes.fromhex("07e90b16ff0e0f0000ffc400")),
    axdr.number(Tag.U8, 0),
    *(axdr.number(Tag.U32, 123_456) for _ in range(3)),
    *(axdr.number(Tag.U16, 2_312) for _ in range(2)),
)
CAPTURE_OBJECTS: Final = axdr.array(
    axdr.structure(
        axdr.number(Tag.U16, attribute.class_id),
        axdr.octets(attribute.name),
        axdr.number(Tag.I8, attribute.index),
        axdr.number(Tag.U16, 0),
    )
    for attribute in _CAPTURED
)


def rows(data: bytes) -> None:
    """Rows by the quick way and by the general one are the same, and no longer than the input."""
    found, end = decode_rows(data)
    if len(found) > len(data) or end > len(data):
        raise Overgrown(f"{len(found)} rows up to byte {end} from {len(data)} bytes")
    if repr(axdr.decode(data)) != repr((found, end)):
        raise Overgrown("the quick decoder and the general one differ")


def columns(data: bytes) -> None:
    """From encoded rows to intervals."""
    table = Columns(_PROFILE, _POSITIONS, _SCALINGS, 900, MeterTime(60), "fuzzed")
    if len(table.rows(data, 0, 1 << 40)) > len(data):
        raise Overgrown(f"more intervals than the {len(data)} bytes of input")


def mapping(data: bytes) -> None:
    """Capture objects: what the meter says of the columns of its own profile."""
    value, _ = axdr.decode(data)
    if len(map_columns(value, _PROFILE, "fuzzed")) > len(_POSITIONS):
        raise Overgrown("more columns than the meter class has")


def _values() -> Sequence[bytes]:
    every_type = [
        axdr.structure(*(axdr.number(tag, 1) for tag in (3, 5, 6, 13, 15, 16, 17, 18, 20, 21, 22))),
        axdr.structure(axdr.number(Tag.F32, 1.5), axdr.number(Tag.F64, 2.5), axdr.NULL),
        axdr.structure(axdr.octets(bytes(20)), axdr.visible("kWh"), axdr.bits("1011001110")),
        bytes([Tag.UTF8, 3]) + b"V\xc2\xb2",
        bytes([Tag.DATE_TIME]) + bytes(12),
        bytes([Tag.DATE]) + bytes(5) + bytes([Tag.TIME]) + bytes(4),
        bytes(
            [Tag.COMPACT_ARRAY, Tag.STRUCTURE, 2, Tag.U16, Tag.OCTETS, 8, 0, 1, 1, 7, 0, 2, 1, 8]
        ),
        bytes([Tag.COMPACT_ARRAY, Tag.ARRAY, 0, 2, Tag.U8, 4, 1, 2, 3, 4]),
        _nested(8),
    ]
    answers = [apdu[4:] for apdu in bench_session().answers(0xC4)]
    return every_type + answers + [_profile(), *captured_with(1, 2)]


def _nested(depth: int) -> bytes:
    value = axdr.NULL
    for _ in range(depth):
        value = axdr.array([axdr.structure(value, axdr.NULL)])
    return value


def _profile() -> bytes:
    # Two layouts, so that the quick decoder has to change over in the middle.
    nulls = axdr.structure(*[axdr.NULL] * len(_POSITIONS))
    return axdr.array([_ROW] * 9 + [nulls] * 6 + [_ROW] * 3)


def _costly(size: int) -> Sequence[bytes]:
    """The most objects for the fewest bytes: empty arrays, empty bit strings, deep compact ones."""
    elements = [
        b"\x01\x00",
        b"\x04\x00",
        b"\x01\x01\x00",
        b"\x0c\x01\xff",
        b"\x01\x01" * 14 + b"\x00",
    ]
    arrays = [axdr.array([element] * (size // len(element))) for element in elements]
    contents = axdr.length(size) + bytes(size)
    shapes = [b"\x02\x01" * levels + b"\x11" for levels in (1, 4, 15)]
    shapes += [b"\x01\xff\xff" * 4 + b"\x11", b"\x01\x0f\xff" * 4 + b"\x11", b"\x02\x01\x04"]
    compact = [bytes([Tag.COMPACT_ARRAY]) + shape + contents for shape in shapes]
    return [*arrays, *compact, axdr.bits("10" * (size * 4))]


def _costly_rows(size: int) -> Sequence[bytes]:
    """Rows that fit no layout, and rows whose layout changes with each."""
    empty = axdr.structure()
    null = axdr.structure(axdr.NULL)
    byte = axdr.structure(axdr.number(Tag.U8, 1))
    return [axdr.array([empty] * (size // 2)), axdr.array([null, byte] * (size // 7))]


def _row_seeds() -> Sequence[bytes]:
    profiles = [apdu[at:] for apdu in bench_session().answers(0xC4) for at in _arrays(apdu)]
    return [_profile(), axdr.array([]), axdr.array([_ROW]), *profiles, *captured_with(1)]


def _arrays(apdu: bytes) -> list[int]:
    """Where an array of more than a few rows begins."""
    return [at for at in range(4, 24) if apdu[at : at + 1] == b"\x01" and len(apdu) > 500]


def _ber_seeds() -> Sequence[bytes]:
    return bench_session().answers(0x61) + captured_with(0x60, 0x61, 0x62, 0x63)


def _ber(data: bytes) -> Any:
    return tlvs(content(data, 0)[0])


DECODERS: Final = (
    Decoder("axdr", axdr.decode, (axdr.AxdrError,), _values, _costly, 80, 256),
    Decoder("profile-rows", rows, (axdr.AxdrError,), _row_seeds, _costly_rows, 80, 200),
    Decoder("profile-columns", columns, (AnswerMalformed,), _row_seeds, _costly_rows, 40, 100),
    Decoder(
        "profile-objects",
        mapping,
        (axdr.AxdrError, AnswerMalformed, MeterDiffers),
        lambda: [CAPTURE_OBJECTS, *_values()],
    ),
    Decoder("ber", _ber, (AnswerMalformed,), _ber_seeds),
)
