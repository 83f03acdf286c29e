"""COSE_Sign1 (RFC 9052, 4.2): one signer, everything that matters in the protected header.

Algorithms: Ed25519 (-19, RFC 9864), and ESP256 (-9) for keys in hardware that
has no Ed25519. Which one a key uses is fixed where the key is registered and
never taken from the message. `cryptography` is loaded on first use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from wire import cbor

ED25519: Final = -19
ESP256: Final = -9

ALG: Final = 1
CONTENT: Final = 3
KID: Final = 4

_Kind = TypeVar("_Kind")

_MOST_BYTES: Final = 262_144
_KID_BYTES: Final = 8
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class CoseError(ValueError):
    """Not a COSE_Sign1 of the form that the contract asks for."""


class SignatureWrong(CoseError):
    """The signature does not fit message and key."""


class Signer(Protocol):
    """Whoever holds a private signing key."""

    @property
    def alg(self) -> int: ...

    @property
    def kid(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Signed:
    """The parts of a COSE_Sign1; nothing about it is verified yet."""

    protected: bytes
    """As transmitted: what the signature covers."""
    header: dict[int, cbor.Value]
    payload: bytes
    signature: bytes

    @property
    def alg(self) -> int:
        return _field(self.header, ALG, int)

    @property
    def content(self) -> int:
        return _field(self.header, CONTENT, int)

    @property
    def kid(self) -> bytes:
        return _field(self.header, KID, bytes)


def sign1(header: dict[int, cbor.Value], payload: bytes, signer: Signer) -> bytes:
    """A tagged COSE_Sign1 with `header` protected; its alg and kid are the signer's."""
    protected = cbor.encode({**header, ALG: signer.alg, KID: signer.kid})
    signature = signer.sign(_to_be_signed(protected, payload))
    return cbor.encode(cbor.Tagged([protected, {}, payload, signature]))


def read_sign1(data: bytes) -> Signed:
    """Take a COSE_Sign1 apart without verifying it; raises CoseError."""
    if len(data) > _MOST_BYTES:
        raise CoseError(f"{len(data)} bytes, expected at most {_MOST_BYTES}")
    try:
        outer = cbor.decode(data)
        if not isinstance(outer, cbor.Tagged):
            raise CoseError("expected tag 18 (COSE_Sign1)")
        match outer.value:
            case [bytes() as protected, {**unprotected}, bytes() as payload, bytes() as signature]:
                pass
            case _:
                raise CoseError("expected an array of protected, unprotected, payload, signature")
        header = cbor.decode(protected)
    except cbor.CborError as error:
        raise CoseError(f"not deterministic CBOR: {error}") from error
    if unprotected:
        raise CoseError("expected an empty unprotected header")
    if not isinstance(header, dict):
        raise CoseError("expected a map as protected header")
    return Signed(protected, header, payload, signature)


def verify_sign1(signed: Signed, public: bytes, alg: int) -> None:
    """Check the signature with the registered key and algorithm; raises SignatureWrong.

    `public` is 32 bytes for Ed25519, an uncompressed P-256 point (65 bytes) for ESP256.
    """
    if signed.alg != alg:
        raise SignatureWrong(f"algorithm {signed.alg}, the key is registered for {alg}")
    covered = _to_be_signed(signed.protected, signed.payload)
    verify_signature(public, alg, signed.signature, covered)


def verify_signature(public: bytes, alg: int, signature: bytes, covered: bytes) -> None:
    """Check a bare signature over `covered`; raises SignatureWrong.

    A P-256 point that is none raises ValueError.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        if alg == ED25519:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

            Ed25519PublicKey.from_public_bytes(public).verify(signature, covered)
        elif alg == ESP256:
            _verify_esp256(public, signature, covered)
        else:
            raise SignatureWrong(f"algorithm {alg}: expected {ED25519} or {ESP256}")
    except InvalidSignature as error:
        raise SignatureWrong("the signature does not fit the message and the key") from error


def thumbprint(public: bytes, alg: int) -> bytes:
    """Key id: first 8 bytes of the COSE key thumbprint (RFC 9679) under SHA-256."""
    key: dict[int, cbor.Value]
    if alg == ED25519:
        key = {1: 1, -1: 6, -2: public}
    elif alg == ESP256:
        key = {1: 2, -1: 1, -2: public[1:33], -3: public[33:65]}
    else:
        raise CoseError(f"algorithm {alg}: expected {ED25519} or {ESP256}")
    return hashlib.sha256(cbor.encode(key)).digest()[:_KID_BYTES]


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    # Sig_structure of RFC 9052, 4.4, with no external data.
    return cbor.encode(["Signature1", protected, b"", payload])


def esp256_signature(der: bytes) -> bytes:
    """An ECDSA signature as hardware and libraries give it, in the one form that is accepted."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


def _verify_esp256(public: bytes, signature: bytes, covered: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    if len(signature) != 64:
        raise SignatureWrong(f"ESP256 signature of {len(signature)} bytes, expected 64")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    # (r, n - s) is as good a signature: anyone could give a batch another hash, and so cut a chain.
    if s > _P256_ORDER // 2:
        raise SignatureWrong("ESP256 signature with s above half the order, expected the lower")
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    key.verify(encode_dss_signature(r, s), covered, ec.ECDSA(SHA256()))


def _field(header: dict[int, cbor.Value], label: int, kind: type[_Kind]) -> _Kind:
    value = header.get(label)
    if not isinstance(value, kind):
        raise CoseError(f"protected header label {label}: expected {kind.__name__}")
    return value
