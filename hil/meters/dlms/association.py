"""AARQ and AARE as the bench's meters read and write them (IEC 62056-5-3, 6.2; X.227, BER)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.dlms import axdr

PUBLIC_SAP: Final = 16
CONTEXT_PLAIN: Final = bytes.fromhex("060760857405080101")
CONTEXT_CIPHERED: Final = bytes.fromhex("060760857405080103")
LLS: Final = bytes.fromhex("60857405080201")
HLS_GMAC: Final = bytes.fromhex("60857405080205")
MECHANISMS: Final = {"none": b"", "lls": LLS, "hls-gmac": HLS_GMAC}
GET, SET, ACTION, SELECTIVE = 0x10, 0x08, 0x01, 0x04
BLOCKS_GET, BLOCKS_SET, BLOCKS_ACTION, LISTS = 0x1000, 0x800, 0x400, 0x200
GENERAL_PROTECTION, GENERAL_BLOCKS = 0x400000, 0x200000
ACCEPTED, REJECTED = 0, 1
NO_REASON, CONTEXT_NOT_SUPPORTED, TITLE_NOT_RECOGNIZED = 1, 2, 3
MECHANISM_NOT_RECOGNIZED, MECHANISM_REQUIRED, UNPROVEN, PROOF_REQUIRED = 11, 12, 13, 14
VERSION_TOO_LOW, CONFORMANCE_INCOMPATIBLE, PDU_TOO_SHORT, REFUSED_BY_METER = 1, 2, 3, 4
_VERSION: Final = 6
_SHORTEST_PDU: Final = 12


class NotProposed(ValueError):
    """The bytes are no AARQ or no initiate-request."""


class Rejected(Exception):
    """A proposal that the meter does not accept; what its AARE says of that."""

    def __init__(self, diagnostic: int, error: bytes = b"") -> None:
        """`error` is a confirmed-service-error in the place of the initiate-response."""
        super().__init__(diagnostic, error)
        self.diagnostic = diagnostic
        self.error = error


def initiate_error(error: int) -> Rejected:
    """What is said of an initiate-request that cannot be agreed to (IEC 62056-5-3, 6.5)."""
    return Rejected(NO_REASON, bytes([0x0E, 1, 6, error]))


@dataclass(frozen=True, slots=True)
class Proposal:
    """An AARQ; its initiate-request may still be ciphered."""

    context: bytes
    title: bytes
    mechanism: bytes
    authentication: bytes
    initiate: bytes


def proposal(aarq: bytes) -> Proposal:
    """The parts of an AARQ; raises NotProposed."""
    try:
        size, at = axdr.read_length(aarq, 1)
        fields = dict(_elements(aarq[at : at + size]))
        return Proposal(
            fields.get(0xA1, b""),
            fields.get(0xA6, b"")[2:],
            fields.get(0x8B, b""),
            _inner(fields.get(0xAC, b"")),
            _inner(fields[0xBE]),
        )
    except (axdr.AxdrError, KeyError) as error:
        raise NotProposed(f"no AARQ: {error}") from error


@dataclass(frozen=True, slots=True)
class Initiate:
    """A plain initiate-request."""

    conformance: int
    max_pdu: int
    """Longest APDU that the client takes; 0 = any."""
    dedicated_key: bytes


def initiate(plain: bytes) -> Initiate:
    """What the client proposes; raises NotProposed and Rejected."""
    key = plain[3 : 3 + plain[2]] if plain[1:2] == b"\x01" else b""
    at = plain.find(b"\x5f\x1f\x04\x00", 2 + len(key))
    if plain[:1] != b"\x01" or at < 0 or len(plain) < at + 9:
        raise NotProposed(f"no initiate-request: {plain.hex()}")
    if plain[at - 1] < _VERSION:
        raise initiate_error(VERSION_TOO_LOW)
    max_pdu = int.from_bytes(plain[at + 7 : at + 9], "big")
    if 0 < max_pdu < _SHORTEST_PDU:
        raise initiate_error(PDU_TOO_SHORT)
    return Initiate(int.from_bytes(plain[at + 4 : at + 7], "big"), max_pdu, key)


def initiate_response(conformance: int, max_request: int) -> bytes:
    """What the meter agrees to."""
    return (
        b"\x08\x00\x06\x5f\x1f\x04\x00"
        + conformance.to_bytes(3, "big")
        + max_request.to_bytes(2, "big")
        + b"\x00\x07"
    )


def answer(
    context: bytes,
    result: int,
    diagnostic: int,
    user_information: bytes,
    *,
    title: bytes = b"",
    mechanism: bytes = b"",
    challenge: bytes = b"",
) -> bytes:
    """AARE; title, mechanism and challenge with HLS or ciphering only."""
    body = (
        _tlv(0xA1, context)
        + bytes([0xA2, 3, 2, 1, result])
        + bytes([0xA3, 5, 0xA1, 3, 2, 1, diagnostic])
    )
    if title:
        body += _tlv(0xA4, _tlv(0x04, title))
    if challenge:
        body += b"\x88\x02\x07\x80" + _tlv(0x89, mechanism) + _tlv(0xAA, _tlv(0x80, challenge))
    if user_information:
        body += _tlv(0xBE, _tlv(0x04, user_information))
    return _tlv(0x61, body)


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + axdr.length(len(content)) + content


def _inner(element: bytes) -> bytes:
    if not element:
        return b""
    size, at = axdr.read_length(element, 1)
    return element[at : at + size]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the BER elements in `data`; raises AxdrError."""
    found, at = [], 0
    while at < len(data):
        size, begin = axdr.read_length(data, at + 1)
        found.append((data[at], data[begin : begin + size]))
        at = begin + size
    return found
