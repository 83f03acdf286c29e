"""ACTION: one method of one object (IEC 62056-5-3), in one request or in blocks.

Parsers raise the errors of `errors.py`; none of them waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Method
from agent.dlms.apdu.get import CONFIRMED_HIGH_PRIORITY
from agent.dlms.apdu.refusal import refuse_errors
from agent.dlms.apdu.request_blocks import request_blocks
from agent.dlms.constants import ActionKind, Apdu
from agent.dlms.errors import AnswerMalformed


def action_request(invoke: int, method: Method, parameters: bytes | None) -> bytes:
    """ACTION of one method with encoded parameters, or without any."""
    return (
        bytes([Apdu.ACTION_REQUEST, ActionKind.NORMAL, CONFIRMED_HIGH_PRIORITY | invoke])
        + method.descriptor()
        + (b"\x00" if parameters is None else b"\x01" + parameters)
    )


def action_block_requests(
    invoke: int, method: Method, parameters: bytes, longest: int
) -> Iterator[bytes]:
    """The same in blocks, each request at most `longest` bytes; raises RequestTooLong."""
    priority = CONFIRMED_HIGH_PRIORITY | invoke
    first = bytes([Apdu.ACTION_REQUEST, ActionKind.FIRST_BLOCK, priority]) + method.descriptor()
    after = bytes([Apdu.ACTION_REQUEST, ActionKind.BLOCK, priority])
    return request_blocks(first, after, parameters, longest)


def action_next_request(invoke: int, block: int) -> bytes:
    """Acknowledges block `block` of the return parameters and asks for the one after it."""
    return bytes(
        [Apdu.ACTION_REQUEST, ActionKind.NEXT_BLOCK, CONFIRMED_HIGH_PRIORITY | invoke]
    ) + block.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class ActionAnswer:
    """A response to ACTION, or one block of it; `data` is what the method returned."""

    data: bytes | None
    refused: int = 0
    """Action result; 0 = success."""
    last: bool = True
    block: int = 0
    """Number of the block; 0 = the answer is whole."""
    taken: int = 0
    """Number of the block of the request that was taken, and the next is waited for; 0 = none."""


def action_response(apdu: bytes, invoke: int) -> ActionAnswer:
    """What an ACTION response says; raises ServiceRefused, CounterBehind or AnswerMalformed."""
    refuse_errors(apdu)
    if len(apdu) < 4 or apdu[0] != Apdu.ACTION_RESPONSE or apdu[2] & 0x0F != invoke:
        raise AnswerMalformed(
            f"expected an ACTION response (c7) to request {invoke}, came {apdu[:8].hex()}"
        )
    if apdu[1] == ActionKind.NORMAL:
        if apdu[3]:
            return ActionAnswer(None, refused=apdu[3])
        # Some meters leave out even the byte that says that nothing is returned.
        if len(apdu) == 4 or apdu[4] == 0:
            return ActionAnswer(None)
        if apdu[4:6] == b"\x01\x00":
            return ActionAnswer(apdu[6:])
        if apdu[4:6] == b"\x01\x01" and len(apdu) >= 7:
            return ActionAnswer(None, refused=apdu[6])
    elif apdu[1] == ActionKind.BLOCK_TAKEN and len(apdu) >= 7:
        return ActionAnswer(None, taken=int.from_bytes(apdu[3:7], "big"))
    elif apdu[1] == ActionKind.WITH_BLOCK and len(apdu) >= 9:
        block = int.from_bytes(apdu[4:8], "big")
        try:
            size, at = axdr.read_length(apdu, 8)
        except axdr.AxdrError as error:
            raise AnswerMalformed(f"block {block}: {error}") from error
        if at + size <= len(apdu):
            return ActionAnswer(apdu[at : at + size], last=bool(apdu[3]), block=block)
    raise AnswerMalformed(
        f"an ACTION response ends early or has an unknown form: {apdu[:16].hex()}"
    )


def joined_return(data: bytes) -> bytes:
    """The encoded value in the joined blocks of an ACTION response; raises AnswerMalformed.

    Meters differ in what stands before the value: nothing, the choice `data`
    of a result, or the whole result of the action. The value fills the rest.
    """
    for before in (b"\x00\x01\x00", b"\x00", b""):
        if data.startswith(before):
            try:
                axdr.decode_whole(data[len(before) :])
            except axdr.AxdrError:
                continue
            return data[len(before) :]
    raise AnswerMalformed(
        f"expected one value in the blocks of an ACTION response, found {data[:16].hex()}"
    )
