"""A sealed batch: HPKE ciphertext for central's epoch key, signed by the device.

The protected header says who, which stream, which number and what came
before; it is also the HPKE `info`, so a header moved to another ciphertext
opens nothing. The broker sees device, sequence and size. `cryptography` is
loaded on first use.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from wire import cbor, suites
from wire.cose import (
    ALG,
    CONTENT,
    ED25519,
    KID,
    CoseError,
    Signed,
    Signer,
    read_sign1,
    sign1,
    thumbprint,
    verify_sign1,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BLOCK: Final = 1
"""Content: an interval block (`wire.block`)."""
CBOR_ROWS: Final = 2
"""Content: plain CBOR rows, for third parties."""
EVENTS: Final = 3
"""Content: events."""
LOG: Final = 4
"""Content: a piece of the concentrator's own log (`wire.log`)."""

NO_PREV: Final = bytes(16)
"""`prev` of the first batch of a stream."""

LARGEST_SEQ: Final = (1 << 62) - 1

_VERSION: Final = 1
_BATCH: Final = -70001
_INFO: Final = b"loadscape/1 batch\0"
_PAD: Final = 128
_HASH_BYTES: Final = 16


class EnvelopeError(ValueError):
    """Not a sealed batch of the form that the contract asks for."""


class NotOpened(EnvelopeError):
    """The ciphertext does not open with this key under this header."""


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What the protected header says; `seq` counts from 1 in each stream."""

    alg: int
    content: int
    kid: bytes
    tenant: str
    stream: bytes
    boot: bytes
    seq: int
    prev: bytes
    epoch_kid: bytes
    suite: int
    schema_id: int


class BatchSigner(Signer, Protocol):
    """Whoever holds a device's private signing key, in a file or in hardware."""

    @property
    def public(self) -> bytes: ...

    def hedge(self, plaintext: bytes) -> bytes:
        """`hedge_of` with a secret that only this device has."""


class DeviceSigner:
    """An Ed25519 key that signs a device's batches; also fits root and receipt keys."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 bytes of RFC 8032, 5.1.5."""
        if len(seed) != 32:
            raise EnvelopeError(f"signing key of {len(seed)} bytes, expected a seed of 32")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.public = self._key.public_key().public_bytes_raw()
        self.kid = thumbprint(self.public, ED25519)

    @property
    def alg(self) -> int:
        return ED25519

    def sign(self, data: bytes) -> bytes:
        """Signature of 64 bytes."""
        return self._key.sign(data)

    def hedge(self, plaintext: bytes) -> bytes:
        """16 bytes that differ for different plaintexts even if randomness repeats."""
        return hedge_of(self._seed, plaintext)


def hedge_of(secret: bytes, plaintext: bytes) -> bytes:
    """The header's hedge: 16 bytes that differ for different plaintexts under one `secret`."""
    key = hashlib.sha256(b"loadscape/1 hedge\0" + secret).digest()
    return hmac.digest(key, plaintext, "sha256")[:_HASH_BYTES]


def seal(
    header: BatchHeader, plaintext: bytes, *, epoch_public: bytes, signer: BatchSigner
) -> bytes:
    """Pad, encrypt to `epoch_public` and sign; alg and kid are the signer's.

    Padding hides the length within 128 bytes: compressed lengths tell of load.
    """
    fields: dict[int, cbor.Value] = {
        CONTENT: header.content,
        _BATCH: [
            _VERSION,
            header.tenant,
            header.stream,
            header.boot,
            header.seq,
            header.prev,
            header.epoch_kid,
            header.suite,
            header.schema_id,
            signer.hedge(plaintext),
        ],
    }
    protected = cbor.encode({**fields, ALG: signer.alg, KID: signer.kid})
    suite = suites.suite(header.suite)
    payload = suite.encrypt(_padded(plaintext), epoch_public, _INFO + protected)
    return sign1(fields, payload, signer)


def read_header(sealed: bytes) -> BatchHeader:
    """The header as the sender wrote it, not verified; raises EnvelopeError."""
    return _header(_read(sealed))


def verify(sealed: bytes, device_public: bytes, alg: int = ED25519) -> BatchHeader:
    """The header after checking the signature; raises EnvelopeError or SignatureWrong."""
    signed = _read(sealed)
    verify_sign1(signed, device_public, alg)
    return _header(signed)


def open_sealed(sealed: bytes, epoch_private: bytes) -> bytes:
    """The plaintext; raises NotOpened, or UnknownSuite before anything is tried.

    The signature must have been verified before.
    """
    signed = _read(sealed)
    header = _header(signed)
    suite = suites.suite(header.suite)
    try:
        padded = suite.decrypt(signed.payload, epoch_private, _INFO + signed.protected)
    except ValueError as error:
        raise NotOpened(
            f"batch {header.stream.hex()}/{header.seq}: does not open with epoch key "
            f"{header.epoch_kid.hex()} ({error})"
        ) from error
    plaintext = padded.rpartition(b"\x80")[0]
    if _padded(plaintext) != padded:
        raise NotOpened(f"batch {header.stream.hex()}/{header.seq}: the padding is damaged")
    return plaintext


def _padded(plaintext: bytes) -> bytes:
    return plaintext + b"\x80" + bytes(-(len(plaintext) + 1) % _PAD)


def chain_hash(sealed: bytes) -> bytes:
    """First 16 bytes of SHA-256 over the sealed batch: the next batch's `prev`."""
    return hashlib.sha256(sealed).digest()[:_HASH_BYTES]


def _read(sealed: bytes) -> Signed:
    try:
        return read_sign1(sealed)
    except CoseError as error:
        raise EnvelopeError(str(error)) from error


def _header(signed: Signed) -> BatchHeader:
    try:
        alg, content, kid = signed.alg, signed.content, signed.kid
    except CoseError as error:
        raise EnvelopeError(str(error)) from error
    if set(signed.header) != {ALG, CONTENT, KID, _BATCH}:
        raise EnvelopeError(f"header labels {sorted(signed.header)}: expected 1, 3, 4 and {_BATCH}")
    match signed.header[_BATCH]:
        case [
            int(version),
            str(tenant),
            bytes(stream),
            bytes(boot),
            int(seq),
            bytes(prev),
            bytes(epoch_kid),
            int(suite),
            int(schema_id),
            bytes(hedge),
        ]:
            pass
        case _:
            raise EnvelopeError(f"header label {_BATCH}: not the ten fields of a batch")
    sizes = [len(part) for part in (kid, stream, boot, prev, epoch_kid, hedge)]
    if version != _VERSION:
        raise EnvelopeError(f"batch version {version}, this program reads {_VERSION}")
    if sizes != [8, 8, 8, 16, 8, 16] or not 1 <= seq <= LARGEST_SEQ:
        raise EnvelopeError(
            f"field sizes {sizes}, seq {seq}: expected sizes 8, 8, 8, 16, 8, 16 and seq from 1 to "
            f"{LARGEST_SEQ}"
        )
    numbers = (content, suite, schema_id)
    if not all(0 <= number < 1 << 16 for number in numbers):
        raise EnvelopeError(f"content, suite, schema {numbers}: expected numbers below 65536")
    return BatchHeader(
        alg, content, kid, tenant, stream, boot, seq, prev, epoch_kid, suite, schema_id
    )
