"""Ciphered APDUs: service-specific with the global or the dedicated key, and general-glo.

A `Cipher` belongs to one association. It takes each invocation counter from
the store before it uses it, and never uses one twice. What comes back is
refused, and never looked at, unless it has the protection that was sent (tag,
encryption, the dedicated key where that is used), comes from the system title
that the association knows, and has a counter higher than the one before it
under the same key.

Not promised: without high-level security or a dedicated key nothing in an
answer is new to an association, so one that was recorded in an earlier
association can be played back in a later one.
Source: DLMS UA Green Book ed. 8, 9.2.7 (APDU protection).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Apdu, SecurityControl
from agent.dlms.errors import (
    AnswerMalformed,
    ReplyForged,
    ReplyReplayed,
    ReplyUnprotected,
)
from agent.dlms.security import gcm
from agent.dlms.security.settings import TITLE_BYTES, Keys, Security, check_key, usable

BOTH: Final = SecurityControl.AUTHENTICATED | SecurityControl.ENCRYPTED
_HEAD_BYTES: Final = 5
"""Security control and invocation counter."""

_GLOBAL: Final[dict[int, int]] = {
    Apdu.INITIATE_REQUEST: Apdu.GLO_INITIATE_REQUEST,
    Apdu.INITIATE_RESPONSE: Apdu.GLO_INITIATE_RESPONSE,
    Apdu.CONFIRMED_SERVICE_ERROR: Apdu.GLO_CONFIRMED_SERVICE_ERROR,
    Apdu.GET_REQUEST: Apdu.GLO_GET_REQUEST,
    Apdu.SET_REQUEST: Apdu.GLO_SET_REQUEST,
    Apdu.ACTION_REQUEST: Apdu.GLO_ACTION_REQUEST,
    Apdu.GET_RESPONSE: Apdu.GLO_GET_RESPONSE,
    Apdu.SET_RESPONSE: Apdu.GLO_SET_RESPONSE,
    Apdu.ACTION_RESPONSE: Apdu.GLO_ACTION_RESPONSE,
}
_DEDICATED: Final[dict[int, int]] = {
    Apdu.CONFIRMED_SERVICE_ERROR: Apdu.DED_CONFIRMED_SERVICE_ERROR,
    Apdu.GET_REQUEST: Apdu.DED_GET_REQUEST,
    Apdu.SET_REQUEST: Apdu.DED_SET_REQUEST,
    Apdu.ACTION_REQUEST: Apdu.DED_ACTION_REQUEST,
    Apdu.GET_RESPONSE: Apdu.DED_GET_RESPONSE,
    Apdu.SET_RESPONSE: Apdu.DED_SET_RESPONSE,
    Apdu.ACTION_RESPONSE: Apdu.DED_ACTION_RESPONSE,
}
_PLAIN_OF_GLOBAL: Final = {ciphered: plain for plain, ciphered in _GLOBAL.items()}
_PLAIN_OF_DEDICATED: Final = {ciphered: plain for plain, ciphered in _DEDICATED.items()}
_GENERAL: Final = (Apdu.GENERAL_GLO_CIPHERING, Apdu.GENERAL_DED_CIPHERING)
_REFUSALS: Final = (Apdu.EXCEPTION_RESPONSE, Apdu.CONFIRMED_SERVICE_ERROR)
"""May come in the clear: see `apdu/refusal.py`."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A ciphered APDU in its parts."""

    tag: int
    title: bytes
    """System title in the head of a general APDU; empty in others."""
    control: int
    counter: int
    text: bytes
    """Ciphertext or plain text, with its tag if it has one."""

    @property
    def nonce_end(self) -> bytes:
        """The counter as it stands in the nonce."""
        return self.counter.to_bytes(4, "big")

    @property
    def dedicated(self) -> bool:
        """Whether it is under the dedicated key."""
        return self.tag in _PLAIN_OF_DEDICATED or self.tag == Apdu.GENERAL_DED_CIPHERING


def is_ciphered(apdu: bytes) -> bool:
    """Whether the first byte says that an APDU is ciphered."""
    tag = apdu[0] if apdu else 0
    return tag in _PLAIN_OF_GLOBAL or tag in _PLAIN_OF_DEDICATED or tag in _GENERAL


def wrapped(apdu: bytes) -> Wrapped:
    """The parts of a ciphered APDU; raises ReplyUnprotected and AnswerMalformed."""
    if not is_ciphered(apdu):
        raise ReplyUnprotected(
            f"expected a ciphered answer, {apdu[:8].hex()} came in the clear; it was not used"
        )
    title, at = b"", 1
    try:
        if apdu[0] in _GENERAL:
            size, at = axdr.read_length(apdu, at)
            title, at = apdu[at : at + size], at + size
        size, at = axdr.read_length(apdu, at)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"a ciphered answer {apdu[:16].hex()}: {error}") from error
    if size < _HEAD_BYTES or at + size > len(apdu):
        raise AnswerMalformed(
            f"a ciphered answer says it has {size} bytes and has {len(apdu) - at}: "
            f"{apdu[:16].hex()}"
        )
    body = apdu[at : at + size]
    counter = int.from_bytes(body[1:_HEAD_BYTES], "big")
    return Wrapped(apdu[0], title, body[0], counter, body[_HEAD_BYTES:])


def unwrapped(apdu: Wrapped, key: bytes, authentication: bytes, title: bytes) -> bytes:
    """The plain APDU that its sender, with `title`, wrapped; raises ReplyForged.

    The protection is as its security control byte says: who calls this has
    checked that it is enough.
    """
    nonce = title + apdu.nonce_end
    known = bytes([apdu.control]) + authentication
    try:
        if apdu.control & BOTH == BOTH:
            return gcm.opened(key, nonce, known, apdu.text)
        if apdu.control & BOTH == SecurityControl.ENCRYPTED:
            return gcm.crypted(key, nonce, apdu.text)
        plain, tag = apdu.text[: -gcm.TAG_BYTES], apdu.text[-gcm.TAG_BYTES :]
        if apdu.control & BOTH and gcm.tags_equal(gcm.tag(key, nonce, known + plain), tag):
            return plain
        raise gcm.TagWrong("the tag is wrong")
    except gcm.TagWrong as error:
        raise ReplyForged(
            f"a ciphered answer (counter {apdu.counter}) from system title {title.hex()}: "
            f"{error}; it was damaged or forged, or the keys are not this meter's"
        ) from error


def check_control(control: int, suite: int, demanded: int) -> None:
    """Raises ReplyUnprotected unless `control` has the suite and the bits that are demanded."""
    missing = demanded & ~control
    unknown = control & (SecurityControl.COMPRESSED | SecurityControl.BROADCAST_KEY)
    if missing or unknown or control & SecurityControl.SUITE != suite:
        raise ReplyUnprotected(
            f"expected security control {demanded | suite:02x} (suite {suite}), came "
            f"{control:02x}; check suite and ciphering of the meter class"
        )


class Cipher:
    """Protects the requests of one association and reveals the answers to them."""

    def __init__(
        self, security: Security, server_title: bytes = b"", *, dedicated_key: bytes = b""
    ) -> None:
        """Without `server_title` it is learnt; raises ValueError for keys that do not fit."""
        self._keys, self._counter = usable(security)
        self._mode = security.ciphering
        self._suite = security.suite
        self._client_title = security.client_title
        self._dedicated_key = dedicated_key
        self._established = False
        self._heard: dict[bool, int] = {False: -1, True: -1}
        self.server_title = server_title
        """System title of the meter; empty until it is known."""

    @property
    def overhead(self) -> int:
        """Most bytes that protection adds to a request."""
        general = 1 + TITLE_BYTES if self._mode == "general-global" else 0
        return general + 1 + 5 + _HEAD_BYTES + gcm.TAG_BYTES

    def learn_title(self, title: bytes) -> None:
        """Notes the meter's system title; raises ReplyForged if it is not what it was."""
        self._check_title(title)
        self.server_title = title

    def _check_title(self, title: bytes) -> None:
        if len(title) != TITLE_BYTES or title == self._client_title:
            raise ReplyForged(
                f"expected the meter's own system title of {TITLE_BYTES} bytes, came "
                f"{title.hex() or 'none'}"
            )
        if self.server_title and title != self.server_title:
            raise ReplyForged(
                f"the meter's system title was {self.server_title.hex()}, an answer came from "
                f"{title.hex()}; it was not used"
            )

    def establish(self) -> None:
        """From now on the dedicated key or general-glo is used, if the meter class wants it."""
        self._established = True

    def protect(self, plain: bytes) -> bytes:
        """The ciphered request, with a counter that was never used; raises CountersExhausted."""
        control = BOTH | self._suite
        counter = self._counter.next().to_bytes(4, "big")
        tag = self._tag(plain[0])
        key = self._dedicated_key if tag in _PLAIN_OF_DEDICATED else self._keys.encryption
        body = (
            bytes([control])
            + counter
            + gcm.sealed(
                key,
                self._client_title + counter,
                bytes([control]) + self._keys.authentication,
                plain,
            )
        )
        title = b""
        if tag in _GENERAL:
            title = axdr.length(TITLE_BYTES) + self._client_title
        return bytes([tag]) + title + axdr.length(len(body)) + body

    def _tag(self, plain_tag: int) -> int:
        if self._established and self._mode == "dedicated":
            return _DEDICATED[plain_tag]
        if self._established and self._mode == "general-global":
            return Apdu.GENERAL_GLO_CIPHERING
        return _GLOBAL[plain_tag]

    def reveal(self, apdu: bytes) -> bytes:
        """The plain answer; a refusal in the clear is given back as it is.

        Raises ReplyUnprotected, ReplyForged, ReplyReplayed and AnswerMalformed.
        """
        if apdu[:1] and apdu[0] in _REFUSALS:
            return apdu
        answer = wrapped(apdu)
        check_control(answer.control, self._suite, BOTH)
        title = answer.title or self.server_title
        self._check_title(title)
        if answer.counter <= self._heard[answer.dedicated]:
            raise ReplyReplayed(
                f"the invocation counter of an answer is {answer.counter}, it was "
                f"{self._heard[answer.dedicated]} before and has to rise; it was not used"
            )
        if self._established and self._mode == "dedicated" and not answer.dedicated:
            raise ReplyUnprotected(
                "expected an answer under the dedicated key, one came under the global key: it may "
                "be of an earlier association; it was not used"
            )
        key = self._dedicated_key if answer.dedicated else self._keys.encryption
        if not key:
            raise ReplyUnprotected("an answer came under a dedicated key, none was agreed")
        plain = unwrapped(answer, key, self._keys.authentication, title)
        expected = _PLAIN_OF_GLOBAL.get(answer.tag, _PLAIN_OF_DEDICATED.get(answer.tag))
        if not plain or (expected is not None and plain[0] != expected):
            raise AnswerMalformed(
                f"a ciphered answer with tag {answer.tag:02x} holds {plain[:8].hex() or 'nothing'}"
            )
        # Only an answer whose tag is right moves the counter or teaches the title.
        self._heard[answer.dedicated] = answer.counter
        self.server_title = title
        return plain


class PushCipher:
    """Reveals the notifications of one meter; nothing is ever sent."""

    def __init__(self, keys: Keys, *, suite: int = 0, title: bytes = b"") -> None:
        """With an empty authentication key, notifications without a tag (SC 20) are taken.

        Without `title` the first notification that is taken teaches it. Raises
        ValueError for keys that do not fit.
        """
        check_key("encryption key", keys.encryption, suite)
        if keys.authentication:
            check_key("authentication key", keys.authentication, suite)
        self._keys = keys
        self._suite = suite
        self._demanded = BOTH if keys.authentication else SecurityControl.ENCRYPTED
        self._heard = -1
        self.title = title
        """System title of the meter; empty until it is known."""

    def reveal(self, apdu: bytes) -> bytes:
        """The plain notification; errors as `Cipher.reveal`."""
        push = wrapped(apdu)
        if push.tag != Apdu.GENERAL_GLO_CIPHERING or len(push.title) != TITLE_BYTES:
            raise ReplyUnprotected(
                f"expected a general-glo notification with a system title, came {apdu[:12].hex()}"
            )
        check_control(push.control, self._suite, self._demanded)
        if self.title and push.title != self.title:
            raise ReplyForged(
                f"the meter's system title is {self.title.hex()}, a notification came from "
                f"{push.title.hex()}; it was not used"
            )
        if push.counter <= self._heard:
            raise ReplyReplayed(
                f"the invocation counter of a notification is {push.counter}, it was "
                f"{self._heard} before and has to rise; it was not used"
            )
        plain = unwrapped(push, self._keys.encryption, self._keys.authentication, push.title)
        # Without a tag anything can be deciphered: noise must not teach a title or a counter.
        if plain[:1] != bytes([Apdu.DATA_NOTIFICATION]):
            raise ReplyForged(
                f"expected a data-notification (0f) from system title {push.title.hex()}, "
                f"deciphered {plain[:8].hex() or 'nothing'}; the keys are not this meter's"
            )
        self._heard, self.title = push.counter, push.title
        return plain
