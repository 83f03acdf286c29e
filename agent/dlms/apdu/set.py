"""SET of one attribute (IEC 62056-5-3), in one request or in blocks. Bytes in, bytes out.

Parsers raise the errors of `errors.py`; none of them waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.get import CONFIRMED_HIGH_PRIORITY
from agent.dlms.apdu.refusal import refuse_errors
from agent.dlms.apdu.request_blocks import request_blocks
from agent.dlms.constants import Apdu, SetKind
from agent.dlms.errors import AnswerMalformed


def set_request(invoke: int, attribute: Attribute, value: bytes) -> bytes:
    """SET of one attribute to an encoded value."""
    return (
        bytes([Apdu.SET_REQUEST, SetKind.NORMAL, CONFIRMED_HIGH_PRIORITY | invoke])
        + attribute.descriptor()
        + b"\x00"
        + value
    )


def set_block_requests(
    invoke: int, attribute: Attribute, value: bytes, longest: int
) -> Iterator[bytes]:
    """The same in blocks, each request at most `longest` bytes; raises RequestTooLong."""
    priority = CONFIRMED_HIGH_PRIORITY | invoke
    target = attribute.descriptor() + b"\x00"
    first = bytes([Apdu.SET_REQUEST, SetKind.FIRST_DATABLOCK, priority]) + target
    after = bytes([Apdu.SET_REQUEST, SetKind.DATABLOCK, priority])
    return request_blocks(first, after, value, longest)


@dataclass(frozen=True, slots=True)
class SetAnswer:
    """A response to SET or to one block of it."""

    refused: int
    """Data-access result; 0 = success."""
    block: int
    """Number of the block that is acknowledged; 0 = the SET was not in blocks."""
    last: bool
    """Whether the SET is over; otherwise the next block is waited for."""


def set_response(apdu: bytes, invoke: int) -> SetAnswer:
    """What a SET response says; raises ServiceRefused, CounterBehind or AnswerMalformed."""
    refuse_errors(apdu)
    if len(apdu) < 4 or apdu[0] != Apdu.SET_RESPONSE or apdu[2] & 0x0F != invoke:
        raise AnswerMalformed(
            f"expected a SET response (c5) to request {invoke}, came {apdu[:8].hex()}"
        )
    kind = apdu[1]
    if kind == SetKind.NORMAL:
        return SetAnswer(apdu[3], 0, True)
    if kind == SetKind.BLOCK_TAKEN and len(apdu) >= 7:
        return SetAnswer(0, int.from_bytes(apdu[3:7], "big"), False)
    if kind == SetKind.LAST_BLOCK_TAKEN and len(apdu) >= 8:
        return SetAnswer(apdu[3], int.from_bytes(apdu[4:8], "big"), True)
    raise AnswerMalformed(f"a SET response ends early or has an unknown form: {apdu[:16].hex()}")
