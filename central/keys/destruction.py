"""Destroys private halves of keys whose time is over, and says what is due when.

A destroyed epoch key is what keeps old traffic closed for ever, also to
whoever takes the centre's machines later. The file is overwritten, unlinked
and its folder synced; on flash and on copying file systems the old blocks may
live on all the same, so keys belong on an encrypted disk. Copies elsewhere
(backups) are not known here.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from central.durable import sync
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import (
    RECEIPT,
    KeyRecord,
    Purpose,
    destroy_at_utc_s,
    private_file,
    read_records,
    write_record,
)

log = logging.getLogger("central.keys")


def due(place: KeyPlace, purpose: Purpose, now_utc_s: float) -> list[KeyRecord]:
    """Keys that are to be destroyed by now and are not, the oldest first; raises KeysError.

    A receipt key is due only when a younger one signs: without any nothing can be acknowledged.
    """
    records = read_records(place, purpose)
    if purpose is RECEIPT and records:
        records = records[: _signing(place, records, now_utc_s)]
    return [
        record
        for record in records
        if record.destroyed_utc_s is None and destroy_at_utc_s(record, purpose) <= now_utc_s
    ]


def destroy(
    place: KeyPlace, purpose: Purpose, records: Sequence[KeyRecord], now_utc_s: float
) -> None:
    """Destroy the private halves, where they lie here, and record it; may be repeated.

    A key that is destroyed before its end is revoked with it: nobody may go on using it.
    """
    for record in records:
        private = private_file(place, purpose, record.kid)
        if private.exists():
            wipe(private)
        revoked_utc_s = record.revoked_utc_s
        if revoked_utc_s is None and now_utc_s < record.not_after_utc_s:
            revoked_utc_s = int(now_utc_s)
        done = replace(record, destroyed_utc_s=int(now_utc_s), revoked_utc_s=revoked_utc_s)
        write_record(place, purpose, done)
        log.warning("private half of %s key %s destroyed", purpose.name, record.kid.hex())


def _signing(place: KeyPlace, records: Sequence[KeyRecord], now_utc_s: float) -> int:
    """Which of the receipt keys is the youngest that devices know and whose time has come."""
    named = {key.kid for key in read_keyset(place).receipt_keys}
    begun = [
        number
        for number, record in enumerate(records)
        if record.kid in named and record.not_before_utc_s <= now_utc_s
    ]
    return max(begun, default=0)


def wipe(path: Path) -> None:
    """Overwrite a file, unlink it, sync its folder; raises OSError."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(max(1, os.fstat(file.fileno()).st_size)))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync(path.parent)
