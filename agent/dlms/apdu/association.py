"""Association and its release (IEC 62056-5-3, 6.2): AARQ, AARE, RLRQ.

The user information of both, the initiate-request and -response, may be
ciphered; who associates (`agent/dlms/handshake.py`) does that in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.dlms import axdr
from agent.dlms.apdu.ber import content, tlv, tlvs
from agent.dlms.apdu.refusal import is_deciphering_error, named, refuse_errors, service_error
from agent.dlms.constants import (
    APPLICATION_CONTEXT_LN,
    APPLICATION_CONTEXT_LN_CIPHERED,
    ASSOCIATION_DIAGNOSTICS,
    ASSOCIATION_RESULTS,
    AUTHENTICATION_FAILURE,
    AUTHENTICATION_REQUIRED,
    MECHANISM_HLS_GMAC,
    MECHANISM_LLS,
    PROVIDER_DIAGNOSTICS,
    Apdu,
    Conformance,
)
from agent.dlms.errors import AnswerMalformed, AssociationRefused, CounterBehind
from agent.dlms.security.settings import Mechanism

PROPOSED: Final = (
    Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.SELECTIVE_ACCESS
    | Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_SET
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
)
"""Services that the client always proposes."""

RELEASE_REQUEST: Final = bytes([Apdu.RLRQ, 3, 0x80, 1, 0])

_MECHANISMS: Final[dict[str, bytes]] = {"lls": MECHANISM_LLS, "hls-gmac": MECHANISM_HLS_GMAC}
_DLMS_VERSION: Final = 6


@dataclass(frozen=True, slots=True)
class Association:
    """What the meter agreed to."""

    conformance: int
    max_pdu: int
    """Longest request that the meter takes, bytes; 0 = no limit."""


def initiate_request(conformance: int, max_pdu: int, *, dedicated_key: bytes = b"") -> bytes:
    """What the client proposes; `max_pdu` is the longest answer in bytes, 0 = no limit."""
    key = b"\x01" + axdr.length(len(dedicated_key)) + dedicated_key if dedicated_key else b"\x00"
    return (
        bytes([Apdu.INITIATE_REQUEST])
        + key
        + bytes([0, 0, _DLMS_VERSION])
        + b"\x5f\x1f\x04\x00"
        + conformance.to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
    )


def association_request(
    initiate: bytes,
    *,
    mechanism: Mechanism = "none",
    authentication: bytes = b"",
    ciphered: bool = False,
    title: bytes = b"",
) -> bytes:
    """AARQ. `initiate`: the initiate-request, ciphered or plain; `title`: the client's own.

    `authentication` is the password (LLS) or the client's challenge (HLS).
    """
    context = APPLICATION_CONTEXT_LN_CIPHERED if ciphered else APPLICATION_CONTEXT_LN
    body = tlv(0xA1, tlv(0x06, context))
    if title:
        body += tlv(0xA6, tlv(0x04, title))
    if mechanism != "none":
        body += tlv(0x8A, b"\x07\x80") + tlv(0x8B, _MECHANISMS[mechanism])
        body += tlv(0xAC, tlv(0x80, authentication))
    return tlv(Apdu.AARQ, body + tlv(0xBE, tlv(0x04, initiate)))


@dataclass(frozen=True, slots=True)
class AssociationAnswer:
    """An AARE whose user information may still be ciphered."""

    result: int
    diagnostic: int
    from_user: bool
    """Whether the diagnostic is the application's; otherwise it is the ACSE provider's."""
    ciphered: bool
    """Whether the meter answered in the application context with ciphering."""
    title: bytes
    """System title of the meter; empty if it did not say."""
    mechanism: bytes
    challenge: bytes
    """The meter's challenge (HLS); empty if there is none."""
    user_information: bytes

    @property
    def wants_proof(self) -> bool:
        """Whether HLS has to follow."""
        return self.result == 0 and self.diagnostic == AUTHENTICATION_REQUIRED


def association_answer(apdu: bytes) -> AssociationAnswer:
    """The parts of an AARE; raises ServiceRefused, CounterBehind or AnswerMalformed."""
    refuse_errors(apdu)
    if apdu[:1] != bytes([Apdu.AARE]):
        raise AnswerMalformed(f"expected an AARE (61), came {apdu[:8].hex()}")
    fields = dict(tlvs(content(apdu, 0)[0]))
    return AssociationAnswer(
        result=_last_integer(fields.get(0xA2)),
        diagnostic=_last_integer(fields.get(0xA3)),
        from_user=fields[0xA3][:1] != b"\xa2",
        ciphered=fields.get(0xA1, b"").endswith(APPLICATION_CONTEXT_LN_CIPHERED),
        title=_inner(fields.get(0xA4)),
        mechanism=fields.get(0x89, b""),
        challenge=_inner(fields.get(0xAA)),
        user_information=_inner(fields.get(0xBE)),
    )


def refuse_rejection(answer: AssociationAnswer, *, ciphered: bool) -> None:
    """Raises AssociationRefused or CounterBehind unless the meter accepted."""
    if answer.result == 0:
        return
    names = ASSOCIATION_DIAGNOSTICS if answer.from_user else PROVIDER_DIAGNOSTICS
    said = (
        f"the meter refused the association: {named(ASSOCIATION_RESULTS, answer.result)}, "
        f"{named(names, answer.diagnostic)}"
    )
    initiate = answer.user_information
    if initiate[:1] == bytes([Apdu.CONFIRMED_SERVICE_ERROR]):
        said += f", {service_error(initiate)}"
    unproven = answer.from_user and answer.diagnostic == AUTHENTICATION_FAILURE
    if ciphered and (is_deciphering_error(initiate) or unproven):
        raise CounterBehind(
            f"{said}; the invocation counter is behind what the meter has seen, or keys or "
            "system title differ: read its counter as the public client, check the keys"
        )
    raise AssociationRefused(
        f"{said}; check client_sap, security, keys and the password of this meter"
    )


def association_response(apdu: bytes) -> Association:
    """What a plain AARE agrees to; raises AssociationRefused if HLS would have to follow."""
    answer = association_answer(apdu)
    refuse_rejection(answer, ciphered=False)
    if answer.wants_proof:
        raise AssociationRefused(
            'the meter wants high-level security; set security = "hls-gmac" in its class'
        )
    return initiate_response(answer.user_information)


def initiate_response(initiate: bytes) -> Association:
    """What the meter agreed to; raises ServiceRefused or AnswerMalformed."""
    refuse_errors(initiate)
    if initiate[:1] != bytes([Apdu.INITIATE_RESPONSE]):
        raise AnswerMalformed(f"expected an initiate-response (08), came {initiate.hex()}")
    at = initiate.find(b"\x5f\x1f\x04")
    if at < 0 or len(initiate) < at + 9:
        raise AnswerMalformed(f"the initiate-response has no conformance: {initiate.hex()}")
    return Association(
        int.from_bytes(initiate[at + 4 : at + 7], "big"),
        int.from_bytes(initiate[at + 7 : at + 9], "big"),
    )


def _inner(element: bytes | None) -> bytes:
    """What the one element inside another holds; empty if there is none."""
    return content(element, 0)[0] if element else b""


def _last_integer(element: bytes | None) -> int:
    """The integer inside nested explicit tags: its bytes are the last of the element."""
    if not element:
        raise AnswerMalformed("the AARE has no result or no diagnostic")
    return element[-1]
