"""Envelope, receipts and keysets: who may say what, and that nothing else opens or counts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor, cose, receipt
from wire.envelope import (
    BLOCK,
    NO_PREV,
    BatchHeader,
    DeviceSigner,
    EnvelopeError,
    NotOpened,
    chain_hash,
    open_sealed,
    read_header,
    seal,
    verify,
)
from wire.keyset import EpochKey, Keyset, KeysetError, ReceiptKey, sign_keyset, verify_keyset
from wire.receipt import Nack, Receipt, ReceiptError, sign_receipt, verify_receipt

EPOCH = X25519PrivateKey.from_private_bytes(bytes(range(32)))
EPOCH_PRIVATE, EPOCH_PUBLIC = EPOCH.private_bytes_raw(), EPOCH.public_key().public_bytes_raw()
DEVICE, OTHER, ROOT, CENTRE = (DeviceSigner(bytes([i]) * 32) for i in (1, 2, 3, 4))
HEADER = BatchHeader(
    cose.ED25519, BLOCK, DEVICE.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV, b"epoch001", 1, 1
)
KEYSET = Keyset(
    3,
    "demo",
    (
        EpochKey(b"epoch001", 1, EPOCH_PUBLIC, 100, 200),
        EpochKey(b"epoch002", 1, bytes(32), 150, 300),
    ),
    (ReceiptKey(CENTRE.kid, CENTRE.public),),
    (),
)
RECEIPT = Receipt(
    "demo", "t07", b"stream01", 12, bytes(range(16)), 1_793_578_500, 99, 3,
    (Nack(13, receipt.GAP), Nack(14, receipt.UNREADABLE)),
)  # fmt: skip


def sealed(plaintext: bytes = b"readings", header: BatchHeader = HEADER) -> bytes:
    return seal(header, plaintext, epoch_public=EPOCH_PUBLIC, signer=DEVICE)


@settings(max_examples=60)
@given(st.binary(max_size=700))
def test_a_sealed_batch_opens_to_its_plaintext(plaintext: bytes) -> None:
    data = sealed(plaintext)
    assert open_sealed(data, EPOCH_PRIVATE) == plaintext
    assert verify(data, DEVICE.public) == read_header(data) == HEADER


def test_the_signing_key_matches_rfc_8032() -> None:
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    signer = DeviceSigner(bytes.fromhex(seed))
    assert signer.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signer.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
        "b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_the_size_tells_only_multiples_of_128_bytes() -> None:
    def ciphertext(count: int) -> int:
        return len(cose.read_sign1(sealed(bytes(count))).payload)

    assert {ciphertext(count) for count in range(128)} == {32 + 128 + 16}
    assert ciphertext(128) == 32 + 256 + 16


def test_two_seals_of_the_same_rows_share_no_ciphertext() -> None:
    one, two = (cose.read_sign1(sealed()) for _ in range(2))
    assert one.protected == two.protected
    assert one.payload[:48] != two.payload[:48]


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(draw: st.DataObject) -> None:
    data = bytearray(sealed())
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at >> 3] ^= 1 << (at & 7)
    with pytest.raises((EnvelopeError, cose.CoseError)):
        verify(bytes(data), DEVICE.public)


def test_a_batch_signed_again_by_another_device_does_not_open() -> None:
    signed = cose.read_sign1(sealed())
    fields = {label: value for label, value in signed.header.items() if label not in (1, 4)}
    stolen = cose.sign1(fields, signed.payload, OTHER)
    assert verify(stolen, OTHER.public).kid == OTHER.kid
    with pytest.raises(NotOpened):
        open_sealed(stolen, EPOCH_PRIVATE)


def test_another_tenants_key_does_not_open_a_batch() -> None:
    with pytest.raises(NotOpened):
        open_sealed(sealed(), bytes(range(1, 33)))


def test_the_algorithm_comes_from_the_registration_never_from_the_message() -> None:
    with pytest.raises(cose.SignatureWrong):
        verify(sealed(), DEVICE.public, cose.ESP256)


BATCH = -70001
OTHER_FIELDS = {
    "tenant": (1, "other"),
    "stream": (2, b"stream02"),
    "boot": (3, b"boot0002"),
    "seq": (4, 2),
    "prev": (5, bytes(15) + b"\1"),
    "epoch key id": (6, b"epoch009"),
    "suite": (7, 2),
    "schema": (8, 2),
    "hedge": (9, bytes(16)),
}


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_a_header_changed_in_any_field_and_signed_again_opens_nothing(name: str) -> None:
    signed = cose.read_sign1(sealed())
    at, value = OTHER_FIELDS[name]
    fields = signed.header[BATCH]
    assert isinstance(fields, list)
    changed = [*fields[:at], value, *fields[at + 1 :]]
    moved = cose.sign1({cose.CONTENT: BLOCK, BATCH: changed}, signed.payload, DEVICE)
    verify(moved, DEVICE.public)
    with pytest.raises(NotOpened):
        open_sealed(moved, EPOCH_PRIVATE)


def test_another_tenants_epoch_key_does_not_open() -> None:
    with pytest.raises(NotOpened):
        open_sealed(sealed(), bytes(range(1, 33)))


@pytest.mark.parametrize(
    "padded",
    [
        b"", bytes(128), b"x" * 128, b"x\x80" + bytes(127), b"x\x80" + bytes(254), b"x\x80",
        b"x\x80" + bytes(125) + b"\1", b"x" * 127 + b"\x80" + bytes(128),
    ],
    ids=range(8),
)  # fmt: skip
def test_any_other_padding_is_refused(padded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.envelope._padded", lambda plaintext: plaintext)
    data = sealed(padded)
    monkeypatch.undo()
    with pytest.raises(NotOpened, match="padding"):
        open_sealed(data, EPOCH_PRIVATE)


def test_a_key_id_is_the_beginning_of_the_cose_key_thumbprint() -> None:
    key = cbor.encode({1: 1, -1: 6, -2: DEVICE.public})
    assert DEVICE.kid == hashlib.sha256(key).digest()[:8]


def test_the_chain_hash_is_sha_256_cut_to_16_bytes() -> None:
    data = sealed()
    assert chain_hash(data) == hashlib.sha256(data).digest()[:16]


def test_a_receipt_counts_only_from_a_receipt_key_of_the_keyset() -> None:
    data = sign_receipt(RECEIPT, CENTRE)
    assert verify_receipt(data, KEYSET) == RECEIPT
    for keyset in (replace(KEYSET, revoked=(CENTRE.kid,)), replace(KEYSET, receipt_keys=())):
        with pytest.raises(ReceiptError):
            verify_receipt(data, keyset)
    with pytest.raises(ReceiptError):
        verify_receipt(sign_receipt(RECEIPT, DEVICE), KEYSET)
    with pytest.raises(ReceiptError):
        verify_receipt(sign_receipt(replace(RECEIPT, tenant="other"), CENTRE), KEYSET)


def test_a_keyset_counts_only_from_the_root_and_never_goes_back() -> None:
    data = sign_keyset(KEYSET, ROOT)
    assert verify_keyset(data, ROOT.public, tenant="demo", lowest_version=3) == KEYSET
    with pytest.raises(KeysetError):
        verify_keyset(data, ROOT.public, tenant="demo", lowest_version=4)
    with pytest.raises(KeysetError):
        verify_keyset(data, ROOT.public, tenant="other", lowest_version=1)
    with pytest.raises(cose.SignatureWrong):
        verify_keyset(data, OTHER.public, tenant="demo", lowest_version=1)


def test_a_receipt_cannot_pass_for_a_keyset() -> None:
    with pytest.raises(KeysetError):
        verify_keyset(sign_receipt(RECEIPT, ROOT), ROOT.public, tenant="demo", lowest_version=1)


def test_the_youngest_epoch_key_in_its_time_is_used() -> None:
    assert KEYSET.epoch_key(120).kid == b"epoch001"
    assert KEYSET.epoch_key(160).kid == b"epoch002"
    with pytest.raises(KeysetError):
        KEYSET.epoch_key(400)


def test_importing_the_wire_loads_no_cryptography() -> None:
    code = (
        "import sys, wire.block, wire.envelope, wire.receipt, wire.keyset; "
        "print('cryptography' in sys.modules, 'numpy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
