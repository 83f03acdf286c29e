"""Whose a pushed list is: APDUs of one line in, readings of its configured meters out.

A meter is known by what it proves or says of itself: the system title of a
ciphered notification, the address that it sends from, the serial number in
the list. What fits no meter, or more than one, is an error and nobody's
reading. A meter with keys is heard ciphered only. Sans I/O; nothing is sent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.dlms.apdu.notification import Notification, Notifications, data_notification
from agent.dlms.constants import Apdu
from agent.dlms.errors import DlmsError, ReplyUnprotected
from agent.dlms.push import LONGEST, PushedReading, read_list
from agent.dlms.push_class import PushClass
from agent.dlms.security.cipher import PushCipher
from agent.dlms.security.settings import TITLE_BYTES, Keys

_SENDERS: Final = 64
"""Most senders whose unfinished blocks are kept."""
_TITLE: Final = slice(2, 2 + TITLE_BYTES)
"""Where a general-glo APDU has its sender's title, behind tag and length."""

Address = tuple[int, ...]
"""Logical and, on HDLC with two parts, physical address."""


class SenderUnknown(DlmsError):
    """A notification is of no configured meter, or of more than one."""


@dataclass(frozen=True, slots=True)
class PushedMeter:
    """What is known of a meter that sends by itself. Whatever is empty is not compared."""

    name: str
    push_class: PushClass
    keys: Keys | None = field(default=None, repr=False)
    suite: int = 0
    title: bytes = b""
    """System title, 8 bytes."""
    address: Address | None = None
    serial: str = ""


class PushedMeters:
    """The meters of one line, as one thread hears them."""

    def __init__(self, meters: Sequence[PushedMeter]) -> None:
        """Raises ValueError for keys that do not fit their suite."""
        self._meters = meters
        self._ciphers = {
            meter.name: PushCipher(meter.keys, suite=meter.suite, title=meter.title)
            for meter in meters
            if meter.keys is not None
        }
        self._joins: dict[Hashable, Notifications] = {}

    def clear(self) -> None:
        """Forget what is unfinished."""
        self._joins.clear()

    def hear(
        self, sender: Hashable, address: Address, apdu: bytes
    ) -> tuple[PushedMeter, PushedReading] | None:
        """Whose reading `apdu` is or completes; None while blocks of it are missing.

        `sender` tells apart whose blocks belong together. Raises SenderUnknown,
        ListUnknown, ProtectionFailed and AnswerMalformed.
        """
        if sender not in self._joins and len(self._joins) >= _SENDERS:
            self._joins.clear()
        join = self._joins.setdefault(sender, Notifications(longest=LONGEST))
        whole = join.whole(apdu)
        if whole is None:
            return None
        if whole[:1] == bytes([Apdu.GENERAL_GLO_CIPHERING]):
            return self._ciphered(address, whole)
        return self._plain(address, whole)

    def _ciphered(self, address: Address, apdu: bytes) -> tuple[PushedMeter, PushedReading]:
        title = apdu[_TITLE]
        fitting = [
            meter
            for meter in self._meters
            if meter.name in self._ciphers
            and self._ciphers[meter.name].title in (b"", title)
            and meter.address in (None, address)
        ]
        if len(fitting) != 1:
            raise _unknown(f"a ciphered notification of system title {title.hex()}", fitting)
        (meter,) = fitting
        plain = self._ciphers[meter.name].reveal(apdu)
        reading = read_list(data_notification(plain), [meter.push_class])
        if not _says(meter, reading):
            raise _unknown(f"a list of serial number {reading.serial} under its keys", [])
        return meter, reading

    def _plain(self, address: Address, apdu: bytes) -> tuple[PushedMeter, PushedReading]:
        notification = data_notification(apdu)
        here = [meter for meter in self._meters if meter.address in (None, address)]
        plain = [meter for meter in here if meter.keys is None]
        if here and not plain:
            raise ReplyUnprotected(
                f"expected a ciphered notification of {_names(here)}, one came in the clear; it "
                "was not used"
            )
        reading = _read(notification, plain)
        fitting = [
            meter
            for meter in plain
            if meter.push_class.name == reading.model and _says(meter, reading)
        ]
        if len(fitting) != 1:
            raise _unknown(
                f"a list of serial number {reading.serial or '(none)'} from address "
                f"{'/'.join(map(str, address))}",
                fitting,
            )
        return fitting[0], reading


def _read(notification: Notification, meters: Sequence[PushedMeter]) -> PushedReading:
    classes = {meter.push_class.name: meter.push_class for meter in meters}
    if not classes:
        raise _unknown("a notification from an address", [])
    return read_list(notification, list(classes.values()))


def _says(meter: PushedMeter, reading: PushedReading) -> bool:
    return not meter.serial or reading.serial in (None, meter.serial)


def _names(meters: Sequence[PushedMeter]) -> str:
    return " and ".join(meter.name for meter in meters)


def _unknown(what: str, fitting: Sequence[PushedMeter]) -> SenderUnknown:
    whose = f"may be of {_names(fitting)}" if fitting else "is of no meter of this line"
    return SenderUnknown(
        f"{what} {whose}; compare with system_title, server_address and serial of its [[meter]]"
    )
