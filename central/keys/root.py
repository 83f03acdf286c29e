"""The tenant's root: what it signs, and the way there and back where it is offline.

A keyset is never written by hand: it follows from the records of a key
directory (`wanted_keyset`). Where the root lies at hand it signs at once
(`settle`); elsewhere a request goes to it as a file, and the signed keyset
comes back as a file: `make_request`, `read_request` and `sign_asked`, `take_keyset`. The root
remembers what it signed last and signs no version twice, and it never lets a
revoked key come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from central.durable import PUBLIC, write_file
from central.keys.place import KeyPlace, KeysError, read_devices, read_hex, read_keyset
from central.keys.record import EPOCH, RECEIPT, KeyRecord, day, fingerprint, read_records
from wire.cose import CoseError
from wire.envelope import DeviceSigner
from wire.keyset import (
    EpochKey,
    Keyset,
    KeysetError,
    ReceiptKey,
    decode_keyset,
    encode_keyset,
    sign_keyset,
    verify_keyset,
)

_FORM: Final = "loadscape keyset request 1"
_REVOKES: Final = "revokes a key"
_COMES_BACK: Final = "lets a revoked key come back"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a keyset differs from the one before it."""

    what: str
    kid: bytes
    pressing: bool
    """Whether it is worth a new keyset; that a destroyed key is left out is not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the root may sign, once a person has looked at the differences."""

    keyset: Keyset
    differences: tuple[Difference, ...]


def wanted_keyset(place: KeyPlace) -> Keyset:
    """The version after the present one, as records and devices ask for it; raises KeysError.

    A key stays in the keyset until its private half is destroyed.
    """
    present = read_keyset(place)
    epochs, receipts = read_records(place, EPOCH), read_records(place, RECEIPT)
    revoked = {device.kid for device in read_devices(place).values() if not device.active}
    revoked |= {record.kid for record in (*epochs, *receipts) if record.revoked_utc_s is not None}
    revoked |= set(present.revoked)
    out = revoked | {r.kid for r in (*epochs, *receipts) if r.destroyed_utc_s is not None}
    epoch_keys = {key.kid: key for key in (*present.epoch_keys, *map(_epoch_key, epochs))}
    receipt_keys = {key.kid: key for key in (*present.receipt_keys, *map(_receipt_key, receipts))}
    return Keyset(
        version=present.version + 1,
        tenant=present.tenant,
        epoch_keys=tuple(key for kid, key in epoch_keys.items() if kid not in out),
        receipt_keys=tuple(key for kid, key in receipt_keys.items() if kid not in out),
        revoked=tuple(sorted(revoked)),
    )


def differences(before: Keyset, after: Keyset) -> tuple[Difference, ...]:
    """What is in one keyset and not in the other."""
    old, new = _shown(before), _shown(after)
    return (
        *(Difference(f"new {new[kid]}", kid, True) for kid in new if kid not in old),
        *(Difference(f"changed {new[k]}", k, True) for k in new if old.get(k, new[k]) != new[k]),
        *(Difference(f"leaves out {old[kid]}", kid, False) for kid in old if kid not in new),
        *(Difference(_REVOKES, k, True) for k in after.revoked if k not in before.revoked),
        *(Difference(_COMES_BACK, k, True) for k in before.revoked if k not in after.revoked),
    )


def waiting(place: KeyPlace) -> tuple[Difference, ...]:
    """What is wanted and not signed yet; empty when nothing presses. Raises KeysError."""
    found = differences(read_keyset(place), wanted_keyset(place))
    return found if any(difference.pressing for difference in found) else ()


def settle(place: KeyPlace) -> int | None:
    """Sign what waits if the root lies at hand.

    Returns the version that is in force with all that is wanted, None if it
    waits for the root. Raises KeysError.
    """
    if not waiting(place):
        return read_keyset(place).version
    if not place.root_seed.exists():
        return None
    asked = read_request(place.root_dir, make_request(place))
    return take_keyset(place, sign_asked(place.root_dir, asked))


def make_request(place: KeyPlace) -> bytes:
    """What the root is asked to sign, and the signed keyset that it follows; raises KeysError."""
    wanted, present = encode_keyset(wanted_keyset(place)), place.keyset.read_bytes()
    return f"{_FORM}\n{wanted.hex()}\n{present.hex()}\n".encode()


def read_request(root_dir: Path, request: bytes) -> Asked:
    """What is asked of the root in `root_dir`; raises KeysError if it must not sign that."""
    root = _root(root_dir)
    keyset, follows = _parsed(request, root)
    last_file = KeyPlace(root_dir).keyset
    if last_file.exists():
        last = _verified(last_file, last_file.read_bytes(), root, keyset.tenant)
        if last.version > follows.version and last != keyset:
            raise KeysError(
                f"{root_dir}: this root has signed version {last.version} already, the request "
                f"follows version {follows.version}; take {last_file} to the key directory "
                "(keys take) and make the request anew"
            )
    found = differences(follows, keyset)
    _refuse(keyset, found)
    return Asked(keyset, found)


def sign_asked(root_dir: Path, asked: Asked) -> bytes:
    """The signed keyset; the root remembers it."""
    data = sign_keyset(asked.keyset, _root(root_dir))
    write_file(KeyPlace(root_dir).keyset, data, PUBLIC)
    return data


def take_keyset(place: KeyPlace, data: bytes) -> int:
    """Put a signed keyset into force; returns its version. Raises KeysError, changing nothing."""
    present = read_keyset(place)
    public = read_hex(place.root_public, 32)
    try:
        taken = verify_keyset(data, public, tenant=present.tenant, lowest_version=present.version)
    except (CoseError, KeysetError) as error:
        raise KeysError(
            f"not a keyset that {place.directory} can take: {error}; bring the file that "
            "keys sign wrote last"
        ) from error
    if taken.version == present.version and data != place.keyset.read_bytes():
        raise KeysError(
            f"{place.keyset}: another keyset of version {present.version} is in force; two of one "
            "version mean that two copies of the root are in use: find out which, keep one"
        )
    write_file(place.keyset, data, PUBLIC)
    return taken.version


def _refuse(keyset: Keyset, found: Iterable[Difference]) -> None:
    back = [difference.kid.hex() for difference in found if difference.what == _COMES_BACK]
    if back:
        raise KeysError(
            f"the request lets revoked keys come back ({', '.join(back)}); it comes from an old "
            "copy of the key directory: take the newest keyset there (keys take) and ask anew"
        )
    if not keyset.epoch_keys or not keyset.receipt_keys:
        raise KeysError(
            "the request leaves no epoch key or no receipt key; make one first (keys rotate)"
        )


def _root(root_dir: Path) -> DeviceSigner:
    return DeviceSigner(read_hex(KeyPlace(root_dir, root_dir).root_seed, 32))


def _parsed(request: bytes, root: DeviceSigner) -> tuple[Keyset, Keyset]:
    """What is asked for, and the keyset that it follows."""
    try:
        form, wanted, present = request.decode("ascii").splitlines()
        if form != _FORM:
            raise ValueError(f"first line {form!r}, expected {_FORM!r}")
        keyset, follows = decode_keyset(bytes.fromhex(wanted)), bytes.fromhex(present)
    except ValueError as error:
        raise KeysError(f"not a request that keys request wrote: {error}; make it anew") from error
    before = _verified("the request", follows, root, keyset.tenant)
    if keyset.version != before.version + 1:
        raise KeysError(
            f"the request asks for version {keyset.version} after {before.version}; make it anew"
        )
    return keyset, before


def _verified(where: object, data: bytes, root: DeviceSigner, tenant: str) -> Keyset:
    try:
        return verify_keyset(data, root.public, tenant=tenant, lowest_version=0)
    except (CoseError, KeysetError) as error:
        raise KeysError(
            f"{where}: holds a keyset that this root did not sign for {tenant!r}: {error}; use the "
            "tenant's own root"
        ) from error


def _epoch_key(record: KeyRecord) -> EpochKey:
    times = record.not_before_utc_s, record.not_after_utc_s
    return EpochKey(record.kid, record.algorithm, record.public, *times)


def _receipt_key(record: KeyRecord) -> ReceiptKey:
    return ReceiptKey(record.kid, record.public)


def _shown(keyset: Keyset) -> dict[bytes, str]:
    """Each key as the person at the root compares it."""
    shown = {key.kid: f"receipt key {fingerprint(key.public)}" for key in keyset.receipt_keys}
    for key in keyset.epoch_keys:
        first, last = map(day, (key.not_before_utc_s, key.not_after_utc_s))
        shown[key.kid] = (
            f"epoch key {fingerprint(key.public)}, suite {key.suite}, {first} to {last}"
        )
    return shown
