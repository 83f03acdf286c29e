"""High-level security with GMAC (mechanism 5): each side proves that it has the keys.

Each side answers the other's challenge with SC, its own invocation counter and
the GMAC of SC, authentication key and challenge under the encryption key.
Source: DLMS UA Green Book ed. 8, 9.2.7.4 (HLS authentication mechanisms).
"""

from __future__ import annotations

from typing import Final

from agent.dlms.constants import SecurityControl
from agent.dlms.errors import MeterNotAuthentic
from agent.dlms.security import gcm
from agent.dlms.security.settings import Security, usable

SHORTEST_CHALLENGE: Final = 8
LONGEST_CHALLENGE: Final = 64
_PROOF_BYTES: Final = 5 + gcm.TAG_BYTES


def proof(security: Security, challenge: bytes) -> bytes:
    """f(StoC), 17 bytes: this client's answer to the meter's challenge; uses up one counter."""
    keys, counter = usable(security)
    control = bytes([SecurityControl.AUTHENTICATED | security.suite])
    count = counter.next().to_bytes(4, "big")
    known = control + keys.authentication + challenge
    return control + count + gcm.tag(keys.encryption, security.client_title + count, known)


def check_proof(security: Security, server_title: bytes, challenge: bytes, answer: object) -> None:
    """Checks f(CtoS), the meter's answer to this client's challenge; raises MeterNotAuthentic.

    Its counter is not compared with others: the challenge is new each time, so
    that an old answer does not fit.
    """
    keys, _ = usable(security)
    control = bytes([SecurityControl.AUTHENTICATED | security.suite])
    if not isinstance(answer, bytes) or len(answer) != _PROOF_BYTES or answer[:1] != control:
        raise MeterNotAuthentic(
            f"expected the meter's proof of {_PROOF_BYTES} bytes with security control "
            f"{control.hex()}, came {answer!r}"
        )
    known = control + keys.authentication + challenge
    if not gcm.tags_equal(gcm.tag(keys.encryption, server_title + answer[1:5], known), answer[5:]):
        raise MeterNotAuthentic(
            f"the meter with system title {server_title.hex()} did not prove that it has the "
            "keys; check the authentication key, or someone else is answering for it"
        )
