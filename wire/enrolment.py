"""A device's request for a certificate: PKCS#10 (RFC 2986) that carries both of its keys.

The subject is the common name, the key of the request is the device's TLS key
(P-256). The sign key stands in an extension: it signs the name together with
the TLS key, and the request's own signature covers the extension. So whoever
sends a request holds both private halves, and neither half fits another
request. Who may have that name is not decided here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from wire import cbor
from wire.cose import ED25519, ESP256, CoseError, Signer, thumbprint, verify_signature

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

SIGN_KEY_OID: Final = "2.25.294334627261372648639058139481956858633"
"""Extension of a request: an OCTET STRING of CBOR [1, alg, public, proof]. X.667: from a UUID."""
LARGEST_REQUEST: Final = 4096
"""Bytes of a request, DER."""

_VERSION: Final = 1
_PUBLIC_BYTES: Final = {ED25519: 32, ESP256: 65}
_DOMAIN: Final = b"loadscape/1 enrolment\0"


class RequestError(ValueError):
    """Not a request of the form that the contract asks for; nothing of it is believed."""


class SignKey(NamedTuple):
    """The public half of a sign key, and the algorithm that it is registered for."""

    alg: int
    public: bytes

    @property
    def kid(self) -> bytes:
        """Key id, 8 bytes."""
        return thumbprint(self.public, self.alg)


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for; both proofs of possession have been checked."""

    common_name: str
    tls_public: ec.EllipticCurvePublicKey
    sign_key: SignKey
    digest: bytes
    """SHA-256 of the request as transmitted: tells a repetition from another request."""


def make_request(
    common_name: str,
    tls_key: ec.EllipticCurvePrivateKey,
    signer: Signer,
    sign_public: bytes,
) -> bytes:
    """A request, DER, for the two keys."""
    from cryptography import x509
    from cryptography.hazmat import asn1
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    proof = signer.sign(_proven(common_name, tls_key.public_key()))
    told = cbor.encode([_VERSION, signer.alg, sign_public, proof])
    extension = x509.UnrecognizedExtension(
        x509.ObjectIdentifier(SIGN_KEY_OID), asn1.encode_der(told)
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .add_extension(extension, critical=False)
        .sign(tls_key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.DER)


def read_request(data: bytes) -> Request:
    """The request with both of its proofs checked; raises RequestError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(data) > LARGEST_REQUEST:
        raise RequestError(f"request of {len(data)} bytes, expected at most {LARGEST_REQUEST}")
    try:
        request = x509.load_der_x509_csr(data)
        names = [attribute.value for attribute in request.subject]
        tls_public = request.public_key()
        if not isinstance(tls_public, ec.EllipticCurvePublicKey) or not isinstance(
            tls_public.curve, ec.SECP256R1
        ):
            raise RequestError("the request's key: expected one of P-256")
        if not request.is_signature_valid:
            raise RequestError("the request is not signed with its own key")
        if not data.endswith(b"\0" + request.signature):
            # X.690 8.6.2: the byte before says how many bits of the last one do not count.
            raise RequestError("the request's signature: expected whole bytes")
        told = _told(request)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"not a PKCS#10 request ({error})") from error
    except (x509.DuplicateExtension, x509.ExtensionNotFound) as error:
        raise RequestError(f"the request's sign key, extension {SIGN_KEY_OID}: {error}") from error
    if len(names) != 1 or not isinstance(names[0], str):
        raise RequestError(f"subject of {len(names)} names, expected the common name alone")
    sign_key = _sign_key(told, names[0], tls_public)
    return Request(names[0], tls_public, sign_key, hashlib.sha256(data).digest())


def _told(request: x509.CertificateSigningRequest) -> bytes:
    from cryptography import x509
    from cryptography.hazmat import asn1

    oid = x509.ObjectIdentifier(SIGN_KEY_OID)
    value = request.extensions.get_extension_for_oid(oid).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return asn1.decode_der(bytes, value.value)


def _sign_key(told: bytes, common_name: str, tls_public: ec.EllipticCurvePublicKey) -> SignKey:
    try:
        fields = cbor.decode(told)
    except cbor.CborError as error:
        raise RequestError(f"the request's sign key: {error}") from error
    match fields:
        case [int(version), int(alg), bytes(public), bytes(proof)]:
            pass
        case _:
            raise RequestError("the request's sign key: expected [version, alg, public, proof]")
    if version != _VERSION or len(public) != _PUBLIC_BYTES.get(alg):
        raise RequestError(
            f"the request's sign key: version {version}, algorithm {alg}, {len(public)} bytes; "
            f"expected version {_VERSION} and {ED25519} with 32 bytes or {ESP256} with 65"
        )
    try:
        verify_signature(public, alg, proof, _proven(common_name, tls_public))
    except (CoseError, ValueError) as error:
        raise RequestError(f"the sign key has not signed this request ({error})") from error
    return SignKey(alg, public)


def _proven(common_name: str, tls_public: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key_info = tls_public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _DOMAIN + common_name.encode() + b"\0" + key_info
