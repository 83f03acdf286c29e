"""ESP256: a key for hardware without Ed25519; one signature per message, and one form of it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cose, suites
from wire.envelope import (
    BLOCK,
    NO_PREV,
    BatchHeader,
    DeviceSigner,
    EnvelopeError,
    open_sealed,
    read_header,
    seal,
    verify,
)
from wire.p256 import P256Signer

# NIST P-256, RFC 6979, A.2.5: key, message, signature with SHA-256.
NIST_KEY = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
NIST_R = bytes.fromhex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DEVICE = P256Signer(NIST_KEY)
EPOCH = bytes(range(32))


def sealed() -> bytes:
    header = BatchHeader(
        cose.ESP256, BLOCK, DEVICE.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV, b"epoch001",
        suites.X25519, 1,
    )  # fmt: skip
    public = suites.suite(suites.X25519).public_of(EPOCH)
    return seal(header, b"readings", epoch_public=public, signer=DEVICE)


def test_the_signature_is_that_of_rfc_6979() -> None:
    assert DEVICE.sign(b"sample")[:32] == NIST_R


def test_a_batch_signed_with_p256_verifies_and_opens() -> None:
    data = sealed()
    assert verify(data, DEVICE.public, cose.ESP256) == read_header(data)
    assert open_sealed(data, EPOCH) == b"readings"
    assert cose.read_sign1(data).alg == -9


def test_the_algorithm_is_the_registered_one_whatever_the_message_says() -> None:
    with pytest.raises(cose.SignatureWrong, match="registered for -19"):
        verify(sealed(), DEVICE.public, cose.ED25519)
    other = DeviceSigner(b"\1" * 32)
    message = cose.read_sign1(cose.sign1({cose.CONTENT: BLOCK}, b"x", other))
    with pytest.raises(cose.SignatureWrong, match="registered for -9"):
        cose.verify_sign1(message, DEVICE.public, cose.ESP256)


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_the_other_signature_of_the_same_message_is_refused(payload: bytes) -> None:
    data = cose.sign1({cose.CONTENT: BLOCK}, payload, DEVICE)
    signed = cose.read_sign1(data)
    s = int.from_bytes(signed.signature[32:], "big")
    other = signed.signature[:32] + (ORDER - s).to_bytes(32, "big")
    forged = cose.Signed(signed.protected, signed.header, signed.payload, other)
    cose.verify_sign1(signed, DEVICE.public, cose.ESP256)
    with pytest.raises(cose.SignatureWrong, match="lower"):
        cose.verify_sign1(forged, DEVICE.public, cose.ESP256)


class Hardware:
    """A key that is used and never seen; it gives signatures as DER, with either s."""

    alg = cose.ESP256
    kid = DEVICE.kid

    def __init__(self) -> None:
        self._key = ec.derive_private_key(int.from_bytes(NIST_KEY, "big"), ec.SECP256R1())

    def sign(self, data: bytes) -> bytes:
        return cose.esp256_signature(self._key.sign(data, ec.ECDSA(SHA256())))


def test_what_hardware_signs_counts_in_the_accepted_form() -> None:
    for number in range(40):
        signed = cose.read_sign1(cose.sign1({cose.CONTENT: BLOCK}, b"%d" % number, Hardware()))
        cose.verify_sign1(signed, DEVICE.public, cose.ESP256)


def test_the_same_plaintext_has_the_same_hedge_and_another_one_another() -> None:
    assert DEVICE.hedge(b"a") == DEVICE.hedge(b"a") != DEVICE.hedge(b"b")
    assert DEVICE.hedge(b"a") != P256Signer(b"\1" * 32).hedge(b"a")


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(32), ORDER.to_bytes(32, "big")])
def test_what_is_no_private_key_is_refused(wrong: bytes) -> None:
    with pytest.raises(EnvelopeError):
        P256Signer(wrong)
