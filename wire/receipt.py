"""Central's word that it holds a device's batches: the only thing that lets an agent delete.

A receipt is cumulative: it covers all of a stream up to `upto` and names the
hash of that batch, so it cannot be mistaken for another history of the same
numbers. It is signed only after the durable commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire import cbor
from wire.cose import CONTENT, ED25519, Signer, read_sign1, sign1, verify_sign1
from wire.envelope import LARGEST_SEQ
from wire.keyset import Keyset

RECEIPT_CONTENT: Final = 10
_VERSION: Final = 1

FORK: Final = "fork"
"""The batch does not follow the one that central holds: another history."""
GAP: Final = "gap"
"""A batch before this one has not arrived."""
EPOCH_GONE: Final = "epoch_gone"
"""The key that the batch is sealed to has been destroyed."""
UNREADABLE: Final = "unreadable"
"""The batch does not open or decode."""
REASONS: Final = (FORK, GAP, EPOCH_GONE, UNREADABLE)


class ReceiptError(ValueError):
    """Not a receipt that counts."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A batch that central asks for again or refuses, and why."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What central holds of one stream; `upto` 0 with 16 zero bytes means nothing yet."""

    tenant: str
    device: str
    stream: bytes
    upto: int
    hash_at_upto: bytes
    committed_at_utc_s: int
    lsn: int
    keyset_version: int
    nacks: tuple[Nack, ...] = ()


def sign_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """The receipt as a COSE_Sign1 of the receipt key."""
    return sign1({CONTENT: RECEIPT_CONTENT}, encode_receipt(receipt), signer)


def verify_receipt(data: bytes, keyset: Keyset) -> Receipt:
    """The receipt in `data`; raises ReceiptError, CoseError or SignatureWrong."""
    signed = read_sign1(data)
    key = keyset.receipt_key(signed.kid)
    if key is None:
        raise ReceiptError(
            f"signed by {signed.kid.hex()}, which keyset {keyset.version} does not name as a "
            "receipt key"
        )
    verify_sign1(signed, key.public, ED25519)
    if signed.content != RECEIPT_CONTENT:
        raise ReceiptError(f"content {signed.content}, expected a receipt ({RECEIPT_CONTENT})")
    receipt = decode_receipt(signed.payload)
    if receipt.tenant != keyset.tenant:
        raise ReceiptError(f"receipt of tenant {receipt.tenant!r}, expected {keyset.tenant!r}")
    return receipt


def encode_receipt(receipt: Receipt) -> bytes:
    """The payload that is signed."""
    return cbor.encode(
        [
            _VERSION,
            receipt.tenant,
            receipt.device,
            receipt.stream,
            receipt.upto,
            receipt.hash_at_upto,
            receipt.committed_at_utc_s,
            receipt.lsn,
            receipt.keyset_version,
            [[nack.seq, nack.reason] for nack in receipt.nacks],
        ]
    )


def decode_receipt(payload: bytes) -> Receipt:
    """The receipt that `encode_receipt` wrote, not verified; raises ReceiptError."""
    try:
        value = cbor.decode(payload)
    except cbor.CborError as error:
        raise ReceiptError(f"the receipt is not deterministic CBOR: {error}") from error
    match value:
        case [
            int(version),
            str(tenant),
            str(device),
            bytes(stream),
            int(upto),
            bytes(hash_at_upto),
            int(committed_at),
            int(lsn),
            int(keyset_version),
            [*nacks],
        ]:
            pass
        case _:
            raise ReceiptError("not the ten fields of a receipt")
    if version != _VERSION:
        raise ReceiptError(f"receipt version {version}, this program reads {_VERSION}")
    if len(stream) != 8 or len(hash_at_upto) != 16:
        raise ReceiptError("expected a stream of 8 bytes and a hash of 16")
    numbers = (upto, committed_at, lsn, keyset_version)
    if not all(0 <= number <= LARGEST_SEQ for number in numbers):
        raise ReceiptError(
            f"upto, committed at, lsn, keyset version {numbers}: expected 0 to {LARGEST_SEQ}"
        )
    return Receipt(
        tenant,
        device,
        stream,
        upto,
        hash_at_upto,
        committed_at,
        lsn,
        keyset_version,
        tuple(map(_nack, nacks)),
    )


def _nack(value: cbor.Value) -> Nack:
    match value:
        case [int(seq), str(reason)] if 1 <= seq <= LARGEST_SEQ and reason in REASONS:
            return Nack(seq, reason)
    raise ReceiptError(
        f"nack {value!r:.80}: expected a number from 1 and one of {', '.join(REASONS)}"
    )
