"""Which rows of a load profile are asked for: by range of time, by number of entry."""

from __future__ import annotations

from agent.dlms import axdr
from agent.dlms.constants import ClassId, obis


def by_range(first_clock: bytes, last_clock: bytes) -> bytes:
    """Selector 1 of a profile: rows whose clock lies in the range; date-times of 12 bytes."""
    clock = axdr.structure(
        axdr.number(18, ClassId.CLOCK),
        axdr.octets(obis("0.0.1.0.0.255")),
        axdr.number(15, 2),
        axdr.number(18, 0),
    )
    return b"\x01" + axdr.structure(
        clock, axdr.octets(first_clock), axdr.octets(last_clock), axdr.array([])
    )


def by_entry(first: int, last: int) -> bytes:
    """Selector 2 of a profile: rows by number from 1, oldest first; last 0 means the newest."""
    return b"\x02" + axdr.structure(
        axdr.number(6, first), axdr.number(6, last), axdr.number(18, 1), axdr.number(18, 0)
    )
