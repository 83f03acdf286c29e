"""Data-notification (IEC 62056-5-3, 6.4): what a meter says without being asked.

`Notifications` takes APDUs as they come, joins what was sent in general blocks,
has ciphered ones deciphered, and gives back what was said. It keeps at most
one unfinished notification, and that within `longest` bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.general_block import general_block
from agent.dlms.constants import Apdu, Tag
from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, KeysMissing

_HEAD_BYTES: Final = 5
_DATE_TIME_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Notification:
    """One data-notification."""

    invoke_id: int
    """24 bits that the meter counts with."""
    date_time: bytes | None
    """When the meter made it, 12 bytes as in `load_profile/meter_time.py`; None if not said."""
    value: Any
    """The decoded value, as `axdr.decode` gives it."""
    tail: bytes = b""
    """What followed the value; some meters add bytes of their own."""


def data_notification(apdu: bytes) -> Notification:
    """What a data-notification says; raises AnswerMalformed."""
    if len(apdu) <= _HEAD_BYTES or apdu[0] != Apdu.DATA_NOTIFICATION:
        raise AnswerMalformed(f"expected a data-notification (0f), came {apdu[:8].hex()}")
    at = _HEAD_BYTES
    # The standard wants the bare length; one maker writes an octet string with its type tag.
    if apdu[at] == Tag.OCTETS:
        at += 1
    try:
        size, at = axdr.read_length(apdu, at)
        if size not in (0, _DATE_TIME_BYTES) or at + size > len(apdu):
            raise AnswerMalformed(
                f"expected a date-time of 0 or 12 bytes in a data-notification, found {size}"
            )
        value, end = axdr.decode(apdu, at + size)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"a data-notification is malformed: {error}") from error
    return Notification(
        int.from_bytes(apdu[2:_HEAD_BYTES], "big"),
        bytes(apdu[at : at + size]) or None,
        value,
        bytes(apdu[end:]),
    )


class Notifications:
    """Notifications of one meter, or of all that speak to one listener without general blocks."""

    def __init__(
        self, reveal: Callable[[bytes], bytes] | None = None, *, longest: int = 1 << 16
    ) -> None:
        """`reveal` deciphers, such as `security.cipher.PushCipher.reveal`; None: no keys are known.

        `longest` is the most that one notification may have, in bytes.
        """
        self._reveal = reveal
        self._longest = longest
        self._joined = b""
        self._expected = 1

    def receive(self, apdu: bytes) -> Notification | None:
        """The notification that `apdu` is or completes; None while pieces are missing.

        Raises AnswerMalformed, AnswerTooLarge and ProtectionFailed; what had
        been joined is forgotten then.
        """
        whole = self.whole(apdu)
        if whole is None:
            return None
        if self._reveal is not None:
            whole = self._reveal(whole)
        elif whole[:1] == bytes([Apdu.GENERAL_GLO_CIPHERING]):
            raise KeysMissing(
                f"a ciphered notification came from system title {whole[2:10].hex()}, for which "
                "there are no keys; give them in the credentials"
            )
        return data_notification(whole)

    def whole(self, apdu: bytes) -> bytes | None:
        """`apdu`, or what it completes where it is a general block; None while blocks are missing.

        As it came, ciphered or not. Raises AnswerMalformed and AnswerTooLarge.
        """
        return self._join(apdu) if apdu[:1] == bytes([Apdu.GENERAL_BLOCK_TRANSFER]) else apdu

    def _join(self, apdu: bytes) -> bytes | None:
        try:
            block = general_block(apdu)
            if block.number == 1:
                self._joined = b""
            elif block.number != self._expected:
                raise AnswerMalformed(
                    f"expected general block {self._expected}, came {block.number}"
                )
            if len(self._joined) + len(block.data) > self._longest:
                raise AnswerTooLarge(f"a notification is longer than {self._longest} bytes")
        except (AnswerMalformed, AnswerTooLarge):
            self._joined, self._expected = b"", 1
            raise
        self._joined += block.data
        self._expected = block.number + 1
        if not block.last:
            return None
        whole, self._joined, self._expected = self._joined, b"", 1
        return whole
