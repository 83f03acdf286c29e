"""What a simulated meter demands of its clients: keys, ciphering, counters that rise; its ciphers.

Built from the DLMS UA Green Book (ed. 8, 9.2) with AES-GCM of `cryptography`;
nothing of the agent's. Suites 0 and 2 differ in the length of the keys only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from agent.dlms import axdr

TAG_BYTES: Final = 12
_HEAD_BYTES: Final = 5
_AUTHENTICATED, _BOTH = 0x10, 0x30
_GENERAL_GLO: Final = 0xDB
_GLOBAL_REQUESTS: Final = {0x21: 0x01, 0xC8: 0xC0, 0xC9: 0xC1, 0xCB: 0xC3}
_DEDICATED_REQUESTS: Final = {0xD0: 0xC0, 0xD1: 0xC1, 0xD3: 0xC3}
_GLOBAL_REPLIES: Final = {0x08: 0x28, 0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF}
_DEDICATED_REPLIES: Final = {0xC4: 0xD4, 0xC5: 0xD5, 0xC7: 0xD7}

Ciphering = Literal["none", "global", "dedicated", "general-global"]


class Undecipherable(Exception):
    """The request's tag is wrong, or it is not protected as it has to be."""


class CounterTooLow(Exception):
    """The client used an invocation counter that the meter has seen, or a lower one."""


@dataclass(slots=True)
class MeterSecurity:
    """Keys of one meter, what it demands, and the counters that it keeps for ever."""

    encryption_key: bytes = field(repr=False)
    authentication_key: bytes = field(repr=False)
    mechanism: Literal["none", "lls", "hls-gmac"] = "hls-gmac"
    ciphering: Ciphering = "global"
    """How requests must be ciphered once the association is there; others are refused."""
    suite: Literal[0, 2] = 0
    title: bytes = b"LSM\x00\x00\x00\x00\x02"
    """System title, 8 bytes."""
    heard: int = -1
    """Highest counter that a client has used with the global key."""
    certificate: bytes = field(default=b"", repr=False)
    """What `import_certificate` of the security setup brought."""
    said: int = -1
    """Counter that the meter itself used last; the first one is 0."""

    def __post_init__(self) -> None:
        """Raises ValueError for keys or a title of the wrong length."""
        expected = {0: 16, 2: 32}[self.suite]
        found = (len(self.encryption_key), len(self.authentication_key), len(self.title))
        if found != (expected, expected, 8):
            raise ValueError(
                f"expected keys of {expected} bytes and a title of 8, came {found} bytes"
            )

    def next_count(self) -> bytes:
        """The meter's next counter, 4 bytes."""
        self.said += 1
        return self.said.to_bytes(4, "big")

    def general_glo(self, plain: bytes) -> bytes:
        """An APDU that answers nothing, ciphered and authenticated with the global keys."""
        control = bytes([_BOTH | self.suite])
        count = self.next_count()
        known = control + self.authentication_key
        text = _sealed(self.encryption_key, self.title + count, known, plain)
        body = control + count + text
        return bytes([_GENERAL_GLO, 8]) + self.title + axdr.length(len(body)) + body

    def hear(self, count: int) -> None:
        """Takes a client's counter; raises CounterTooLow."""
        if count <= self.heard:
            raise CounterTooLow(f"counter {count}, {self.heard} was heard before")
        self.heard = count

    def proof(self, title: bytes, count: bytes, challenge: bytes) -> bytes:
        """SC, counter and GMAC over a challenge (HLS mechanism 5), 17 bytes."""
        control = bytes([_AUTHENTICATED | self.suite])
        known = control + self.authentication_key + challenge
        return control + count + _tag(self.encryption_key, title + count, known)


class AssociationCipher:
    """Deciphers the requests of one association and ciphers the replies in kind."""

    def __init__(self, security: MeterSecurity, client_title: bytes) -> None:
        self._security = security
        self._client_title = client_title
        self._dedicated_heard = -1
        self._dedicated_said = -1
        self.dedicated_key = b""
        self._tag = 0
        """Of the request that is being answered."""

    @property
    def overhead(self) -> int:
        """Most bytes that protection adds to a reply."""
        return 1 + 9 + 5 + _HEAD_BYTES + TAG_BYTES

    def opened(self, apdu: bytes, demanded: Ciphering) -> bytes:
        """The plain request; raises Undecipherable and CounterTooLow."""
        tag = apdu[0]
        if tag not in _tags_of(demanded):
            raise Undecipherable(f"a request with tag {tag:02x} where {demanded} is demanded")
        if tag in _DEDICATED_REQUESTS and not self.dedicated_key:
            raise Undecipherable("the client gave no dedicated key")
        at = 1
        if tag == _GENERAL_GLO:
            if apdu[1:10] != b"\x08" + self._client_title:
                raise Undecipherable("another system title")
            at = 10
        try:
            size, at = axdr.read_length(apdu, at)
        except axdr.AxdrError as error:
            raise Undecipherable(str(error)) from error
        body = apdu[at:]
        if len(body) != size:
            raise Undecipherable(f"{len(body)} bytes where {size} are told")
        if len(body) < _HEAD_BYTES + TAG_BYTES or body[0] != _BOTH | self._security.suite:
            raise Undecipherable(f"security control {body[:1].hex()}")
        plain = _opened(
            self._key(tag),
            self._client_title + body[1:5],
            body[:1] + self._security.authentication_key,
            body[_HEAD_BYTES:],
        )
        expected = _GLOBAL_REQUESTS.get(tag, _DEDICATED_REQUESTS.get(tag))
        if not plain or expected not in (None, plain[0]):
            raise Undecipherable(f"tag {tag:02x} around {plain[:1].hex()}")
        self._hear(tag, int.from_bytes(body[1:5], "big"))
        self._tag = tag
        return plain

    def sealed(self, plain: bytes) -> bytes:
        """The reply, ciphered as its request was."""
        security, tag, title = self._security, self._tag, b""
        if tag == _GENERAL_GLO:
            title = b"\x08" + security.title
        elif tag in _DEDICATED_REQUESTS:
            tag = _DEDICATED_REPLIES[plain[0]]
        else:
            tag = _GLOBAL_REPLIES[plain[0]]
        control = bytes([_BOTH | security.suite])
        count = self._next_count(tag)
        known = control + security.authentication_key
        body = control + count + _sealed(self._key(tag), security.title + count, known, plain)
        return bytes([tag]) + title + axdr.length(len(body)) + body

    def _key(self, tag: int) -> bytes:
        dedicated = tag in _DEDICATED_REQUESTS or tag in _DEDICATED_REPLIES.values()
        return self.dedicated_key if dedicated else self._security.encryption_key

    def _hear(self, tag: int, count: int) -> None:
        if tag not in _DEDICATED_REQUESTS:
            self._security.hear(count)
            return
        if count <= self._dedicated_heard:
            raise CounterTooLow(f"counter {count}, {self._dedicated_heard} was heard before")
        self._dedicated_heard = count

    def _next_count(self, reply_tag: int) -> bytes:
        if reply_tag not in _DEDICATED_REPLIES.values():
            return self._security.next_count()
        self._dedicated_said += 1
        return self._dedicated_said.to_bytes(4, "big")


def _tags_of(demanded: Ciphering) -> tuple[int, ...]:
    if demanded == "dedicated":
        return tuple(_DEDICATED_REQUESTS)
    return (_GENERAL_GLO,) if demanded == "general-global" else tuple(_GLOBAL_REQUESTS)


def _sealed(key: bytes, nonce: bytes, known: bytes, plain: bytes) -> bytes:
    encryptor = BlockCipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(known)
    text = encryptor.update(plain) + encryptor.finalize()
    return text + encryptor.tag[:TAG_BYTES]


def _opened(key: bytes, nonce: bytes, known: bytes, text: bytes) -> bytes:
    mode = modes.GCM(nonce, text[-TAG_BYTES:], min_tag_length=TAG_BYTES)
    decryptor = BlockCipher(algorithms.AES(key), mode).decryptor()
    decryptor.authenticate_additional_data(known)
    plain = decryptor.update(text[:-TAG_BYTES])
    try:
        return plain + decryptor.finalize()
    except InvalidTag as error:
        raise Undecipherable("the tag is wrong") from error


def _tag(key: bytes, nonce: bytes, known: bytes) -> bytes:
    return _sealed(key, nonce, known, b"")
