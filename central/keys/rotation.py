"""Makes epoch and receipt keys, ahead of time or at once, and takes them out of use.

A new key counts for nobody until the root has signed a keyset that names it
(`central.keys.root`). Revoking makes the successor in the same step, so that
no device is left without a key to seal to.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from central.durable import write_file
from central.keys.place import ED25519_ALG, KeyPlace, KeysError, hex_line
from central.keys.record import (
    EPOCH,
    RECEIPT,
    KeyRecord,
    Purpose,
    find_record,
    following_times,
    private_file,
    read_records,
    write_record,
)
from wire import suites
from wire.envelope import DeviceSigner

_KID_BYTES = 8


def add_key(
    place: KeyPlace,
    purpose: Purpose,
    now_utc_s: float,
    *,
    suite: int | None = None,
    at_once: bool = False,
) -> KeyRecord:
    """Make the key after the last one, or one for now; raises KeysError.

    An epoch key has the suite of the one before it unless `suite` is given.
    """
    records = read_records(place, purpose)
    now_s = int(now_utc_s)
    begins_s, ends_s = following_times([] if at_once else records, purpose, now_s)
    if at_once:
        # The youngest key counts: younger than any that is in use.
        begun = [r.not_before_utc_s for r in records if r.not_before_utc_s <= now_s]
        begins_s = max([begins_s, *(start + 1 for start in begun)])
    algorithm = _algorithm(purpose, records[-1] if records else None, suite)
    private = secrets.token_bytes(suites.PRIVATE_BYTES)
    kid, public = _kid_and_public(algorithm, private)
    directory = place.directory / purpose.name
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(private_file(place, purpose, kid), hex_line(private))
    record = KeyRecord(kid, algorithm, public, begins_s, ends_s)
    write_record(place, purpose, record)
    return record


def revoke_key(place: KeyPlace, purpose: Purpose, kid: bytes, now_utc_s: float) -> KeyRecord | None:
    """Take a key out of use before its end; raises KeysError.

    Returns the key that was made because no other is in use now, if any. The
    private half of an epoch key stays for what is sealed to it already.
    """
    record = find_record(place, purpose, kid)
    if record.revoked_utc_s is not None:
        raise KeysError(f"{purpose.name} key {kid.hex()} is revoked already")
    write_record(place, purpose, replace(record, revoked_utc_s=int(now_utc_s)))
    if any(_in_use(other, now_utc_s) for other in read_records(place, purpose)):
        return None
    return add_key(place, purpose, now_utc_s, suite=_suite_of(purpose, record), at_once=True)


def _in_use(record: KeyRecord, now_utc_s: float) -> bool:
    return record.usable and record.not_before_utc_s <= now_utc_s < record.not_after_utc_s


def _suite_of(purpose: Purpose, record: KeyRecord) -> int | None:
    return record.algorithm if purpose is EPOCH else None


def _algorithm(purpose: Purpose, last: KeyRecord | None, suite: int | None) -> int:
    if purpose is RECEIPT:
        return ED25519_ALG
    return suite or (last.algorithm if last is not None else suites.X25519)


def _kid_and_public(algorithm: int, private: bytes) -> tuple[bytes, bytes]:
    if algorithm == ED25519_ALG:
        signer = DeviceSigner(private)
        return signer.kid, signer.public
    try:
        return secrets.token_bytes(_KID_BYTES), suites.suite(algorithm).public_of(private)
    except suites.UnknownSuite as error:
        raise KeysError(f"cannot make an epoch key: {error}; choose one of those") from error
