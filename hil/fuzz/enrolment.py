"""What strangers may send at enrolment, either way: requests, certificates, companions, tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from hil.fuzz.decoders import Decoder
from wire import cbor, est
from wire.enrolment import LARGEST_REQUEST, RequestError, make_request, read_request
from wire.envelope import DeviceSigner
from wire.est import Companion, EstError, Token
from wire.p256 import P256Signer

_TLS_KEY: Final = ec.derive_private_key(7, ec.SECP256R1())
_FIRST: Final = datetime(2026, 3, 28, tzinfo=UTC)


def _request(data: bytes) -> object:
    return read_request(est.from_body(data))


def _token(data: bytes) -> object:
    return est.read_token(data.decode("utf-8", "replace"))


def _basic(data: bytes) -> object:
    # As http.server decodes a header.
    return est.read_basic(data.decode("latin-1"))


def _request_seeds() -> Sequence[bytes]:
    signers = DeviceSigner(b"\1" * 32), P256Signer(b"\2" * 32)
    made = (make_request("demo-t01", _TLS_KEY, signer, signer.public) for signer in signers)
    return [est.to_body(request) for request in made]


def _long_bodies(size: int) -> Sequence[bytes]:
    """As long as a body may be, and as a request may be, in DER that nests or repeats."""
    der = [b"\x30\x80" * (size // 4), bytes(size // 2), b"\x31\x00" * (LARGEST_REQUEST // 2)]
    return [b" " * size, *map(est.to_body, der)]


def _certificate_seeds() -> Sequence[bytes]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo-t01")])
    days = timedelta(days=30)
    certificate = x509.CertificateBuilder(
        name, name, _TLS_KEY.public_key(), 7, _FIRST, _FIRST + days
    ).sign(_TLS_KEY, SHA256(), ecdsa_deterministic=True)
    return [est.certificates_body([certificate] * count) for count in (1, 3)]


def _companion_seeds() -> Sequence[bytes]:
    return [
        Companion(bytes(32), bytes(range(200)), host, 8883).encode()
        for host in ("broker.example", "192.0.2.1")
    ]


def _long_companions(size: int) -> Sequence[bytes]:
    longest = json.dumps({"root": "00" * 32, "keyset": "A" * size, "broker": {}}).encode()
    return [b"[" * size, b'{"root":' * (size // 8), longest]


def _token_seeds() -> Sequence[bytes]:
    token = Token("demo-t01", "centre.example:8443", bytes(range(16)), b"a" * 16, b"r" * 16)
    return [str(token).encode()]


def _long_tokens(size: int) -> Sequence[bytes]:
    return [b"loadscape1." + b"g" * size, b" " * size, cbor.encode([1, "x" * size])]


def _basic_seeds() -> Sequence[bytes]:
    token = Token("demo-t01", "centre.example:8443", bytes(range(16)), b"a" * 16, b"r" * 16)
    return [token.basic.encode()]


def _long_headers(size: int) -> Sequence[bytes]:
    return [b"Basic " + b"A" * size, b" " * size, b"basic " + b"=" * size]


DECODERS: Final = (
    Decoder("est-request", _request, (EstError, RequestError), _request_seeds, _long_bodies),
    Decoder(
        "est-certificates", est.read_certificates, (EstError,), _certificate_seeds, _long_bodies
    ),
    Decoder("est-companion", est.read_companion, (EstError,), _companion_seeds, _long_companions),
    Decoder("est-basic", _basic, (EstError,), _basic_seeds, _long_headers),
    Decoder("est-token", _token, (EstError,), _token_seeds, _long_tokens),
)
