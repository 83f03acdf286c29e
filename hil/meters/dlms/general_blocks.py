"""General block transfer as the bench's meters do it (IEC 62056-5-3, 6.6; Green Book, 9.4.6.13).

Requests come in pieces that are acknowledged one by one; an answer is streamed
in windows of what the client takes, and what it did not hear is sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.dlms import axdr

TAG: Final = 0xE0
_LAST, _STREAMING, _WINDOW = 0x80, 0x40, 0x3F
_HEAD_BYTES: Final = 9


class GeneralBlocks:
    """The pieces of one request and of its answer."""

    def __init__(self, serve: Callable[[bytes], bytes], longest: int) -> None:
        """`serve` answers a whole APDU; `longest` is the longest piece in bytes."""
        self._serve = serve
        self._longest = longest
        self._request = b""
        self._heard = 0
        self._pieces: list[bytes] = []
        """Of the answer; the first has number 1."""

    def receive(self, apdu: bytes) -> list[bytes]:
        """What answers one piece; raises AxdrError or IndexError for a malformed one."""
        control, number = apdu[1], int.from_bytes(apdu[2:4], "big")
        acknowledged = int.from_bytes(apdu[4:6], "big")
        size, at = axdr.read_length(apdu, 6)
        if self._pieces and not size:
            return self._stream(acknowledged, control & _WINDOW, number)
        self._pieces = []
        if number == self._heard + 1:
            self._heard = number
            self._request += apdu[at : at + size]
            if control & _LAST:
                # Forgotten first: a request that is refused must not stand before the next one.
                whole, self._request, self._heard = self._request, b"", 0
                return self.answer(self._serve(whole), control & _WINDOW, number)
        return [self._piece(b"", 1, self._heard, last=False)]

    def answer(self, whole: bytes, window: int, acknowledged: int = 0) -> list[bytes]:
        """The first window of an answer in pieces."""
        room = self._longest - _HEAD_BYTES
        self._pieces = [whole[at : at + room] for at in range(0, len(whole), room)]
        return self._stream(0, window, acknowledged)

    def _stream(self, from_piece: int, window: int, acknowledged: int) -> list[bytes]:
        """The pieces after `from_piece`, as many as the client takes."""
        last = len(self._pieces)
        until = min(last, from_piece + max(1, window))
        return [
            self._piece(
                self._pieces[number - 1],
                number,
                acknowledged,
                last=number == last,
                streaming=number < until,
            )
            for number in range(from_piece + 1, until + 1)
        ]

    @staticmethod
    def _piece(
        data: bytes, number: int, acknowledged: int, *, last: bool, streaming: bool = False
    ) -> bytes:
        control = 1 | (_LAST if last else 0) | (_STREAMING if streaming else 0)
        return (
            bytes([TAG, control])
            + number.to_bytes(2, "big")
            + acknowledged.to_bytes(2, "big")
            + axdr.length(len(data))
            + data
        )
