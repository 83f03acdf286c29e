"""General block transfer (IEC 62056-5-3, 6.6): one APDU in numbered pieces. Bytes in, bytes out.

Who asks for what next stands in `agent/dlms/general_blocks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Apdu
from agent.dlms.errors import AnswerMalformed

LAST: Final = 0x80
STREAMING: Final = 0x40
WINDOW: Final = 0x3F
HEAD_BYTES: Final = 9
"""Most bytes around the piece: tag, control, two numbers, a length below 65,536."""


@dataclass(frozen=True, slots=True)
class GeneralBlock:
    """One piece of an APDU, and what its sender has heard of ours."""

    number: int
    acknowledged: int
    """Number of the last piece that the sender heard in order; 0 = none."""
    data: bytes
    last: bool = True
    streaming: bool = False
    """More pieces follow without being asked for."""
    window: int = 1
    """Pieces that the sender takes in one go; 0 = none, as in a push that nobody answers."""

    def encode(self) -> bytes:
        """The APDU of this piece."""
        control = self.window | (LAST if self.last else 0) | (STREAMING if self.streaming else 0)
        return (
            bytes([Apdu.GENERAL_BLOCK_TRANSFER, control])
            + self.number.to_bytes(2, "big")
            + self.acknowledged.to_bytes(2, "big")
            + axdr.length(len(self.data))
            + self.data
        )


def general_block(apdu: bytes) -> GeneralBlock:
    """The piece that an APDU carries; raises AnswerMalformed."""
    if len(apdu) < 7 or apdu[0] != Apdu.GENERAL_BLOCK_TRANSFER:
        raise AnswerMalformed(
            f"expected a general block (e0) of 7 bytes or more, came {apdu[:8].hex()}"
        )
    number = int.from_bytes(apdu[2:4], "big")
    try:
        size, at = axdr.read_length(apdu, 6)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"general block {number}: {error}") from error
    if at + size > len(apdu):
        raise AnswerMalformed(
            f"general block {number} says it has {size} bytes, {len(apdu) - at} are there"
        )
    return GeneralBlock(
        number,
        int.from_bytes(apdu[4:6], "big"),
        apdu[at : at + size],
        last=bool(apdu[1] & LAST),
        streaming=bool(apdu[1] & STREAMING),
        window=apdu[1] & WINDOW,
    )
