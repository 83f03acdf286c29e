"""A device's ESP256 key (ECDSA with P-256 and SHA-256, RFC 9864) that lies in a file.

For devices whose hardware has no Ed25519; a key inside the hardware needs a
signer of its own with the same four members, whose `sign` passes what the
hardware gives through `wire.cose.esp256_signature`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wire.cose import ESP256, esp256_signature, thumbprint
from wire.envelope import EnvelopeError, hedge_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PRIVATE_BYTES: Final = 32


class P256Signer:
    """Signs a device's batches under ESP256 (-9)."""

    def __init__(self, private: bytes) -> None:
        """`private`: the private number as 32 bytes, big-endian; raises EnvelopeError."""
        if len(private) != PRIVATE_BYTES:
            raise EnvelopeError(f"P-256 key of {len(private)} bytes, expected {PRIVATE_BYTES}")
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        try:
            key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
        except ValueError as error:
            raise EnvelopeError(
                "P-256 key: expected a number from 1 to the order less 1"
            ) from error
        self._key: EllipticCurvePrivateKey = key
        self._private = private
        self.public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.kid = thumbprint(self.public, ESP256)

    @property
    def alg(self) -> int:
        return ESP256

    def sign(self, data: bytes) -> bytes:
        """Signature of 64 bytes; the same for the same data, whatever the random numbers are."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        # RFC 6979: a cloned memory image that repeats random numbers would give the key away.
        return esp256_signature(
            self._key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))
        )

    def hedge(self, plaintext: bytes) -> bytes:
        """16 bytes that differ for different plaintexts even if randomness repeats."""
        return hedge_of(self._private, plaintext)
