"""Which meters a block speaks of: told once, then named by its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MOST_METERS: Final = 4096
_HASH_BYTES: Final = 8


class RosterDamaged(ValueError):
    """Bytes that are not a roster."""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One meter in one epoch."""

    meter: str
    serial: str
    channels: int
    """Bit mask: bit i says that the meter has channel i of the schema."""


@dataclass(frozen=True)
class Roster:
    """Meters in the order in which blocks number them."""

    entries: tuple[RosterEntry, ...]

    @cached_property
    def encoded(self) -> bytes:
        """The roster's bytes: each string as shared beginning with the one above, and the rest."""
        if len(self.entries) > MOST_METERS:
            raise RosterDamaged(f"{len(self.entries)} meters, expected at most {MOST_METERS}")
        out = bytearray(varint(len(self.entries)))
        before = ("", "")
        for entry in self.entries:
            if not 0 <= entry.channels < 1 << 63:
                raise RosterDamaged(f"meter {entry.meter}: channel mask {entry.channels}")
            for text, above in zip((entry.meter, entry.serial), before, strict=True):
                out += _after(text.encode(), above.encode())
            out += varint(entry.channels)
            before = (entry.meter, entry.serial)
        return bytes(out)

    @cached_property
    def hash(self) -> bytes:
        """First 8 bytes of SHA-256 over the encoded roster."""
        return hashlib.sha256(self.encoded).digest()[:_HASH_BYTES]


def decode_roster(data: bytes) -> Roster:
    """The roster in `data`, which it fills; raises RosterDamaged."""
    count, at = read_varint(data, 0)
    if count > MOST_METERS:
        raise RosterDamaged(f"roster of {count} meters, expected at most {MOST_METERS}")
    entries = []
    before = (b"", b"")
    for _ in range(count):
        meter, at = _read_after(data, at, before[0])
        serial, at = _read_after(data, at, before[1])
        channels, at = read_varint(data, at)
        before = (meter, serial)
        try:
            entries.append(RosterEntry(meter.decode(), serial.decode(), channels))
        except UnicodeDecodeError as error:
            raise RosterDamaged(f"meter {len(entries)}: a name that is not UTF-8") from error
    if at != len(data):
        raise RosterDamaged(f"{len(data) - at} bytes follow the roster")
    return Roster(tuple(entries))


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the highest bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where the next thing begins; raises RosterDamaged."""
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            raise RosterDamaged("the data end inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise RosterDamaged("a number that is not in its shortest form")
            return value, at
    raise RosterDamaged("a number of more than 63 bits")


def _after(text: bytes, above: bytes) -> bytes:
    if len(text) > 255:
        raise RosterDamaged(f"a name of {len(text)} bytes, expected at most 255")
    shared = 0
    while shared < min(len(text), len(above), 255) and text[shared] == above[shared]:
        shared += 1
    return varint(shared) + varint(len(text) - shared) + text[shared:]


def _read_after(data: bytes, at: int, above: bytes) -> tuple[bytes, int]:
    shared, at = read_varint(data, at)
    rest, at = read_varint(data, at)
    if shared > len(above) or rest > len(data) - at or shared + rest > 255:
        raise RosterDamaged("a name that is longer than it can be")
    return above[:shared] + data[at : at + rest], at + rest
