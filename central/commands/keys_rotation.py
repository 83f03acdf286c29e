"""`keys rotate`, `renew`, `destroy`: new keys come, old ones go."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from central.commands.keys_devices import add_suite, parse_kid
from central.commands.keys_options import (
    action,
    add_clock,
    add_dir,
    answer,
    now_utc_s,
    place_of,
    signed_or_waiting,
)
from central.commands.options import Parsers
from central.keys.authority import renew_certificate
from central.keys.destruction import destroy, due
from central.keys.place import KeyPlace, KeysError
from central.keys.record import (
    EPOCH,
    PURPOSES,
    KeyRecord,
    Purpose,
    day,
    find_record,
    fingerprint,
)
from central.keys.root import settle
from central.keys.rotation import add_key, revoke_key

MOST_AHEAD = 24
"""Keys that are made in one go."""


def add(verbs: Parsers) -> None:
    """Declare the actions."""
    rotate = action(verbs, "rotate", _rotate, "make the next epoch or receipt key")
    add_dir(rotate, root=True)
    rotate.add_argument(
        "purpose", nargs="?", choices=sorted(PURPOSES), default=EPOCH.name, help="default epoch"
    )
    rotate.add_argument(
        "--count", type=int, default=1, metavar="N",
        help=f"make so many that follow each other (1 to {MOST_AHEAD}), so that the root is "
        "needed the less often",
    )  # fmt: skip
    rotate.add_argument("--at-once", action="store_true", help="the new key is used from now on")
    add_suite(rotate, "default: that of the key before")
    add_clock(rotate)

    renew = action(verbs, "renew", _renew, "give broker or collector a new key and certificate")
    add_dir(renew)
    renew.add_argument("part", choices=("broker", "collector"), help="whose certificate")
    renew.add_argument("--revoke", action="store_true", help="refuse the old one: it was stolen")

    wipe = action(
        verbs, "destroy", _destroy, "destroy the private halves of keys whose day has come"
    )
    add_dir(wipe, root=True)
    which = wipe.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="only say which")
    which.add_argument(
        "--lost", metavar="KID",
        help="this epoch key instead, before its day or because it is lost: what is sealed to it "
        "is closed for ever, devices are asked to seal it anew",
    )  # fmt: skip
    add_clock(wipe)


def _rotate(options: argparse.Namespace) -> int:
    purpose, place = PURPOSES[options.purpose], place_of(options)
    if not 1 <= options.count <= MOST_AHEAD:
        raise KeysError(f"--count {options.count}: expected 1 to {MOST_AHEAD}")
    if options.count > 1 and options.at_once:
        raise KeysError("--at-once makes one key; leave --count away")
    now_s = now_utc_s(options)
    made = [
        add_key(place, purpose, now_s, suite=options.suite, at_once=options.at_once)
        for _ in range(options.count)
    ]
    version = settle(place)
    lines = [
        f"new {purpose.name} key {record.kid.hex()}, {fingerprint(record.public)}, "
        f"{day(record.not_before_utc_s)} to {day(record.not_after_utc_s)}"
        for record in made
    ]
    fields = {"kids": [record.kid.hex() for record in made], "keyset": version}
    return answer(options, fields, "\n".join([*lines, signed_or_waiting(options, version)]))


def _renew(options: argparse.Namespace) -> int:
    ends = renew_certificate(place_of(options), options.part, revoke=options.revoke)
    fields = {"part": options.part, "not_after": ends.isoformat(), "revoked": options.revoke}
    return answer(
        options, fields,
        f"the {options.part} has a new certificate until {ends.date()}; hand it out "
        f"(keys hand-out {options.part}) and restart the {options.part}",
    )  # fmt: skip


def _destroy(options: argparse.Namespace) -> int:
    place, now_s = place_of(options), now_utc_s(options)
    chosen: list[tuple[Purpose, KeyRecord]] = (
        [(EPOCH, _given_up(place, parse_kid(options.lost), now_s))]
        if options.lost
        else [(p, record) for p in PURPOSES.values() for record in due(place, p, now_s)]
    )
    if not options.list:
        for purpose, record in chosen:
            destroy(place, purpose, [record], now_s)
    return _destroyed(options, place, chosen)


def _given_up(place: KeyPlace, kid: bytes, now_s: float) -> KeyRecord:
    """The key, revoked where keysets are asked for, so that devices have another to seal to."""
    record = find_record(place, EPOCH, kid)
    if place.keyset.exists() and record.revoked_utc_s is None:
        revoke_key(place, EPOCH, kid, now_s)
    return find_record(place, EPOCH, kid)


def _destroyed(
    options: argparse.Namespace, place: KeyPlace, chosen: Sequence[tuple[Purpose, KeyRecord]]
) -> int:
    verb = "due to be destroyed" if options.list else "destroyed"
    # A loader's folder has no keyset; what it destroys is told at the office too.
    version = settle(place) if place.keyset.exists() and not options.list else None
    fields = {"kids": [record.kid.hex() for _, record in chosen], "keyset": version}
    lines = [
        f"{purpose.name} key {record.kid.hex()}, valid until {day(record.not_after_utc_s)}: {verb}"
        for purpose, record in chosen
    ]
    return answer(options, fields, "\n".join(lines) or "nothing is due")
