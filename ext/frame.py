"""Search for the answer of a Modbus RTU unit in what came over the line."""

from __future__ import annotations

from ext._load import kernel

_kernel = kernel("frame")


def search(
    buffer: bytes | bytearray, unit: int, function: int, byte_count: int
) -> tuple[int, int, int]:
    """`(at, length, missing)`: the first whole sound answer or exception frame in `buffer`.

    An answer begins with unit, function and byte count; an exception frame
    with unit and function | 0x80 and is 5 bytes long (Modbus application
    protocol 1.1b3, 6.3 and 7). Sound means that the CRC is right. `at` is -1
    where there is none yet; `missing` then says how many more bytes the frame
    needs that has begun and needs the fewest, or 5 (an exception frame) where
    none has begun. A frame's whole head (3 and 2 bytes) weighs more than a
    part of one at the buffer's end, which may be any byte of a longer frame.
    """
    at, length, missing = _kernel.search(buffer, unit, function, byte_count)
    return at, length, missing
