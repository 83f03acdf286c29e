"""The part of CBOR that the envelope needs, in its deterministic form only (RFC 8949, 4.2.1).

Integers, byte strings, text, arrays, maps with integer keys, and tag 18. The
decoder accepts exactly what the encoder would write: shortest heads, definite
lengths, sorted keys, nothing after the value. So a value has one encoding and
a signature covers one meaning.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = "int | bytes | str | list[Value] | dict[int, Value] | Tagged"

_MOST_DEPTH: Final = 8
_MOST_ITEMS: Final = 4096
_COSE_SIGN1: Final = 18


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value under tag 18, COSE_Sign1."""

    value: Value


class CborError(ValueError):
    """Bytes that are not the deterministic form of a value, or a value that has none."""


def encode(value: Value) -> bytes:
    """The one encoding of `value`; raises CborError for what `decode` would not take back."""
    return _encode(value, 0)


def _encode(value: Value, depth: int) -> bytes:
    if depth > _MOST_DEPTH:
        raise CborError(f"nested deeper than {_MOST_DEPTH}")
    if isinstance(value, bool):
        raise CborError(f"{value!r}: expected int, bytes, str, list, dict or Tagged, came a bool")
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = _utf8(value)
        return _head(3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _count(4, value) + b"".join(_encode(item, depth + 1) for item in value)
    if isinstance(value, dict):
        pairs = [(_key(key), _encode(item, depth + 1)) for key, item in value.items()]
        return _count(5, value) + b"".join(key + item for key, item in sorted(pairs))
    if isinstance(value, Tagged):
        return _head(6, _COSE_SIGN1) + _encode(value.value, depth + 1)
    raise CborError(f"expected int, bytes, str, list, dict or Tagged, came {type(value).__name__}")


def decode(data: bytes) -> Value:
    """The value whose deterministic encoding is exactly `data`; raises CborError."""
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the value that ends at byte {end}")
    return value


def _count(major: int, items: Sized) -> bytes:
    if len(items) > _MOST_ITEMS:
        raise CborError(f"{len(items)} items, expected at most {_MOST_ITEMS}")
    return _head(major, len(items))


def _key(key: object) -> bytes:
    if not isinstance(key, int) or isinstance(key, bool):
        raise CborError(f"map key {key!r}: expected an integer")
    return _head(0, key) if key >= 0 else _head(1, -1 - key)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise CborError(f"{text!r}: a lone surrogate is no UTF-8") from error


def _head(major: int, argument: int) -> bytes:
    first = major << 5
    if argument < 24:
        return bytes((first | argument,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes((first | code,)) + argument.to_bytes(size, "big")
    raise CborError(f"{argument}: does not fit 64 bits")


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise CborError(f"data end at byte {at} where a value was expected")
    major, code = data[at] >> 5, data[at] & 0x1F
    at += 1
    if code < 24:
        return major, code, at
    if code > 27:
        raise CborError(f"byte {at - 1}: indefinite or reserved length {code}, expected a definite")
    size = 1 << (code - 24)
    argument = int.from_bytes(data[at : at + size], "big")
    if at + size > len(data):
        raise CborError(f"data end inside the head at byte {at - 1}")
    if argument < (24, 1 << 8, 1 << 16, 1 << 32)[code - 24]:
        raise CborError(f"byte {at - 1}: {argument} is not in its shortest form")
    return major, argument, at + size


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if depth > _MOST_DEPTH:
        raise CborError(f"byte {at}: nested deeper than {_MOST_DEPTH}")
    start = at
    major, argument, at = _read_head(data, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        end = at + argument
        if end > len(data):
            raise CborError(f"byte {start}: string of {argument} bytes, only {len(data) - at} left")
        return _string(major, data[at:end], start), end
    if major == 6 and argument == _COSE_SIGN1:
        value, at = _decode(data, at, depth + 1)
        return Tagged(value), at
    if major not in (4, 5):
        raise CborError(f"byte {start}: major type {major} with {argument} is not used here")
    if argument > _MOST_ITEMS or argument > len(data) - at:
        raise CborError(f"byte {start}: {argument} items announced, more than can be there")
    if major == 4:
        return _items(data, at, argument, depth)
    return _pairs(data, at, argument, depth)


def _string(major: int, value: bytes, start: int) -> bytes | str:
    if major == 2:
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise CborError(f"byte {start}: text is not UTF-8") from error


def _items(data: bytes, at: int, count: int, depth: int) -> tuple[list[Value], int]:
    items = []
    for _ in range(count):
        item, at = _decode(data, at, depth + 1)
        items.append(item)
    return items, at


def _pairs(data: bytes, at: int, count: int, depth: int) -> tuple[dict[int, Value], int]:
    pairs: dict[int, Value] = {}
    before = b""
    for _ in range(count):
        start = at
        key, at = _decode(data, at, depth + 1)
        if not isinstance(key, int):
            raise CborError(f"byte {start}: a map key must be an integer")
        if data[start:at] <= before:
            raise CborError(f"byte {start}: map keys are not in ascending order of their bytes")
        before = data[start:at]
        pairs[key], at = _decode(data, at, depth + 1)
    return pairs, at
