"""High-level security: both sides prove that they have the keys, by a GMAC of a challenge.

Source: IEC 62056-5-3, 6.2; DLMS UA Green Book ed. 8, 9.2.2.2.2.
"""

from __future__ import annotations

from agent.dlms import axdr
from agent.dlms.apdu.action import action_request, action_response
from agent.dlms.apdu.attribute import Method
from agent.dlms.apdu.refusal import action_result_name
from agent.dlms.channel import Channel
from agent.dlms.constants import CURRENT_ASSOCIATION, ClassId
from agent.dlms.errors import AnswerMalformed, AssociationRefused, MeterNotAuthentic
from agent.dlms.security.authentication import (
    LONGEST_CHALLENGE,
    SHORTEST_CHALLENGE,
    check_proof,
    proof,
)
from agent.dlms.security.settings import TITLE_BYTES, Security

_REPLY_TO_HLS = Method(ClassId.ASSOCIATION, CURRENT_ASSOCIATION, 1)


def prove(
    channel: Channel,
    security: Security,
    server_title: bytes,
    ours: bytes,
    theirs: bytes,
    invoke: int,
) -> None:
    """Answers the meter's challenge, and checks its answer to ours.

    Raises AssociationRefused, MeterNotAuthentic, AnswerMalformed and what the
    channel raises.
    """
    if not SHORTEST_CHALLENGE <= len(theirs) <= LONGEST_CHALLENGE:
        raise AnswerMalformed(
            f"expected a challenge of {SHORTEST_CHALLENGE} to {LONGEST_CHALLENGE} bytes from the "
            f"meter, came {len(theirs)}"
        )
    # A meter that gives our own challenge or title back could give our own proof back.
    own = len(server_title) == TITLE_BYTES and server_title != security.client_title
    if theirs == ours or not own:
        raise MeterNotAuthentic(
            "the meter gave our own challenge back or has no system title of its own of "
            f"{TITLE_BYTES} bytes ({server_title.hex() or 'none'}); someone else may answer for it"
        )
    parameters = axdr.octets(proof(security, theirs))
    request = action_request(invoke, _REPLY_TO_HLS, parameters)
    answer = action_response(channel.request(request, "HLS proof"), invoke)
    if answer.data is None:
        raise AssociationRefused(
            f"the meter did not take our proof: {action_result_name(answer.refused)}; check the "
            "authentication key and the client's system title"
        )
    try:
        given, _ = axdr.decode(answer.data)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"the meter's proof is malformed: {error}") from error
    check_proof(security, server_title, ours, given)
