"""A request that is too long for the meter, in numbered blocks (IEC 62056-5-3): SET and ACTION."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.dlms import axdr
from agent.dlms.errors import RequestTooLong

_MOST_AROUND: Final = 8
"""Whether it is the last, its number, and a length below 65,536."""


def request_blocks(first: bytes, after: bytes, data: bytes, longest: int) -> Iterator[bytes]:
    """Requests of at most `longest` bytes, headed by `first`, then `after`; RequestTooLong."""
    room = longest - _MOST_AROUND - len(first)
    if room < 1:
        raise RequestTooLong(f"a request of {longest} bytes has no room for a block")
    starts = range(0, len(data), room)
    for number, at in enumerate(starts, 1):
        part = data[at : at + room]
        yield (
            (first if number == 1 else after)
            + bytes([number == len(starts)])
            + number.to_bytes(4, "big")
            + axdr.length(len(part))
            + part
        )
