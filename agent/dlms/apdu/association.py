"""Association and its release (IEC 62056-5-3): AARQ, AARE, RLRQ.

No security and low-level security (a password in the clear).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.dlms.apdu.ber import content, tlv, tlvs
from agent.dlms.apdu.refusal import named, refuse_errors
from agent.dlms.constants import (
    APPLICATION_CONTEXT_LN,
    ASSOCIATION_DIAGNOSTICS,
    ASSOCIATION_RESULTS,
    MECHANISM_LLS,
    Apdu,
    Conformance,
)
from agent.dlms.errors import AnswerMalformed, AssociationRefused

PROPOSED: Final = (
    Conformance.GET | Conformance.SELECTIVE_ACCESS | Conformance.BLOCK_TRANSFER_WITH_GET
)

RELEASE_REQUEST: Final = bytes([Apdu.RLRQ, 3, 0x80, 1, 0])


@dataclass(frozen=True, slots=True)
class Association:
    """What the meter agreed to."""

    conformance: int
    max_pdu: int
    """Longest request that the meter takes, bytes; 0 = no limit."""


def association_request(password: bytes | None, max_pdu: int, *, lists: bool = True) -> bytes:
    """AARQ with no security, or with LLS when there is a password; `lists`: GET with list."""
    body = tlv(0xA1, tlv(0x06, APPLICATION_CONTEXT_LN))
    if password is not None:
        body += tlv(0x8A, b"\x07\x80") + tlv(0x8B, MECHANISM_LLS)
        body += tlv(0xAC, tlv(0x80, password))
    initiate = (
        bytes([Apdu.INITIATE_REQUEST, 0, 0, 0, 6])
        + b"\x5f\x1f\x04\x00"
        + (PROPOSED | (Conformance.MULTIPLE_REFERENCES if lists else 0)).to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
    )
    return tlv(Apdu.AARQ, body + tlv(0xBE, tlv(0x04, initiate)))


def association_response(apdu: bytes) -> Association:
    """What an AARE says; raises AssociationRefused, ServiceRefused or AnswerMalformed."""
    refuse_errors(apdu)
    if apdu[:1] != bytes([Apdu.AARE]):
        raise AnswerMalformed(f"expected an AARE (61), came {apdu[:8].hex()}")
    fields = dict(tlvs(content(apdu, 0)[0]))
    result = _last_integer(fields.get(0xA2))
    diagnostic = _last_integer(fields.get(0xA3))
    initiate = content(fields[0xBE], 0)[0] if fields.get(0xBE) else b""
    # 14 with result 0 means that HLS has to follow: with LLS or none it is a refusal too.
    if result != 0 or diagnostic == 14:
        detail = f", initiate error {initiate.hex()}" if initiate[:1] == b"\x0e" else ""
        raise AssociationRefused(
            f"the meter refused the association: {named(ASSOCIATION_RESULTS, result)}, "
            f"{named(ASSOCIATION_DIAGNOSTICS, diagnostic)}{detail}; "
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


def _last_integer(element: bytes | None) -> int:
    """The integer inside nested explicit tags: its bytes are the last of the element."""
    if not element:
        raise AnswerMalformed("the AARE has no result or no diagnostic")
    return element[-1]
