"""Which keys a tenant uses: signed by its offline root, with a version that only rises.

Devices learn from it to whom they seal (epoch keys), whose receipts count
(receipt keys) and which keys are no longer trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire import cbor
from wire.cose import CONTENT, ED25519, Signer, read_sign1, sign1, verify_sign1
from wire.suites import SUITES

KEYSET_CONTENT: Final = 11
_VERSION: Final = 1
_KID_BYTES: Final = 8
_RECEIPT_PUBLIC_BYTES: Final = 32
_LARGEST: Final = (1 << 62) - 1
"""Of versions and instants: what SQLite and every other reader can hold."""


class KeysetError(ValueError):
    """Not a keyset that this device may take."""


@dataclass(frozen=True, slots=True)
class EpochKey:
    """A public key that batches are sealed to within its time, UTC s."""

    kid: bytes
    suite: int
    public: bytes
    not_before_utc_s: int
    not_after_utc_s: int


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """An Ed25519 public key that signs receipts."""

    kid: bytes
    public: bytes


@dataclass(frozen=True, slots=True)
class Keyset:
    """One version of a tenant's keys."""

    version: int
    tenant: str
    epoch_keys: tuple[EpochKey, ...]
    receipt_keys: tuple[ReceiptKey, ...]
    revoked: tuple[bytes, ...]

    def epoch_key(self, now_utc_s: float) -> EpochKey:
        """The youngest key of a suite known here whose time is now; raises KeysetError."""
        known = [k for k in self.epoch_keys if k.suite in SUITES and k.kid not in self.revoked]
        valid = [k for k in known if k.not_before_utc_s <= now_utc_s < k.not_after_utc_s]
        if not valid:
            raise KeysetError(
                f"keyset {self.version} of {self.tenant} has no epoch key for {now_utc_s:.0f} "
                f"of a suite known here ({', '.join(map(str, SUITES))}); publish a newer keyset "
                "(loadscape-central keys rotate), set the clock right, or update"
            )
        return max(valid, key=lambda k: k.not_before_utc_s)

    def receipt_key(self, kid: bytes) -> ReceiptKey | None:
        """The receipt key of that id, None if it is unknown or revoked."""
        if kid in self.revoked:
            return None
        return next((key for key in self.receipt_keys if key.kid == kid), None)


def sign_keyset(keyset: Keyset, root: Signer) -> bytes:
    """The keyset as a COSE_Sign1 of the root key."""
    return sign1({CONTENT: KEYSET_CONTENT}, encode_keyset(keyset), root)


def verify_keyset(data: bytes, root_public: bytes, *, tenant: str, lowest_version: int) -> Keyset:
    """The keyset in `data`; raises KeysetError unless root, tenant and version fit.

    A version below `lowest_version` is refused: it would bring back keys that
    were taken out of use. Raises CoseError or SignatureWrong as well.
    """
    signed = read_sign1(data)
    verify_sign1(signed, root_public, ED25519)
    if signed.content != KEYSET_CONTENT:
        raise KeysetError(f"content {signed.content}, expected a keyset ({KEYSET_CONTENT})")
    keyset = decode_keyset(signed.payload)
    if keyset.tenant != tenant:
        raise KeysetError(f"keyset of tenant {keyset.tenant!r}, expected {tenant!r}")
    if keyset.version < lowest_version:
        raise KeysetError(
            f"keyset version {keyset.version} is older than {lowest_version}, which is known "
            "already; it is refused"
        )
    return keyset


def encode_keyset(keyset: Keyset) -> bytes:
    """The payload that is signed."""
    return cbor.encode(
        [
            _VERSION,
            keyset.version,
            keyset.tenant,
            [
                [key.kid, key.suite, key.public, key.not_before_utc_s, key.not_after_utc_s]
                for key in keyset.epoch_keys
            ],
            [[key.kid, key.public] for key in keyset.receipt_keys],
            list(keyset.revoked),
        ]
    )


def decode_keyset(payload: bytes) -> Keyset:
    """The keyset that `encode_keyset` wrote, not verified; raises KeysetError."""
    try:
        value = cbor.decode(payload)
    except cbor.CborError as error:
        raise KeysetError(f"the keyset is not deterministic CBOR: {error}") from error
    match value:
        case [int(form), int(version), str(tenant), [*epochs], [*receipts], [*revoked]]:
            pass
        case _:
            raise KeysetError("expected form, version, tenant, epoch keys, receipt keys, revoked")
    if form != _VERSION:
        raise KeysetError(f"keyset form {form}, this program reads {_VERSION}")
    if not 0 <= version <= _LARGEST:
        raise KeysetError(f"keyset version {version}, expected 0 to {_LARGEST}")
    kids = [kid for kid in revoked if isinstance(kid, bytes) and len(kid) == _KID_BYTES]
    if len(kids) != len(revoked):
        raise KeysetError(f"revoked: expected key ids of {_KID_BYTES} bytes")
    return Keyset(
        version,
        tenant,
        tuple(map(_epoch_key, epochs)),
        tuple(map(_receipt_key, receipts)),
        tuple(kids),
    )


def _epoch_key(value: cbor.Value) -> EpochKey:
    match value:
        case [bytes(kid), int(suite), bytes(public), int(not_before), int(not_after)]:
            pass
        case _:
            raise KeysetError("epoch key: expected kid, suite, public, not before, not after")
    if len(kid) != _KID_BYTES or not 0 <= not_before < not_after <= _LARGEST:
        raise KeysetError(
            f"epoch key {kid.hex()} from {not_before} to {not_after}: expected an id of "
            f"{_KID_BYTES} bytes and a span of time"
        )
    known = SUITES.get(suite)
    if known is not None and len(public) != known.public_bytes:
        raise KeysetError(
            f"epoch key {kid.hex()} of suite {suite}: {len(public)} bytes, expected "
            f"{known.public_bytes}"
        )
    return EpochKey(kid, suite, public, not_before, not_after)


def _receipt_key(value: cbor.Value) -> ReceiptKey:
    match value:
        case [bytes(kid), bytes(public)] if (len(kid), len(public)) == (
            _KID_BYTES,
            _RECEIPT_PUBLIC_BYTES,
        ):
            return ReceiptKey(kid, public)
    raise KeysetError("receipt key: expected an id of 8 bytes and a public key of 32")
