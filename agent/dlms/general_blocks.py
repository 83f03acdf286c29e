"""General block transfer over a carrier: long APDUs cut, streamed answers joined.

Our own pieces go out one at a time, each acknowledged; the meter may stream as
many as `WINDOW` between two acknowledgements. A piece that is lost is asked
for again, at most `TRIES` times without anything new. Source: IEC 62056-5-3,
6.6 and DLMS UA Green Book ed. 8, 9.4.6.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.dlms.apdu.general_block import HEAD_BYTES, GeneralBlock, general_block
from agent.dlms.constants import Apdu
from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, NoAnswer, RequestTooLong
from agent.dlms.link.carrier import Carrier

WINDOW: Final = 8
"""Pieces that we take in one go."""
TRIES: Final = 3
_LONGEST_STREAM: Final = 63
"""No window is larger, whatever the meter thinks that ours is."""
_LAST_NUMBER: Final = 0xFFFF


def is_general_block(apdu: bytes) -> bool:
    """Whether an answer is one piece of an APDU."""
    return apdu[:1] == bytes([Apdu.GENERAL_BLOCK_TRANSFER])


class GeneralBlocks:
    """One request in pieces or its answer in pieces, or both."""

    def __init__(self, carrier: Carrier, what: str, in_time: Callable[[], None]) -> None:
        """`in_time` is called before each piece, and raises when all of them take too long."""
        self._carrier = carrier
        self._what = what
        self._in_time = in_time
        self._sent = 0
        """Number of the last piece that was sent."""

    def request(self, apdu: bytes, longest: int) -> bytes:
        """Sends `apdu` in pieces of at most `longest` bytes; the meter's whole answer to it all.

        Raises RequestTooLong and as `answer` does.
        """
        room = longest - HEAD_BYTES
        if room < 1 or len(apdu) > room * _LAST_NUMBER:
            raise RequestTooLong(
                f"{self._what} has {len(apdu)} bytes, which do not fit pieces of {longest} bytes"
            )
        pieces = [apdu[at : at + room] for at in range(0, len(apdu), room)]
        number, lost = 1, 0
        while True:
            last = number == len(pieces)
            self._in_time()
            piece = GeneralBlock(number, 0, pieces[number - 1], last=last, window=WINDOW)
            answer = self._carrier.request(piece.encode(), self._what)
            if not is_general_block(answer):
                return answer
            taken = general_block(answer).acknowledged
            if taken > number:
                raise AnswerMalformed(
                    f"{self._what}: the meter acknowledged piece {taken} of {number} that were sent"
                )
            if taken < number:
                lost += 1
                if lost > TRIES:
                    raise NoAnswer(
                        f"{self._what}: the meter asked {TRIES} times for pieces again; the "
                        "connection loses too much"
                    )
            elif last:
                self._sent = number
                return self.answer(answer)
            number = taken + 1

    def answer(self, first: bytes) -> bytes:
        """The APDU whose first piece is `first`; asks for the others.

        Raises AnswerTooLarge, NoAnswer, AnswerMalformed and what the carrier raises.
        """
        block = general_block(first)
        parts: list[bytes] = []
        size = heard = 0
        stream = fruitless = 0
        while True:
            stream += 1
            if block.number == heard + 1:
                heard = block.number
                parts.append(block.data)
                size += len(block.data)
                fruitless = 0 if block.data else fruitless
                if size > self._carrier.longest_answer:
                    raise AnswerTooLarge(
                        f"{self._what} is longer than {self._carrier.longest_answer} bytes; ask "
                        "for fewer rows at a time (slice_rows of the meter class)"
                    )
                if block.last:
                    return b"".join(parts)
            if stream > _LONGEST_STREAM:
                raise AnswerMalformed(
                    f"{self._what}: the meter streamed {stream} pieces, our window is {WINDOW}"
                )
            self._in_time()
            following = self._carrier_more() if block.streaming else None
            if following is None:
                fruitless += 1
                if fruitless > TRIES:
                    raise NoAnswer(
                        f"{self._what}: piece {heard + 1} did not come in {TRIES} tries; the "
                        "connection loses too much"
                    )
                following, stream = self._acknowledge(heard), 0
            block = general_block(following)

    def _carrier_more(self) -> bytes | None:
        try:
            return self._carrier.more(self._what)
        except NoAnswer:
            return None  # the end of the stream was lost: what is missing is asked for

    def _acknowledge(self, heard: int) -> bytes:
        """Says what came in order, and with that asks for the rest."""
        self._sent += 1
        piece = GeneralBlock(self._sent, heard, b"", last=True, window=WINDOW)
        return self._carrier.request(piece.encode(), self._what)
