"""Frames that meters send without being asked, joined to APDUs: UI, and I frames without a link.

Nothing here answers. A sender is known by its HDLC address alone, which proves
nothing. Source: IEC 62056-46, 6.4.3.7 (UI).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.dlms.errors import AnswerTooLarge
from agent.dlms.link.frame import UI, Frame, FrameCutter

_LLC: Final = b"\xe6\xe7\x00"
_FINAL: Final = 0x10
_SENDERS: Final = 16
"""Most meters whose unfinished APDUs are kept; a line has one as a rule."""


class UnaskedApdus:
    """Feed it what comes on one line."""

    def __init__(self, longest: int) -> None:
        """`longest` is the most that one APDU may have, in bytes."""
        self._longest = longest
        self._cutter = FrameCutter()
        self._segments: dict[bytes, bytes] = {}

    @property
    def damaged(self) -> int:
        """Frames so far whose checks were wrong."""
        return self._cutter.damaged

    def clear(self) -> None:
        """Forget what is unfinished: its end was lost."""
        self._cutter.clear()
        self._segments.clear()

    def receive(self, data: bytes) -> Iterator[tuple[bytes, bytes | AnswerTooLarge]]:
        """Sender's address, and an APDU of it that `data` completes or why there is none."""
        for frame in self._cutter.feed(data):
            if _carries_apdu(frame):
                apdu = self._joined(frame)
                if apdu is not None:
                    yield frame.source, apdu

    def _joined(self, frame: Frame) -> bytes | AnswerTooLarge | None:
        info = self._segments.pop(frame.source, b"") + frame.info
        if len(info) > self._longest:
            return AnswerTooLarge(f"a notification is longer than {self._longest} bytes; dropped")
        if not frame.segmented:
            return info.removeprefix(_LLC)
        if len(self._segments) >= _SENDERS:
            self._segments.clear()
        self._segments[frame.source] = info
        return None


def _carries_apdu(frame: Frame) -> bool:
    unnumbered = frame.control & ~_FINAL == UI & ~_FINAL
    return bool(frame.info) and (unnumbered or not frame.control & 1)
