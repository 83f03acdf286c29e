"""GET (IEC 62056-5-3): one attribute, a list of them, the next block. Bytes in, values out.

Parsers raise the errors of `errors.py`; none of them waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.refusal import refuse_errors
from agent.dlms.constants import Apdu, GetKind
from agent.dlms.errors import AnswerMalformed

CONFIRMED_HIGH_PRIORITY: Final = 0xC0
"""What stands beside the invoke id in a request: an answer is wanted, before anything else."""


def get_request(invoke: int, attribute: Attribute, selection: bytes = b"") -> bytes:
    """GET of one attribute; `selection` is a selector with its parameters."""
    return (
        bytes([Apdu.GET_REQUEST, GetKind.NORMAL, CONFIRMED_HIGH_PRIORITY | invoke])
        + attribute.descriptor()
        + (b"\x01" + selection if selection else b"\x00")
    )


def get_list_request(invoke: int, wanted: Sequence[tuple[Attribute, bytes]]) -> bytes:
    """GET of several attributes, each with its selection (or none), in one request."""
    return (
        bytes([Apdu.GET_REQUEST, GetKind.WITH_LIST, CONFIRMED_HIGH_PRIORITY | invoke])
        + axdr.length(len(wanted))
        + b"".join(
            attribute.descriptor() + (b"\x01" + selection if selection else b"\x00")
            for attribute, selection in wanted
        )
    )


def get_next_request(invoke: int, block: int) -> bytes:
    """Acknowledges block `block` and asks for the one after it."""
    return bytes(
        [Apdu.GET_REQUEST, GetKind.NEXT, CONFIRMED_HIGH_PRIORITY | invoke]
    ) + block.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class GetAnswer:
    """A response to GET or one block of it; `data` begins with the value or the results."""

    kind: int
    data: bytes
    refused: int = 0
    """Data-access result; 0 = success."""
    last: bool = True
    block: int = 0


def get_response(apdu: bytes, invoke: int) -> GetAnswer:
    """What a GET response says; raises ServiceRefused, CounterBehind or AnswerMalformed."""
    refuse_errors(apdu)
    if len(apdu) < 4 or apdu[0] != Apdu.GET_RESPONSE or apdu[2] & 0x0F != invoke:
        raise AnswerMalformed(
            f"expected a GET response (c4) to request {invoke}, came {apdu[:8].hex()}"
        )
    kind = apdu[1]
    if kind == GetKind.NORMAL:
        if apdu[3] == 0:
            return GetAnswer(kind, apdu[4:])
        if apdu[3] == 1 and len(apdu) >= 5:
            return GetAnswer(kind, b"", refused=apdu[4])
    elif kind == GetKind.WITH_LIST:
        return GetAnswer(kind, apdu[3:])
    elif kind == GetKind.WITH_DATABLOCK and len(apdu) >= 10:
        last, block = bool(apdu[3]), int.from_bytes(apdu[4:8], "big")
        if apdu[8] == 1:
            return GetAnswer(kind, b"", refused=apdu[9], last=True, block=block)
        if apdu[8] == 0:
            try:
                size, at = axdr.read_length(apdu, 9)
            except axdr.AxdrError as error:
                raise AnswerMalformed(f"block {block}: {error}") from error
            if at + size <= len(apdu):
                return GetAnswer(kind, apdu[at : at + size], last=last, block=block)
    raise AnswerMalformed(f"a GET response ends early or has an unknown form: {apdu[:16].hex()}")


def list_results(data: bytes) -> list[tuple[int, Any]]:
    """(data-access result, value) of each attribute of a GET with list; raises AnswerMalformed."""
    try:
        count, at = axdr.read_length(data, 0)
        results: list[tuple[int, Any]] = []
        for _ in range(min(count, len(data))):
            refused, at = _choice(data, at)
            value = None
            if not refused:
                value, at = axdr.decode(data, at)
            results.append((refused, value))
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"the list of results is malformed: {error}") from error
    return results


def value_and_rest(data: bytes) -> tuple[tuple[int, Any], tuple[int, bytes]]:
    """As `list_results` for two attributes, but the second value stays encoded."""
    try:
        count, at = axdr.read_length(data, 0)
        if count != 2:
            raise AnswerMalformed(f"asked for 2 attributes, {count} came")
        refused, at = _choice(data, at)
        value = None
        if not refused:
            value, at = axdr.decode(data, at)
        refused_rest, at = _choice(data, at)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"the list of results is malformed: {error}") from error
    return (refused, value), (refused_rest, data[at:])


def _choice(data: bytes, at: int) -> tuple[int, int]:
    """The data-access result at `at`, 0 when a value follows, and where it ends."""
    choice = data[at : at + 2]
    if choice[:1] == b"\x00":
        return 0, at + 1
    if len(choice) == 2 and choice[0] == 1 and choice[1]:
        return choice[1], at + 2
    raise AnswerMalformed(f"expected a result at byte {at}, found {choice.hex()!r}")
