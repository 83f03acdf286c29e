"""The frame search in plain Python: the readable twin of the compiled kernel."""

from __future__ import annotations

from typing import Final

from ext.checksum_pure import crc16_modbus

_EXCEPTION: Final = 5
"""Bytes of an exception frame, and of an answer beside its values."""


def search(
    buffer: bytes | bytearray, unit: int, function: int, byte_count: int
) -> tuple[int, int, int]:
    """`(at, length, missing)`, see `ext.frame.search`."""
    size = len(buffer)
    answer = _EXCEPTION + byte_count
    missing = begun = answer + 1
    for at in range(size):
        if buffer[at] != unit:
            continue
        if at + 1 == size:
            begun = min(begun, _EXCEPTION - 1)
            continue
        if buffer[at + 1] == function | 0x80:
            length = _EXCEPTION
        elif buffer[at + 1] != function:
            continue
        elif at + 2 == size:
            begun = min(begun, answer - 2)
            continue
        elif buffer[at + 2] == byte_count:
            length = answer
        else:
            continue
        if at + length > size:
            missing = min(missing, at + length - size)
        elif crc16_modbus(bytes(buffer[at : at + length])) == 0:
            return at, length, 0
    if missing <= answer:
        return -1, 0, missing
    return -1, 0, begun if begun <= answer else _EXCEPTION
