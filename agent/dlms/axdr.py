"""A-XDR, the encoding of COSEM `Data`: builders that return bytes, and a bounded decoder.

The decoder gives Python values: null None, array list, structure tuple, all
integers and enumerations int, octet strings and dates bytes, visible and UTF-8
strings str, bit strings `Bits`, dont-care `DONT_CARE`. It makes no more objects
than a few for each byte of input, and refuses nesting deeper than 16. Source:
IEC 61334-6, IEC 62056-5-3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from agent.dlms.constants import Tag

DEEPEST: Final = 16
_DEEPEST_SHAPE: Final = 4
"""Levels in the type description of a compact array: every level makes an object for each byte
of contents, so sixteen of them would turn a kilobyte from the line into most of a megabyte."""


class AxdrError(ValueError):
    """The bytes are not the A-XDR encoding of one value."""


@dataclass(frozen=True, slots=True)
class Bits:
    """A bit string; `text` holds its bits as 0 and 1, first bit first."""

    text: str


class _Kind(Enum):
    DONT_CARE = "dont-care"


DONT_CARE: Final = _Kind.DONT_CARE
"""The value of an element that means "any", in selections; not the same as null."""

_NUMBERS: Final[dict[int, struct.Struct]] = {
    Tag.I32: struct.Struct(">i"),
    Tag.U32: struct.Struct(">I"),
    Tag.I8: struct.Struct(">b"),
    Tag.I16: struct.Struct(">h"),
    Tag.U8: struct.Struct(">B"),
    Tag.U16: struct.Struct(">H"),
    Tag.I64: struct.Struct(">q"),
    Tag.U64: struct.Struct(">Q"),
    Tag.ENUM: struct.Struct(">B"),
    Tag.BCD: struct.Struct(">b"),
    Tag.F32: struct.Struct(">f"),
    Tag.F64: struct.Struct(">d"),
    Tag.BOOLEAN: struct.Struct(">?"),
}
_FIXED_OCTETS: Final[dict[int, int]] = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}

NULL: Final = bytes([Tag.NULL])


def number(tag: int, value: float) -> bytes:
    """A number, boolean or enumeration of the type `tag`; raises AxdrError if it does not fit."""
    try:
        return bytes([tag]) + _NUMBERS[tag].pack(value)
    except (KeyError, struct.error) as error:
        raise AxdrError(f"{value!r} does not fit the type with tag {tag} ({error})") from error


def octets(data: bytes) -> bytes:
    """An octet string."""
    return bytes([Tag.OCTETS]) + length(len(data)) + data


def visible(text: str) -> bytes:
    """A visible string."""
    return bytes([Tag.VISIBLE]) + length(len(text)) + text.encode("ascii")


def utf8(text: str) -> bytes:
    """A UTF-8 string."""
    encoded = text.encode()
    return bytes([Tag.UTF8]) + length(len(encoded)) + encoded


def moment(tag: int, data: bytes) -> bytes:
    """A date-time (12 bytes), date (5) or time (4) of the type `tag`; raises AxdrError."""
    if len(data) != _FIXED_OCTETS.get(tag):
        raise AxdrError(f"{len(data)} bytes do not fit the type with tag {tag}")
    return bytes([tag]) + data


def bits(text: str) -> bytes:
    """A bit string from its bits as 0 and 1."""
    padded = text + "0" * (-len(text) % 8)
    packed = int(padded, 2).to_bytes(len(padded) // 8, "big") if padded else b""
    return bytes([Tag.BIT_STRING]) + length(len(text)) + packed


def array(items: Iterable[bytes]) -> bytes:
    """An array of encoded items."""
    encoded = list(items)
    return bytes([Tag.ARRAY]) + length(len(encoded)) + b"".join(encoded)


def structure(*items: bytes) -> bytes:
    """A structure of encoded items."""
    return bytes([Tag.STRUCTURE]) + length(len(items)) + b"".join(items)


def compact_array(description: bytes, contents: Iterable[bytes]) -> bytes:
    """A compact array: the type of its elements, then elements without their tags."""
    whole = b"".join(contents)
    return bytes([Tag.COMPACT_ARRAY]) + description + length(len(whole)) + whole


def length(count: int) -> bytes:
    """A length or count: one byte below 128, otherwise 80 + size and the number."""
    if count < 0x80:
        return bytes([count])
    size = (count.bit_length() + 7) // 8
    return bytes([0x80 | size]) + count.to_bytes(size, "big")


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """A length or count at `at`, and where it ends; raises AxdrError."""
    if at >= len(data):
        raise AxdrError(f"expected a length at byte {at}, the data end there")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if not 1 <= size <= 4 or at + 1 + size > len(data):
        raise AxdrError(f"expected a length of 1 to 4 bytes at byte {at}, found {first:#04x}")
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """One value that begins at `at`, and where it ends; raises AxdrError."""
    return _value(data, at, 0)


def decode_whole(data: bytes) -> Any:
    """The one value that fills `data`; raises AxdrError if anything follows it."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise AxdrError(f"expected the data to end at byte {end}, {len(data) - end} bytes follow")
    return value


def decode_compact(description: bytes, contents: bytes) -> list[Any]:
    """The elements of compact data (IEC 62056-6-2, class 62); raises AxdrError.

    `description` is its template, a type as in a compact array; `contents` its buffer.
    """
    shape, end = _shape(description, 0, 0)
    if end != len(description):
        raise AxdrError(f"expected the type description to end at byte {end}, more follows")
    return _elements(shape, contents, 0)


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data):
        raise AxdrError(f"expected a type tag at byte {at}, the data end there")
    return _body(data[at], data, at + 1, depth)


def _body(tag: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value of type `tag` whose content, without its tag, begins at `at`."""
    layout = _NUMBERS.get(tag)
    if layout is not None:
        if at + layout.size > len(data):
            raise AxdrError(f"expected {layout.size} bytes for tag {tag} at byte {at}, data end")
        return layout.unpack_from(data, at)[0], at + layout.size
    if tag == Tag.NULL:
        return None, at
    if tag == Tag.OCTETS:
        return _run(data, at, tag)
    if tag in (Tag.ARRAY, Tag.STRUCTURE):
        return _items(tag, data, at, depth)
    if tag in _FIXED_OCTETS:
        return _cut(data, at, _FIXED_OCTETS[tag], tag)
    if tag in (Tag.VISIBLE, Tag.UTF8):
        raw, end = _run(data, at, tag)
        # Meters put Latin-1 into visible strings; losing a reading over a name helps nobody.
        return raw.decode("utf-8" if tag == Tag.UTF8 else "latin-1", "replace"), end
    if tag == Tag.BIT_STRING:
        return _bit_string(data, at)
    if tag == Tag.COMPACT_ARRAY:
        return _compact_array(data, at, depth)
    if tag == Tag.DONT_CARE:
        return DONT_CARE, at
    raise AxdrError(f"expected a type tag at byte {at - 1}, found {tag}")


def _cut(data: bytes, at: int, size: int, tag: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise AxdrError(f"expected {size} bytes for tag {tag} at byte {at}, {len(data) - at} left")
    return bytes(data[at : at + size]), at + size


def _run(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    size, at = read_length(data, at)
    return _cut(data, at, size, tag)


def _items(tag: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth >= DEEPEST:
        raise AxdrError(f"values are nested deeper than {DEEPEST} at byte {at}")
    count, at = read_length(data, at)
    if count > len(data) - at:
        raise AxdrError(f"{count} elements at byte {at} cannot fit {len(data) - at} bytes")
    items = []
    for _ in range(count):
        item, at = _value(data, at, depth + 1)
        items.append(item)
    return (items if tag == Tag.ARRAY else tuple(items)), at


def _bit_string(data: bytes, at: int) -> tuple[Bits, int]:
    count, at = read_length(data, at)
    packed, end = _cut(data, at, (count + 7) // 8, Tag.BIT_STRING)
    digits = format(int.from_bytes(packed, "big"), f"0{len(packed) * 8}b") if packed else ""
    return Bits(digits[:count]), end


_Shape = tuple[int, Any]
"""A type in a compact array: its tag, and for arrays and structures what they hold."""


def _shape(data: bytes, at: int, depth: int) -> tuple[_Shape, int]:
    if at >= len(data) or depth > _DEEPEST_SHAPE:
        raise AxdrError(
            f"expected a type description of at most {_DEEPEST_SHAPE} levels at byte {at}, "
            f"found {'a deeper one' if at < len(data) else 'the end of the data'}"
        )
    tag = data[at]
    if tag == Tag.ARRAY:
        raw, at = _cut(data, at + 1, 2, tag)
        inner, at = _shape(data, at, depth + 1)
        return (tag, (_some(int.from_bytes(raw, "big"), at), inner)), at
    if tag == Tag.STRUCTURE:
        count, at = read_length(data, at + 1)
        if count > len(data) - at:
            raise AxdrError(f"{count} type descriptions at byte {at} cannot fit the data")
        parts = []
        for _ in range(_some(count, at)):
            part, at = _shape(data, at, depth + 1)
            parts.append(part)
        return (tag, parts), at
    _some(tag not in (Tag.NULL, Tag.DONT_CARE), at)
    return (tag, None), at + 1


def _some(count: int, at: int) -> int:
    """Refuses elements without size: a few bytes could ask for any number of them."""
    if not count:
        raise AxdrError(f"the type description before byte {at} has elements without size")
    return count


def _shaped(shape: _Shape, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    tag, inner = shape
    if tag == Tag.ARRAY:
        count, part = inner
        if count > len(data) - at:
            raise AxdrError(f"{count} elements at byte {at} cannot fit {len(data) - at} bytes")
        shapes = [part] * count
    elif tag == Tag.STRUCTURE:
        shapes = inner
    else:
        return _body(tag, data, at, depth)
    items = []
    for part in shapes:
        item, at = _shaped(part, data, at, depth + 1)
        items.append(item)
    return (items if tag == Tag.ARRAY else tuple(items)), at


def _compact_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth >= DEEPEST:
        raise AxdrError(f"values are nested deeper than {DEEPEST} at byte {at}")
    shape, at = _shape(data, at, 0)
    size, at = read_length(data, at)
    contents, end = _cut(data, at, size, Tag.COMPACT_ARRAY)
    return _elements(shape, contents, depth), end


def _elements(shape: _Shape, contents: bytes, depth: int) -> list[Any]:
    """The elements of one type that fill `contents`."""
    items = []
    at = 0
    while at < len(contents):
        item, at = _shaped(shape, contents, at, depth + 1)
        items.append(item)
    return items
