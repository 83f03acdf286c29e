"""Plain APDUs to one meter and back: ciphered and cut where the association wants it.

Order as the standard has it: an APDU is ciphered whole, and what that gives
travels in general blocks if it is longer than the meter takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.dlms.constants import Apdu
from agent.dlms.errors import said_by
from agent.dlms.link.carrier import Carrier

if TYPE_CHECKING:
    from agent.dlms.general_blocks import GeneralBlocks
    from agent.dlms.security.cipher import Cipher

_GENERAL_BLOCK: Final = bytes([Apdu.GENERAL_BLOCK_TRANSFER])

ObserveApdu = Callable[[str, bytes, bytes], None]
"""Told "sent" or "heard", the APDU as carried, and the plain one; empty where its cipher failed."""


class Channel:
    """What carries requests of one association; without cipher until it has one."""

    def __init__(self, carrier: Carrier, *, name: str, observe: ObserveApdu | None = None) -> None:
        self._carrier = carrier
        self._name = name
        self._observe = observe
        self.cipher: Cipher | None = None
        self.longest_carried = 0
        """Longest APDU that the meter takes, bytes; 0 = no limit."""
        self.general_blocks = False
        """Whether longer ones may go in general blocks."""

    @property
    def longest_request(self) -> int:
        """Longest plain request that goes in one piece, bytes."""
        added = self.cipher.overhead if self.cipher is not None else 0
        return (self.longest_carried or 0xFFFF) - added

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        return self._carrier.longest_answer

    def request(self, plain: bytes, what: str) -> bytes:
        """The plain answer; raises what the carrier raises, ProtectionFailed, CountersExhausted."""
        with said_by(self._name):
            carried = plain if self.cipher is None else self.cipher.protect(plain)
            self._tell("sent", carried, plain)
            answer = self._exchange(carried, what)
            revealed = b""
            try:
                revealed = answer if self.cipher is None else self.cipher.reveal(answer)
            finally:
                self._tell("heard", answer, revealed)
        return revealed

    def request_in_clear(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """The answer to an APDU of the association itself, which is never ciphered whole."""
        self._tell("sent", apdu, apdu)
        answer = self._carrier.request(apdu, what, tries=tries)
        self._tell("heard", answer, answer)
        return answer

    def _exchange(self, carried: bytes, what: str) -> bytes:
        longest = self.longest_carried
        if self.general_blocks and 0 < longest < len(carried):
            return self._general_blocks(what).request(carried, longest)
        answer = self._carrier.request(carried, what)
        if answer[:1] == _GENERAL_BLOCK:
            return self._general_blocks(what).answer(answer)
        return answer

    def _general_blocks(self, what: str) -> GeneralBlocks:
        # Few meters send or take them.
        from agent.dlms.general_blocks import GeneralBlocks

        return GeneralBlocks(self._carrier, what)

    def _tell(self, direction: str, carried: bytes, plain: bytes) -> None:
        if self._observe is not None:
            self._observe(direction, carried, plain)
