"""What carries APDUs to one meter and back, whatever the bytes around them are."""

from __future__ import annotations

from typing import Protocol


class Carrier(Protocol):
    """A link to one meter: HDLC on a serial line or a TCP gateway, or the TCP wrapper.

    Every call has one deadline that nothing the meter sends can move. Raises
    NoAnswer, LinkLost, LinkRefused, AnswerMalformed, AnswerTooLarge (all
    `DlmsError`s) and PortLost.
    """

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        ...

    def open(self) -> None:
        """Bring the link up; what was left on the line before is discarded."""
        ...

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """Send a request; the meter's answer. `what` names the request in errors."""
        ...

    def more(self, what: str) -> bytes:
        """A further APDU that belongs to the last answer, as in a block stream."""
        ...

    def close(self) -> None:
        """End the link, with one try; a meter that does not answer is no error here."""
        ...
