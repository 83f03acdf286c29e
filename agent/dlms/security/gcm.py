"""AES-GCM as the security suites of DLMS use it: tags of 12 bytes, and none where SC says so.

`cryptography`, and with it OpenSSL, is imported when the first key is used, so
that an agent without ciphered meters never loads it. Source: DLMS UA Green Book
ed. 8, 9.2.3.3.
"""

from __future__ import annotations

from typing import Final

TAG_BYTES: Final = 12
_FULL_TAG_BYTES: Final = 16


class TagWrong(ValueError):
    """The tag does not belong to this text, key and nonce."""


def sealed(key: bytes, nonce: bytes, known: bytes, plain: bytes) -> bytes:
    """Ciphertext and tag of `plain`; `known` is authenticated too."""
    return _encrypted(key, nonce, known, plain)[: len(plain) + TAG_BYTES]


def opened(key: bytes, nonce: bytes, known: bytes, text: bytes) -> bytes:
    """The plain text of ciphertext and tag; raises TagWrong before any of it is seen."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(text) < TAG_BYTES:
        raise TagWrong(f"expected a tag of {TAG_BYTES} bytes, {len(text)} came")
    mode = modes.GCM(nonce, text[-TAG_BYTES:], min_tag_length=TAG_BYTES)
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    decryptor.authenticate_additional_data(known)
    plain = decryptor.update(text[:-TAG_BYTES])
    try:
        return plain + decryptor.finalize()
    except InvalidTag as error:
        raise TagWrong("the tag is wrong") from error


def crypted(key: bytes, nonce: bytes, text: bytes) -> bytes:
    """Ciphertext of plain text or the reverse, without any tag: nothing proves where it is from."""
    return _encrypted(key, nonce, b"", text)[: len(text)]


def tag(key: bytes, nonce: bytes, known: bytes) -> bytes:
    """GMAC: the tag of `known` alone."""
    return _encrypted(key, nonce, known, b"")[:TAG_BYTES]


def tags_equal(one: bytes, other: bytes) -> bool:
    """Compares in a time that does not tell where two tags differ."""
    from hmac import compare_digest

    return compare_digest(one, other)


def _encrypted(key: bytes, nonce: bytes, known: bytes, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).encrypt(nonce, plain, known)
