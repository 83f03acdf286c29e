"""`loadscape-central keys`: makes a tenant's keys, enrols and revokes devices."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_keys
from central.keys.authority import init_authority, rotate_epoch
from central.keys.device import DEVICE_CERTIFICATE_DAYS, issue_device, revoke_device
from central.keys.place import KeyPlace, KeysError, read_devices
from wire.clock import SharedClock
from wire.topics import TopicError


def add(parsers: Parsers) -> None:
    """Declare `keys` and what follows it."""
    keys = parsers.add_parser(
        "keys",
        help="make keys and certificates, enrol devices",
        description="Makes and keeps one tenant's keys. Run it on a machine off the network.",
    )
    verbs = keys.add_subparsers(title="what to do", required=True, metavar="ACTION")

    init = verbs.add_parser("init", help="make all keys of a new tenant")
    add_keys(init)
    init.add_argument("--tenant", required=True, metavar="T", help="name, a-z 0-9 and _")
    init.add_argument(
        "--broker-host",
        nargs="+",
        default=["localhost", "127.0.0.1"],
        metavar="H",
        help="names and addresses under which the broker is reached (default: this machine)",
    )
    _add_clock(init)
    init.set_defaults(action=_init)

    device = verbs.add_parser("device", help="enrol one device and write its bundle")
    add_keys(device)
    device.add_argument("--device", required=True, metavar="NAME", help="name, a-z 0-9 and _")
    device.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="new directory")
    device.add_argument(
        "--days",
        type=int,
        default=DEVICE_CERTIFICATE_DAYS,
        help=f"validity of its TLS certificate (default {DEVICE_CERTIFICATE_DAYS})",
    )
    device.set_defaults(action=_device)

    revoke = verbs.add_parser("revoke", help="refuse a device from now on")
    add_keys(revoke)
    revoke.add_argument("--device", required=True, metavar="NAME")
    revoke.set_defaults(action=_revoke)

    rotate = verbs.add_parser("rotate", help="let devices seal to a new epoch key")
    add_keys(rotate)
    _add_clock(rotate)
    rotate.set_defaults(action=_rotate)

    listing = verbs.add_parser("list", help="show the enrolled devices")
    add_keys(listing)
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(action=_list)


def _add_clock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clock-file", type=Path, metavar="FILE", help="shared clock of a demo or bench"
    )


def _now_utc_s(options: argparse.Namespace) -> float:
    return SharedClock(options.clock_file).now_utc_s() if options.clock_file else time.time()


def _init(options: argparse.Namespace) -> int:
    try:
        init_authority(
            options.dir,
            options.tenant,
            broker_hosts=options.broker_host,
            now_utc_s=_now_utc_s(options),
        )
    except (KeysError, TopicError) as error:
        raise CommandFailed(str(error)) from error
    print(f"keys of {options.tenant} are in {options.dir}; keep root/ and authority/ off the net")
    return 0


def _device(options: argparse.Namespace) -> int:
    try:
        bundle = issue_device(options.dir, options.device, options.out, days=options.days)
    except (KeysError, TopicError) as error:
        raise CommandFailed(str(error)) from error
    print(f"{options.device} is enrolled; its bundle is in {bundle.directory}, bring it there only")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    try:
        version = revoke_device(options.dir, options.device)
    except KeysError as error:
        raise CommandFailed(str(error)) from error
    print(
        f"{options.device} is refused, keyset version {version}; "
        "let the broker read its revocation list again (SIGHUP) and restart its connection"
    )
    return 0


def _rotate(options: argparse.Namespace) -> int:
    try:
        version = rotate_epoch(options.dir, now_utc_s=_now_utc_s(options))
    except KeysError as error:
        raise CommandFailed(str(error)) from error
    print(f"new epoch key, keyset version {version}")
    return 0


def _list(options: argparse.Namespace) -> int:
    try:
        devices = read_devices(KeyPlace(options.dir))
    except KeysError as error:
        raise CommandFailed(str(error)) from error
    if options.json:
        rows = [
            {"device": d.device, "cn": d.cn, "kid": d.kid.hex(), "active": d.active}
            for d in devices.values()
        ]
        print(json.dumps(rows))
        return 0
    for device in devices.values():
        print(f"{device.device:20} {device.kid.hex()}  {'active' if device.active else 'revoked'}")
    return 0
