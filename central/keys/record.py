"""What is known of each epoch and receipt key: its public half, its times, what became of it.

One record a key, beside the private half and in every folder that needs to
know of the key; it holds nothing secret and stays when the private half is
destroyed. The keyset follows from the records: see `central.keys.root`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from central.durable import PUBLIC, write_file
from central.keys.place import KeyPlace, KeysError

DAY_S: Final = 86_400
AHEAD_S: Final = DAY_S
"""A key is valid this long before it is first used: a device's clock may lag behind."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What keys of one folder are for, and the times that hold for all of them."""

    name: str
    """Name of the folder, and of the keys on the command line."""
    used_by: str
    life_s: int
    """How long one is valid."""
    overlap_s: int
    """How long before its end the next one begins."""
    kept_s: int
    """How long after its end the private half is kept."""


EPOCH: Final = Purpose("epoch", "loader", 30 * DAY_S, 7 * DAY_S, 90 * DAY_S)
"""Devices seal to these. A device may keep a sealed batch for 90 days, so long it can be opened."""
RECEIPT: Final = Purpose("receipt", "collector", 90 * DAY_S, 14 * DAY_S, 0)
"""Receipts are signed with these; a receipt that is signed needs no private half any more."""
PURPOSES: Final = {purpose.name: purpose for purpose in (EPOCH, RECEIPT)}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The public half of a key; all times in UTC s."""

    kid: bytes
    algorithm: int
    """Suite of an epoch key (`wire.envelope`), COSE algorithm of a receipt key."""
    public: bytes
    not_before_utc_s: int
    not_after_utc_s: int
    revoked_utc_s: int | None = None
    destroyed_utc_s: int | None = None

    @property
    def usable(self) -> bool:
        """Neither revoked nor destroyed, whatever its time."""
        return self.revoked_utc_s is None and self.destroyed_utc_s is None


def destroy_at_utc_s(record: KeyRecord, purpose: Purpose) -> int:
    """When the private half is to be destroyed."""
    return record.not_after_utc_s + purpose.kept_s


def record_file(place: KeyPlace, purpose: Purpose, kid: bytes) -> Path:
    """Where the record of a key lies."""
    return place.directory / purpose.name / f"{kid.hex()}.json"


def private_file(place: KeyPlace, purpose: Purpose, kid: bytes) -> Path:
    """Where the private half of a key lies, in the folders that have it."""
    return place.directory / purpose.name / f"{kid.hex()}.key"


def read_records(place: KeyPlace, purpose: Purpose) -> list[KeyRecord]:
    """All records of a purpose, the oldest first; raises KeysError."""
    paths = (place.directory / purpose.name).glob("*.json")
    return sorted(map(_read, paths), key=lambda record: (record.not_before_utc_s, record.kid))


def find_record(place: KeyPlace, purpose: Purpose, kid: bytes) -> KeyRecord:
    """The record of that key; raises KeysError."""
    path = record_file(place, purpose, kid)
    if not path.exists():
        raise KeysError(
            f"{path}: no {purpose.name} key {kid.hex()} is known; see loadscape-central keys status"
        )
    return _read(path)


def write_record(place: KeyPlace, purpose: Purpose, record: KeyRecord) -> None:
    """Keep the record, durably."""
    fields = asdict(record) | {"kid": record.kid.hex(), "public": record.public.hex()}
    path = record_file(place, purpose, record.kid)
    write_file(path, (json.dumps(fields, indent=1) + "\n").encode(), PUBLIC)


def following_times(
    records: Sequence[KeyRecord], purpose: Purpose, now_utc_s: int
) -> tuple[int, int]:
    """(not before, not after) of the key that comes after `records`, in UTC s."""
    valid = [record.not_after_utc_s for record in records if record.usable]
    first = max([now_utc_s, *(end - purpose.overlap_s for end in valid)])
    return first - (AHEAD_S if first == now_utc_s else 0), first + purpose.life_s


def fingerprint(public: bytes) -> str:
    """What two people compare by eye: 8 bytes of SHA-256 over a public key, in groups of four."""
    digits = hashlib.sha256(public).hexdigest()[:16]
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


def day(utc_s: float) -> str:
    """The day of an instant in UTC, as people write it."""
    return datetime.fromtimestamp(utc_s, UTC).date().isoformat()


def _read(path: Path) -> KeyRecord:
    try:
        fields = json.loads(path.read_text())
        kid, public = bytes.fromhex(fields.pop("kid")), bytes.fromhex(fields.pop("public"))
        record = KeyRecord(kid=kid, public=public, **fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise KeysError(
            f"{path}: expected the record of a key, found something else ({error}); copy it again "
            "from where the key was made"
        ) from error
    if record.kid.hex() != path.stem:
        raise KeysError(f"{path}: holds the record of {record.kid.hex()}; give it that name")
    return record
