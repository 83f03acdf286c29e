"""`keys init`, `device`, `list`, `revoke`: a tenant begins, devices come and go."""

from __future__ import annotations

import argparse
from pathlib import Path

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
from central.keys.authority import init_authority
from central.keys.device import DEVICE_CERTIFICATE_DAYS, issue_device, revoke_device
from central.keys.place import KeysError, read_devices
from central.keys.record import PURPOSES, Purpose, find_record
from central.keys.root import settle
from central.keys.rotation import revoke_key
from wire.suites import SUITES, X25519


def add(verbs: Parsers) -> None:
    """Declare the actions."""
    init = action(verbs, "init", _init, "make all keys of a new tenant")
    add_dir(init, root=True)
    init.add_argument("--tenant", required=True, metavar="T", help="name, a-z 0-9 and _")
    init.add_argument(
        "--broker-host",
        nargs="+",
        default=["localhost", "127.0.0.1"],
        metavar="H",
        help="names and addresses under which the broker is reached (default: this machine)",
    )
    add_suite(init, f"default {X25519}")
    add_clock(init)

    device = action(verbs, "device", _device, "enrol one device and write its bundle")
    add_dir(device)
    device.add_argument("--device", required=True, metavar="NAME", help="name, a-z 0-9 and _")
    device.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="new directory")
    device.add_argument(
        "--days",
        type=int,
        default=DEVICE_CERTIFICATE_DAYS,
        help=f"validity of its TLS certificate (default {DEVICE_CERTIFICATE_DAYS})",
    )

    add_dir(action(verbs, "list", _list, "show the enrolled devices"))

    revoke = action(verbs, "revoke", _revoke, "refuse a device or a key from now on")
    add_dir(revoke, root=True)
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--device", metavar="NAME", help="a lost or stolen concentrator")
    which.add_argument("--epoch", nargs="+", metavar="KID", help="epoch keys in wrong hands")
    which.add_argument("--receipt", nargs="+", metavar="KID", help="receipt keys in wrong hands")
    add_clock(revoke)


def add_suite(parser: argparse.ArgumentParser, default: str) -> None:
    """`--suite`, by number."""
    names = ", ".join(f"{number} {suite.name}" for number, suite in SUITES.items())
    parser.add_argument(
        "--suite", type=int, choices=sorted(SUITES),
        help=f"suite of the epoch key: {names} ({default})",
    )  # fmt: skip


def parse_kid(text: str) -> bytes:
    """A key id as `keys status` shows it; raises KeysError."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise KeysError(f"{text!r} is no key id; copy it from keys status") from error


def _init(options: argparse.Namespace) -> int:
    place = init_authority(
        options.dir,
        options.tenant,
        broker_hosts=options.broker_host,
        now_utc_s=now_utc_s(options),
        root=options.root,
        suite=options.suite or X25519,
    )
    fields = {"tenant": options.tenant, "dir": str(options.dir), "root": str(place.root_dir)}
    return answer(
        options, fields,
        f"keys of {options.tenant} are in {options.dir}; keep {place.root_dir} and "
        f"{place.authority_key.parent} off the net",
    )  # fmt: skip


def _device(options: argparse.Namespace) -> int:
    bundle = issue_device(options.dir, options.device, options.out, days=options.days)
    fields = {"device": options.device, "bundle": str(bundle.directory)}
    text = f"{options.device} is enrolled; its bundle is in {bundle.directory}, bring it there only"
    return answer(options, fields, text)


def _list(options: argparse.Namespace) -> int:
    devices = read_devices(place_of(options)).values()
    lines = [f"{d.device:20} {d.kid.hex()}  {'active' if d.active else 'revoked'}" for d in devices]
    if options.json:
        import json

        rows = [
            {"device": d.device, "cn": d.cn, "kid": d.kid.hex(), "active": d.active}
            for d in devices
        ]
        print(json.dumps(rows))
    elif lines:
        print("\n".join(lines))
    return 0


def _revoke(options: argparse.Namespace) -> int:
    if options.device is not None:
        version = revoke_device(options.dir, options.device, root=options.root)
        return answer(
            options, {"device": options.device, "keyset": version},
            f"{options.device} is refused, {signed_or_waiting(options, version)}; let the broker "
            "read its revocation list again (SIGHUP) and restart its connection",
        )  # fmt: skip
    return _revoke_keys(options, PURPOSES["epoch" if options.epoch else "receipt"])


def _revoke_keys(options: argparse.Namespace, purpose: Purpose) -> int:
    place, now_s = place_of(options), now_utc_s(options)
    kids = [
        find_record(place, purpose, parse_kid(text)).kid for text in getattr(options, purpose.name)
    ]
    made = [new.kid.hex() for kid in kids if (new := revoke_key(place, purpose, kid, now_s))]
    version = settle(place)
    refused = [kid.hex() for kid in kids]
    new_ones = f", {', '.join(made)} made in their place" if made else ""
    return answer(
        options, {"kids": refused, "made": made, "keyset": version},
        f"{purpose.name} keys {', '.join(refused)} are refused{new_ones}; "
        f"{signed_or_waiting(options, version)}; hand out anew to the {purpose.used_by}",
    )  # fmt: skip
