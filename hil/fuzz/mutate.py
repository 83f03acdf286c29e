"""Damaged copies of good inputs: the same ones for the same seed, and cheap to make."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_TELLING: Final = bytes.fromhex("00 01 02 04 09 10 13 1f 20 30 40 7e 7f 80 81 82 83 84 88 c4 fe ff")
"""Bytes that mean something: limits of signed and unsigned, forms of a length, tags, a flag."""
LONGEST_BYTES: Final = 4096
_MOST_CHANGES: Final = 4
_GROWN_BYTES: Final = 12


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` inputs, each a seed with one to four changes, none longer than 4 KiB."""
    drawn = random.Random(seed)
    for _ in range(count):
        data = bytearray(drawn.choice(seeds))
        for _ in range(1 + int(drawn.random() * _MOST_CHANGES)):
            drawn.choice(_CHANGES)(data, drawn, seeds)
        yield bytes(data[:LONGEST_BYTES])


def grown(seed: bytes, size: int) -> Iterator[bytes]:
    """Long inputs, `size` bytes or a little more: a seed over and over, single bytes of it alone.

    The bytes are those that stand first in it: heads, tags, lengths.
    """
    if seed:
        yield seed * (size // len(seed) + 1)
    for byte in dict.fromkeys(seed[:_GROWN_BYTES]):
        yield bytes([byte]) * size


def _place(data: bytearray, drawn: random.Random) -> int:
    return int(drawn.random() * len(data))


def _flip_a_bit(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    if data:
        data[_place(data, drawn)] ^= 1 << int(drawn.random() * 8)


def _put_a_telling_byte(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    if data:
        data[_place(data, drawn)] = drawn.choice(_TELLING)


def _put_any_byte(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    if data:
        data[_place(data, drawn)] = int(drawn.random() * 256)


def _step_a_byte(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    """One more or one less: what breaks a length or a count by the least."""
    if data:
        at = _place(data, drawn)
        data[at] = (data[at] + (1 if drawn.random() < 0.5 else -1)) & 0xFF


def _insert(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, drawn)
    data[at:at] = bytes([drawn.choice(_TELLING)]) * (1 + int(drawn.random() * 4))


def _remove(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, drawn)
    del data[at : at + 1 + int(drawn.random() * 8)]


def _cut_short(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    del data[_place(data, drawn) :]


def _double_a_part(data: bytearray, drawn: random.Random, _seeds: Sequence[bytes]) -> None:
    start, end = sorted((_place(data, drawn), _place(data, drawn)))
    data[end:end] = data[start:end]


def _join_another(data: bytearray, drawn: random.Random, seeds: Sequence[bytes]) -> None:
    """The beginning of this input and the end of another one."""
    other = drawn.choice(seeds)
    data[_place(data, drawn) :] = other[int(drawn.random() * len(other)) :]


_Change = Callable[[bytearray, random.Random, Sequence[bytes]], None]

_CHANGES: Final[tuple[_Change, ...]] = (
    _flip_a_bit,
    _put_a_telling_byte,
    _put_a_telling_byte,
    _put_any_byte,
    _step_a_byte,
    _step_a_byte,
    _insert,
    _remove,
    _cut_short,
    _double_a_part,
    _join_another,
)
