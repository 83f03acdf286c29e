"""Independent programs read what we write: cwt and pycose signatures, pyhpke the seal, cbor2."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cwt import COSE, COSEKey
from cwt.exceptions import VerifyError
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519 as Ed25519Curve
from pycose.messages import Sign1Message
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from wire import cbor, cose, suites
from wire.envelope import BLOCK, NO_PREV, BatchHeader, DeviceSigner, seal
from wire.p256 import P256Signer

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-format.md"
ED25519, P256 = DeviceSigner(b"\1" * 32), P256Signer(b"\1" * 32)
EPOCH = bytes(range(32))
KEYS = {
    ED25519: {1: 1, 3: -19, -1: 6, -2: ED25519.public, 2: ED25519.kid},
    P256: {1: 2, 3: -9, -1: 1, -2: P256.public[1:33], -3: P256.public[33:], 2: P256.kid},
}


class EdDsaSigner:
    """The same key under the algorithm number that older programs know (RFC 9053)."""

    alg = -8
    kid = ED25519.kid
    sign = staticmethod(ED25519.sign)


def sealed(signer: DeviceSigner | P256Signer) -> bytes:
    header = BatchHeader(
        signer.alg, BLOCK, signer.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV, b"epoch001",
        suites.X25519, 1,
    )  # fmt: skip
    public = suites.suite(suites.X25519).public_of(EPOCH)
    return seal(header, b"readings", epoch_public=public, signer=signer)


@pytest.mark.parametrize("signer", KEYS, ids=["-19", "-9"])
def test_cwt_verifies_our_batches(signer: DeviceSigner | P256Signer) -> None:
    data = sealed(signer)
    key = COSEKey.new(KEYS[signer])
    assert COSE.new().decode(data, key) == cose.read_sign1(data).payload
    spoilt = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(VerifyError):
        COSE.new().decode(spoilt, key)


def test_we_verify_what_cwt_signs() -> None:
    key = COSEKey.new({**KEYS[ED25519], -4: b"\1" * 32})
    header = {1: cose.ED25519, 3: BLOCK, 4: ED25519.kid}
    data = COSE.new().encode_and_sign(b"payload", key, protected=header)
    signed = cose.read_sign1(data)
    cose.verify_sign1(signed, ED25519.public, cose.ED25519)
    assert (signed.content, signed.payload) == (BLOCK, b"payload")


def test_pycose_verifies_our_form_under_the_older_number() -> None:
    data = cose.sign1({cose.CONTENT: BLOCK}, b"payload", EdDsaSigner())
    message = Sign1Message.decode(data)
    message.key = OKPKey(crv=Ed25519Curve, x=ED25519.public)
    assert message.verify_signature()
    message.payload = b"other"
    assert not message.verify_signature()


def test_the_older_number_is_not_accepted_here() -> None:
    signed = cose.read_sign1(cose.sign1({cose.CONTENT: BLOCK}, b"payload", EdDsaSigner()))
    with pytest.raises(cose.SignatureWrong, match="algorithm -8"):
        cose.verify_sign1(signed, ED25519.public, cose.ED25519)


def test_another_hpke_opens_our_seal() -> None:
    signed = cose.read_sign1(sealed(ED25519))
    theirs = CipherSuite.new(
        KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305
    )
    private = theirs.kem.deserialize_private_key(EPOCH)
    recipient = theirs.create_recipient_context(
        signed.payload[:32], private, info=b"loadscape/1 batch\0" + signed.protected
    )
    padded = recipient.open(signed.payload[32:])
    assert padded == b"readings\x80" + bytes(128 - 9)


def _labeled(salt: bytes, label: bytes, data: bytes, suite_id: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite_id + label + data, "sha256")


def _expanded(key: bytes, label: bytes, context: bytes, length: int, suite_id: bytes) -> bytes:
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + context
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def test_the_hybrid_seal_opens_by_the_steps_of_the_drafts() -> None:
    """X-Wing's combiner (draft-connolly-cfrg-xwing-kem, 5.3), then RFC 9180, 5.1."""
    header = BatchHeader(
        ED25519.alg, BLOCK, ED25519.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV, b"epoch001",
        suites.MLKEM768_X25519, 1,
    )  # fmt: skip
    public = suites.suite(suites.MLKEM768_X25519).public_of(EPOCH)
    signed = cose.read_sign1(seal(header, b"readings", epoch_public=public, signer=ED25519))
    expanded = hashlib.shake_256(EPOCH).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = X25519PrivateKey.from_private_bytes(expanded[64:])
    lattice_part, curve_part = signed.payload[:1088], signed.payload[1088:1120]
    shared = hashlib.sha3_256(
        lattice.decapsulate(lattice_part)
        + curve.exchange(X25519PublicKey.from_public_bytes(curve_part))
        + curve_part
        + public[1184:]
        + bytes.fromhex("5c2e2f2f5e5c")
    ).digest()
    suite_id = b"HPKE" + bytes.fromhex("647a00010003")
    info = b"loadscape/1 batch\0" + signed.protected
    hashes = (
        _labeled(b"", b"psk_id_hash", b"", suite_id),
        _labeled(b"", b"info_hash", info, suite_id),
    )
    context = b"\0" + b"".join(hashes)
    secret = _labeled(shared, b"secret", b"", suite_id)
    key = _expanded(secret, b"key", context, 32, suite_id)
    nonce = _expanded(secret, b"base_nonce", context, 12, suite_id)
    padded = ChaCha20Poly1305(key).decrypt(nonce, signed.payload[1120:], None)
    assert padded == b"readings\x80" + bytes(128 - 9)


def test_another_cbor_reads_every_vector_of_the_document_and_writes_it_alike() -> None:
    told = dict(re.findall(r"^(\w+) = ([0-9a-f]+)$", DOCUMENT.read_text(), re.M))
    names = {"events", "rows", "log", "sealed", "sealed_p256", "sealed_hybrid", "receipt", "keyset"}
    assert names <= set(told)
    for name in names:
        data = bytes.fromhex(told[name])
        assert cbor2.dumps(cbor2.loads(data), canonical=True) == data
        assert cbor.encode(cbor.decode(data)) == data
