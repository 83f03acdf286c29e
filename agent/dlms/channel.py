"""Plain APDUs to one meter and back: ciphered and cut where the association wants it.

Order as the standard has it: an APDU is ciphered whole, and what that gives
travels in general blocks if it is longer than the meter takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.dlms.constants import Apdu
from agent.dlms.errors import NoAnswer, said_by
from agent.dlms.link.carrier import Carrier

if TYPE_CHECKING:
    from agent.dlms.general_blocks import GeneralBlocks
    from agent.dlms.security.cipher import Cipher

_GENERAL_BLOCK: Final = bytes([Apdu.GENERAL_BLOCK_TRANSFER])

ObserveApdu = Callable[[str, bytes, bytes], None]
"""Told "sent" or "heard", the APDU as carried, and the plain one; empty where its cipher failed."""


class Channel:
    """What carries requests of one association; without cipher until it has one."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        name: str,
        observe: ObserveApdu | None = None,
        exchange_s: float = math.inf,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`exchange_s` is the longest time of one request with all blocks of it and its answer."""
        self._carrier = carrier
        self._name = name
        self._observe = observe
        self._exchange_s = exchange_s
        self._now_s = now_s
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

    def in_time(self, what: str) -> Callable[[], None]:
        """What is called before each block from now on: raises NoAnswer when time is up."""
        until_s = self._now_s() + self._exchange_s

        def check() -> None:
            if self._now_s() >= until_s:
                raise NoAnswer(
                    f"the blocks of {what} took longer than {self._exchange_s:.0f} s; ask for less "
                    "at a time (slice_rows of the meter class) or raise its exchange_s"
                )

        return check

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

        return GeneralBlocks(self._carrier, what, self.in_time(what))

    def _tell(self, direction: str, carried: bytes, plain: bytes) -> None:
        if self._observe is not None:
            self._observe(direction, carried, plain)
