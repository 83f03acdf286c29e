"""A request for a certificate proves possession of both of its keys, or is none."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor
from wire.enrolment import (
    LARGEST_REQUEST,
    SIGN_KEY_OID,
    RequestError,
    make_request,
    read_request,
)
from wire.envelope import BatchSigner, DeviceSigner
from wire.p256 import P256Signer

TLS_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
ED, P256 = DeviceSigner(b"\1" * 32), P256Signer(b"\2" * 32)
GOOD = make_request("demo-t01", TLS_KEY, ED, ED.public)


def told_by(request: bytes) -> bytes:
    oid = x509.ObjectIdentifier(SIGN_KEY_OID)
    value = x509.load_der_x509_csr(request).extensions.get_extension_for_oid(oid).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return value.value


def request_of(*names: str, told: bytes | None, key: ec.EllipticCurvePrivateKey = TLS_KEY) -> bytes:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if told is not None:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(SIGN_KEY_OID), told)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("signer", [ED, P256], ids=["Ed25519", "ESP256"])
def test_a_request_tells_the_name_and_both_keys(signer: BatchSigner) -> None:
    request = read_request(make_request("demo-t01", TLS_KEY, signer, signer.public))
    assert request.common_name == "demo-t01"
    assert request.tls_public == TLS_KEY.public_key()
    assert (request.sign_key.alg, request.sign_key.public) == (signer.alg, signer.public)
    assert request.sign_key.kid == signer.kid


def test_a_sign_key_proves_its_possession_for_one_name_and_one_connection_key_only() -> None:
    told = told_by(GOOD)
    assert read_request(request_of("demo-t01", told=told)).common_name == "demo-t01"
    for request in (
        request_of("demo-t02", told=told),
        request_of("demo-t01", told=told, key=OTHER_KEY),
    ):
        with pytest.raises(RequestError, match="has not signed this request"):
            read_request(request)


def test_a_sign_key_of_somebody_else_is_refused() -> None:
    with pytest.raises(RequestError, match="has not signed this request"):
        read_request(make_request("demo-t01", TLS_KEY, ED, DeviceSigner(b"\3" * 32).public))
    with pytest.raises(RequestError, match="has not signed this request"):
        read_request(make_request("demo-t01", TLS_KEY, P256, b"\4" + b"\7" * 64))


@pytest.mark.parametrize(
    ("request_der", "why"),
    [
        (b"", "not a PKCS#10 request"),
        (bytes(LARGEST_REQUEST + 1), "expected at most 4096"),
        (request_of("demo-t01", told=None), "extension 2.25"),
        (request_of("demo-t01", "demo-t02", told=told_by(GOOD)), "2 names"),
        (request_of(told=told_by(GOOD)), "0 names"),
        (request_of("demo-t01", told=b"no DER"), "not a PKCS#10 request"),
        (request_of("demo-t01", told=asn1.encode_der(b"\xff")), "the request's sign key"),
        (request_of("demo-t01", told=asn1.encode_der(cbor.encode([1]))), "expected .version, alg"),
        (
            request_of("demo-t01", told=asn1.encode_der(cbor.encode([1, -7, b"k" * 32, b""]))),
            "algorithm -7",
        ),
        (
            request_of("demo-t01", told=told_by(GOOD), key=ec.generate_private_key(ec.SECP384R1())),
            "expected one of P-256",
        ),
    ],
)
def test_what_is_no_such_request_is_refused(request_der: bytes, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        read_request(request_der)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_byte_of_a_request_can_be_changed(at: int, by: int) -> None:
    changed = bytearray(GOOD)
    changed[at] ^= by
    with pytest.raises(RequestError):
        read_request(bytes(changed))


def test_a_signature_said_to_end_within_a_byte_is_refused() -> None:
    signed = (request_of("demo-t01", told=told_by(GOOD)) for _ in range(100))
    good = next(request for request in signed if not request[-1] & 1)
    signature = x509.load_der_x509_csr(good).signature
    bits_left_out = len(good) - len(signature) - 1
    changed = good[:bits_left_out] + b"\1" + good[bits_left_out + 1 :]
    with pytest.raises(RequestError, match="whole bytes"):
        read_request(changed)
