"""APDUs that the client sends and understands: association, release, GET. Bytes in, values out.

No security and low-level security (a password in the clear). Source:
IEC 62056-5-3. Parsers raise the errors of `errors.py`; none of them waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.constants import (
    APPLICATION_CONTEXT_LN,
    ASSOCIATION_DIAGNOSTICS,
    ASSOCIATION_RESULTS,
    DATA_ACCESS_RESULTS,
    MECHANISM_LLS,
    SERVICE_ERRORS,
    STATE_ERRORS,
    Apdu,
    ClassId,
    Conformance,
    GetKind,
    obis,
    obis_text,
)
from agent.dlms.errors import AnswerMalformed, AssociationRefused, ServiceRefused

PROPOSED: Final = (
    Conformance.GET | Conformance.SELECTIVE_ACCESS | Conformance.BLOCK_TRANSFER_WITH_GET
)

RELEASE_REQUEST: Final = bytes([Apdu.RLRQ, 3, 0x80, 1, 0])
_CONFIRMED_NORMAL_PRIORITY: Final = 0x40


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one object."""

    class_id: int
    name: bytes
    index: int

    @classmethod
    def parse(cls, text: str) -> Attribute:
        """From `class/name/attribute`, such as `3/1.0.1.8.0.255/2`; raises ValueError."""
        parts = text.split("/")
        if len(parts) != 3 or not parts[0].isdecimal() or not parts[2].isdecimal():
            raise ValueError(
                f"expected class/logical name/attribute such as 3/1.0.1.8.0.255/2, found {text!r}"
            )
        return cls(int(parts[0]), obis(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        return f"{self.class_id}/{obis_text(self.name)}/{self.index}"

    @property
    def scaler_unit(self) -> Attribute:
        """Attribute 3 of the same register: its scaler and unit."""
        return Attribute(self.class_id, self.name, 3)

    def descriptor(self) -> bytes:
        """The nine bytes that name the attribute in a request."""
        return self.class_id.to_bytes(2, "big") + self.name + bytes([self.index])


@dataclass(frozen=True, slots=True)
class Association:
    """What the meter agreed to."""

    conformance: int
    max_pdu: int
    """Longest request that the meter takes, bytes; 0 = no limit."""


def association_request(password: bytes | None, max_pdu: int, *, lists: bool = True) -> bytes:
    """AARQ with no security, or with LLS when there is a password; `lists`: GET with list."""
    body = _tlv(0xA1, _tlv(0x06, APPLICATION_CONTEXT_LN))
    if password is not None:
        body += _tlv(0x8A, b"\x07\x80") + _tlv(0x8B, MECHANISM_LLS)
        body += _tlv(0xAC, _tlv(0x80, password))
    initiate = (
        bytes([Apdu.INITIATE_REQUEST, 0, 0, 0, 6])
        + b"\x5f\x1f\x04\x00"
        + (PROPOSED | (Conformance.MULTIPLE_REFERENCES if lists else 0)).to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
    )
    return _tlv(Apdu.AARQ, body + _tlv(0xBE, _tlv(0x04, initiate)))


def association_response(apdu: bytes) -> Association:
    """What an AARE says; raises AssociationRefused, ServiceRefused or AnswerMalformed."""
    _refuse_errors(apdu)
    if apdu[:1] != bytes([Apdu.AARE]):
        raise AnswerMalformed(f"expected an AARE (61), came {apdu[:8].hex()}")
    fields = dict(_tlvs(_content(apdu, 0)[0]))
    result = _last_integer(fields.get(0xA2))
    diagnostic = _last_integer(fields.get(0xA3))
    initiate = _content(fields[0xBE], 0)[0] if fields.get(0xBE) else b""
    # 14 with result 0 means that HLS has to follow: with LLS or none it is a refusal too.
    if result != 0 or diagnostic == 14:
        detail = f", initiate error {initiate.hex()}" if initiate[:1] == b"\x0e" else ""
        raise AssociationRefused(
            f"the meter refused the association: {_named(ASSOCIATION_RESULTS, result)}, "
            f"{_named(ASSOCIATION_DIAGNOSTICS, diagnostic)}{detail}; "
            "check client_sap, security and the password of this meter"
        )
    return _initiate_response(initiate)


def _initiate_response(initiate: bytes) -> Association:
    if initiate[:1] != bytes([Apdu.INITIATE_RESPONSE]):
        raise AnswerMalformed(f"expected an initiate-response (08), came {initiate.hex()}")
    at = initiate.find(b"\x5f\x1f\x04")
    if at < 0 or len(initiate) < at + 9:
        raise AnswerMalformed(f"the initiate-response has no conformance: {initiate.hex()}")
    return Association(
        int.from_bytes(initiate[at + 4 : at + 7], "big"),
        int.from_bytes(initiate[at + 7 : at + 9], "big"),
    )


def get_request(invoke: int, attribute: Attribute, selection: bytes = b"") -> bytes:
    """GET of one attribute; `selection` is a selector with its parameters."""
    return (
        bytes([Apdu.GET_REQUEST, GetKind.NORMAL, _CONFIRMED_NORMAL_PRIORITY | invoke])
        + attribute.descriptor()
        + (b"\x01" + selection if selection else b"\x00")
    )


def get_list_request(invoke: int, wanted: Sequence[tuple[Attribute, bytes]]) -> bytes:
    """GET of several attributes, each with its selection (or none), in one request."""
    return (
        bytes([Apdu.GET_REQUEST, GetKind.WITH_LIST, _CONFIRMED_NORMAL_PRIORITY | invoke])
        + axdr.length(len(wanted))
        + b"".join(
            attribute.descriptor() + (b"\x01" + selection if selection else b"\x00")
            for attribute, selection in wanted
        )
    )


def get_next_request(invoke: int, block: int) -> bytes:
    """Acknowledges block `block` and asks for the one after it."""
    return bytes(
        [Apdu.GET_REQUEST, GetKind.NEXT, _CONFIRMED_NORMAL_PRIORITY | invoke]
    ) + block.to_bytes(4, "big")


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
    """What a GET response says; raises ServiceRefused or AnswerMalformed."""
    _refuse_errors(apdu)
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


def result_name(result: int) -> str:
    """Name of a data-access result."""
    return _named(DATA_ACCESS_RESULTS, result)


def _refuse_errors(apdu: bytes) -> None:
    if apdu[:1] == bytes([Apdu.EXCEPTION_RESPONSE]) and len(apdu) >= 3:
        raise ServiceRefused(
            f"the meter answered with an exception: {_named(STATE_ERRORS, apdu[1])}, "
            f"{_named(SERVICE_ERRORS, apdu[2])}"
        )
    if apdu[:1] == bytes([Apdu.CONFIRMED_SERVICE_ERROR]):
        raise ServiceRefused(f"the meter answered with a confirmed-service-error {apdu.hex()}")


def _named(names: dict[int, str], code: int) -> str:
    return f"{names.get(code, 'unknown')} ({code})"


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + axdr.length(len(content)) + content


def _content(data: bytes, at: int) -> tuple[bytes, int]:
    """The content of the BER element at `at`, and where it ends."""
    try:
        size, start = axdr.read_length(data, at + 1)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"BER element at byte {at} of {data.hex()}: {error}") from error
    if start + size > len(data):
        raise AnswerMalformed(f"BER element at byte {at} of {data.hex()} is longer than the answer")
    return data[start : start + size], start + size


def _tlvs(data: bytes) -> list[tuple[int, bytes]]:
    fields, at = [], 0
    while at < len(data):
        tag = data[at]
        content, at = _content(data, at)
        fields.append((tag, content))
    return fields


def _last_integer(element: bytes | None) -> int:
    """The integer inside nested explicit tags: its bytes are the last of the element."""
    if not element:
        raise AnswerMalformed("the AARE has no result or no diagnostic")
    return element[-1]
