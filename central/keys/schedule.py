"""What is to be done with the keys and when: nobody remembers what is due in ninety days.

Follows from records, keyset and certificates of a key directory alone; it
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from central.keys.authority import read_certificate
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import (
    DAY_S,
    PURPOSES,
    KeyRecord,
    Purpose,
    destroy_at_utc_s,
    read_records,
)
from central.keys.root import waiting
from wire.keyset import Keyset

RENEW_BEFORE_S: Final = 30 * DAY_S
"""How long before its end a certificate of broker or collector is renewed."""
AUTHORITY_BEFORE_S: Final = 365 * DAY_S


@dataclass(frozen=True, slots=True)
class KeyState:
    """One epoch or receipt key and what it is good for now."""

    purpose: Purpose
    record: KeyRecord
    state: str


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done from `due_utc_s` on, and the command that does it."""

    due_utc_s: int
    what: str
    command: str


def key_states(place: KeyPlace, now_utc_s: float) -> list[KeyState]:
    """All epoch and receipt keys, the oldest first; raises KeysError."""
    keyset = read_keyset(place)
    return [
        KeyState(purpose, record, _state(record, keyset, now_utc_s))
        for purpose in PURPOSES.values()
        for record in read_records(place, purpose)
    ]


def tasks(place: KeyPlace) -> list[Task]:
    """All that is to be done, the next first; raises KeysError."""
    found = [*_at_the_root(place), *_certificates(place)]
    for purpose in PURPOSES.values():
        found += _keys(read_records(place, purpose), purpose)
    return sorted(found, key=lambda task: task.due_utc_s)


def renewal(part: str, path: Path) -> Task:
    """When to renew the certificate of broker or collector at `path`; raises KeysError."""
    due_utc_s = _ends_utc_s(path) - RENEW_BEFORE_S
    return Task(due_utc_s, f"renew the {part}'s certificate", f"keys renew {part}")


def authority_end(path: Path) -> Task:
    """When to be ready for the end of the authority's certificate at `path`; raises KeysError."""
    return Task(
        _ends_utc_s(path) - AUTHORITY_BEFORE_S,
        "make a new tenant and enrol all devices anew: the authority ends",
        "keys init",
    )


def _ends_utc_s(path: Path) -> int:
    return int(read_certificate(path).not_valid_after_utc.timestamp())


def _state(record: KeyRecord, keyset: Keyset, now_utc_s: float) -> str:
    named = {key.kid for key in keyset.epoch_keys} | {key.kid for key in keyset.receipt_keys}
    rules = (
        (record.destroyed_utc_s is not None, "destroyed"),
        (record.revoked_utc_s is not None, "revoked"),
        (record.kid not in named, "waits for the root"),
        (now_utc_s < record.not_before_utc_s, "prepared"),
        (now_utc_s < record.not_after_utc_s, "in use"),
    )
    return next((state for holds, state in rules if holds), "ended")


def _at_the_root(place: KeyPlace) -> Iterator[Task]:
    changes = len(waiting(place))
    if changes:
        yield Task(0, f"{changes} changes wait for the root's signature", "keys request")


def _keys(records: list[KeyRecord], purpose: Purpose) -> Iterator[Task]:
    alive = [record for record in records if record.destroyed_utc_s is None]
    usable = [record.not_after_utc_s for record in records if record.usable]
    yield Task(
        max(usable, default=0) - purpose.overlap_s,
        f"make the next {purpose.name} key and take it to the root",
        f"keys rotate {purpose.name}",
    )
    last = alive[-1:] if purpose.kept_s == 0 else []
    for record in alive:
        if record not in last:
            what = f"destroy the private half of {purpose.name} key {record.kid.hex()}"
            yield Task(destroy_at_utc_s(record, purpose), what, "keys destroy")


def _certificates(place: KeyPlace) -> Iterator[Task]:
    for part, path in (
        ("broker", place.broker_certificate),
        ("collector", place.collector_certificate),
    ):
        yield renewal(part, path)
    yield authority_end(place.authority_certificate)
