"""How an association comes about: AARQ and AARE, and with HLS the proofs of `proof.py`.

Nothing weaker than what the settings demand is ever accepted: neither a plain
answer to a ciphered request, nor a meter that does not want our proof, nor one
that cannot give its own. Source: IEC 62056-5-3, 6.2; DLMS UA Green Book ed. 8, 9.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from agent.dlms.apdu.association import (
    Association,
    AssociationAnswer,
    association_answer,
    association_request,
    initiate_request,
    initiate_response,
    refuse_rejection,
)
from agent.dlms.channel import Channel
from agent.dlms.constants import MECHANISM_HLS_GMAC, Conformance
from agent.dlms.errors import AssociationRefused, MeterNotAuthentic
from agent.dlms.security.settings import CHALLENGE_BYTES, KEY_BYTES, Security


def associate(
    channel: Channel,
    security: Security,
    *,
    conformance: int,
    max_pdu: int,
    random_bytes: Callable[[int], bytes],
    invoke_ids: Iterator[int],
) -> Association:
    """Brings the association up and secures `channel`; what the meter agreed to.

    Raises AssociationRefused, CounterBehind, MeterNotAuthentic and other
    ProtectionFailed, AnswerMalformed and what the channel raises.
    """
    hls = security.mechanism == "hls-gmac"
    dedicated, cipher = b"", None
    if security.ciphering == "dedicated":
        dedicated = random_bytes(KEY_BYTES[security.suite])
    initiate = initiate_request(conformance, max_pdu, dedicated_key=dedicated)
    if security.ciphering != "none":
        # Meters without ciphering need none of it.
        from agent.dlms.security.cipher import Cipher

        cipher = Cipher(security, dedicated_key=dedicated)
        initiate = cipher.protect(initiate)
    challenge = random_bytes(CHALLENGE_BYTES) if hls else b""
    request = association_request(
        initiate,
        mechanism=security.mechanism,
        authentication=challenge or security.password or b"",
        ciphered=cipher is not None,
        title=security.client_title if hls or cipher is not None else b"",
    )
    answer = association_answer(channel.request_in_clear(request, "AARQ"))
    _check_accepted(answer, security)
    initiate = answer.user_information
    if cipher is not None:
        if answer.title:
            cipher.learn_title(answer.title)
        initiate = cipher.reveal(initiate)
    agreed = initiate_response(initiate)
    # Some meters list all that they can do, also what was not proposed.
    association = replace(agreed, conformance=agreed.conformance & conformance)
    channel.cipher = cipher
    channel.longest_carried = association.max_pdu
    channel.general_blocks = bool(association.conformance & Conformance.GENERAL_BLOCK_TRANSFER)
    if hls:
        from agent.dlms.proof import prove

        title = cipher.server_title if cipher is not None else answer.title
        prove(channel, security, title, challenge, answer.challenge, next(invoke_ids))
    if cipher is not None:
        cipher.establish()
    return association


def _check_accepted(answer: AssociationAnswer, security: Security) -> None:
    """Raises unless the meter accepted, with the context and the mechanism that were asked for."""
    ciphered = security.ciphering != "none"
    refuse_rejection(answer, ciphered=ciphered)
    if answer.ciphered != ciphered:
        raise AssociationRefused(
            f"asked for an association {'with' if ciphered else 'without'} ciphering, the meter "
            "accepted the other kind; check ciphering of the meter class"
        )
    if security.mechanism != "hls-gmac":
        if answer.wants_proof:
            raise AssociationRefused(
                "the meter wants high-level security; set security of the meter class to "
                "hls-gmac and give the keys"
            )
        return
    if not answer.wants_proof or answer.mechanism not in (MECHANISM_HLS_GMAC, b""):
        raise MeterNotAuthentic(
            "asked for HLS with GMAC, the meter accepted another mechanism or none "
            f"({answer.mechanism.hex() or 'none'}); it has to prove that it has the keys"
        )
