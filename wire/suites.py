"""The HPKE suites that batches may be sealed with (RFC 9180, base mode, single shot).

A suite's number is for ever; another key encapsulation is another number. All
suites have private keys of 32 bytes, so that one is kept, backed up and
destroyed as the other. `cryptography` is loaded on first use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from wire.unknown import NotKnownYet

X25519: Final = 1
"""DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""
MLKEM768_X25519: Final = 2
"""The hybrid of ML-KEM-768 (FIPS 203) and X25519 instead: holds while one of the two does."""

PRIVATE_BYTES: Final = 32
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1184


class UnknownSuite(NotKnownYet):
    """The number of a suite that this program does not have."""


class DoesNotOpen(ValueError):
    """Ciphertext, key and `info` do not belong together."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite; keys are raw bytes outside of it."""

    number: int
    name: str
    public_bytes: int
    _kem: str
    _private: Callable[[bytes], Any]
    _public: Callable[[bytes], Any]
    _public_of: Callable[[bytes], bytes]

    def public_of(self, private: bytes) -> bytes:
        """The public key of a private one of 32 bytes; raises ValueError for another length."""
        return self._public_of(_sized(private, PRIVATE_BYTES, "private key"))

    def encrypt(self, plaintext: bytes, public: bytes, info: bytes) -> bytes:
        """Encapsulated key and ciphertext; raises ValueError for what is no public key."""
        key = self._public(_sized(public, self.public_bytes, "public key"))
        sealed: bytes = _hpke(self._kem).encrypt(plaintext, key, info=info)
        return sealed

    def decrypt(self, sealed: bytes, private: bytes, info: bytes) -> bytes:
        """The plaintext; raises DoesNotOpen, or ValueError for what is no private key."""
        from cryptography.exceptions import InvalidTag

        key = self._private(_sized(private, PRIVATE_BYTES, "private key"))
        try:
            plaintext: bytes = _hpke(self._kem).decrypt(sealed, key, info=info)
        except (InvalidTag, ValueError) as error:
            raise DoesNotOpen(f"{len(sealed)} bytes do not open under {self.name}") from error
        return plaintext


def suite(number: int) -> Suite:
    """The suite of that number; raises UnknownSuite."""
    found = SUITES.get(number)
    if found is None:
        raise UnknownSuite(f"suite {number}, this program knows {sorted(SUITES)}")
    return found


def _sized(key: bytes, size: int, what: str) -> bytes:
    if len(key) != size:
        raise ValueError(f"{what} of {len(key)} bytes, expected {size}")
    return key


@cache
def _hpke(kem: str) -> Any:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
    from cryptography.hazmat.primitives.hpke import Suite as Hpke

    return Hpke(getattr(KEM, kem), KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _x25519_private(private: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private)


def _x25519_public(public: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    return X25519PublicKey.from_public_bytes(public)


def _x25519_public_of(private: bytes) -> bytes:
    raw: bytes = _x25519_private(private).public_key().public_bytes_raw()
    return raw


def _parts(private: bytes) -> tuple[Any, Any]:
    # draft-connolly-cfrg-xwing-kem, 5.2: both private keys are expanded from one seed.
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    expanded = hashlib.shake_256(private).digest(_MLKEM_SEED_BYTES + PRIVATE_BYTES)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
    return lattice, _x25519_private(expanded[_MLKEM_SEED_BYTES:])


def _hybrid_private(private: bytes) -> Any:
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

    return MLKEM768X25519PrivateKey(*_parts(private))


def _hybrid_public_of(private: bytes) -> bytes:
    raw: bytes = b"".join(part.public_key().public_bytes_raw() for part in _parts(private))
    return raw


def _hybrid_public(public: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey

    lattice = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES])
    return MLKEM768X25519PublicKey(lattice, _x25519_public(public[_MLKEM_PUBLIC_BYTES:]))


SUITES: Final[Mapping[int, Suite]] = {
    one.number: one
    for one in (
        Suite(
            X25519,
            "X25519",
            32,
            "X25519",
            _x25519_private,
            _x25519_public,
            _x25519_public_of,
        ),
        Suite(
            MLKEM768_X25519,
            "ML-KEM-768 and X25519",
            _MLKEM_PUBLIC_BYTES + 32,
            "MLKEM768_X25519",
            _hybrid_private,
            _hybrid_public,
            _hybrid_public_of,
        ),
    )
}
"""Append-only, by number."""
