"""`loadscape-central enrol`: devices make their own keys and get certificates by a token."""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import Config, EnrolPlace, load_config
from central.keys.place import KeyPlace, KeysError, read_devices
from wire.topics import TopicError

if TYPE_CHECKING:
    from central.enrol.ledger import EnrolmentLedger, TokenRow
    from central.enrol.registrar import Registrar

log = logging.getLogger("central.enrol")

SOMETHING_DUE: Final = 3
"""Exit code of `status` when a device is in quarantine."""
_DAY_S: Final = 86_400.0


def add(parsers: Parsers) -> None:
    """Declare `enrol` and what follows it."""
    enrol = parsers.add_parser(
        "enrol",
        help="let devices enrol by a token, renew, and look after those in quarantine",
        description="Certificates for devices that have made their own keys. docs/enrolment.md "
        "tells the whole way.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 (status) "
        "a device is in quarantine.",
    )
    verbs = enrol.add_subparsers(title="what to do", required=True, metavar="ACTION")
    _action(verbs, "serve", _serve, "answer devices until SIGTERM or Ctrl-C")
    token = _action(verbs, "token", _token, "print a token with which one device can enrol once")
    token.add_argument("device", metavar="DEVICE", help="its name, a-z 0-9 and _")
    token.add_argument(
        "--hours", type=int, default=24, help="how long it is good for (default 24, at most 168)"
    )
    cancel = _action(verbs, "cancel", _cancel, "let a token count no more")
    cancel.add_argument("device", metavar="DEVICE", help="whom it was made for")
    _action(verbs, "status", _status, "show tokens, renewals under way and quarantine")
    release = _action(verbs, "release", _release, "believe a device in quarantine again")
    release.add_argument("device", metavar="DEVICE", help="its name")
    revoke = _action(verbs, "revoke", _revoke, "refuse a device and end its connection")
    revoke.add_argument("device", metavar="DEVICE", help="a lost or stolen concentrator")


def _action(
    verbs: Parsers, name: str, work: Callable[[Config, argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    def run(options: argparse.Namespace) -> int:
        config = load_config(options.config)
        try:
            return work(config, options)
        except (KeysError, TopicError) as error:
            raise CommandFailed(str(error)) from error
        except sqlite3.Error as error:
            ledger = KeyPlace(config.keys_dir).enrol_ledger
            raise CommandFailed(f"{ledger}: {error}; restore it from a backup") from error

    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.set_defaults(action=run)
    return parser


@contextmanager
def _registrar(config: Config) -> Iterator[tuple[Registrar, EnrolmentLedger]]:
    from central.enrol.ledger import EnrolmentLedger
    from central.enrol.registrar import Registrar

    place = KeyPlace(config.keys_dir)
    ledger = EnrolmentLedger(place.enrol_ledger)
    try:
        yield Registrar(place, ledger, config.clock().now_utc_s), ledger
    finally:
        ledger.close()


def _enrol_of(config: Config) -> EnrolPlace:
    if config.enrol is None:
        raise CommandFailed(
            f'{config.source}: no section [enrol]; add one with names = ["…"], the names and '
            "addresses under which devices reach this server"
        )
    return config.enrol


# --- serve


def _serve(config: Config, options: argparse.Namespace) -> int:
    from central.enrol.server import EnrolmentServer, server_certificate, server_context
    from central.metrics import MetricSet
    from central.process import AlreadyRunning, claimed, metrics_shown, stop_on_signal

    enrol, place = _enrol_of(config), KeyPlace(config.keys_dir)
    clock, metrics, stop = config.clock(), MetricSet(), stop_on_signal()
    try:
        with claimed(config, "enrol"), _registrar(config) as (registrar, _):
            files = server_certificate(place, enrol.names, clock.now_utc_s())
            context = server_context(place, files)
            broker = (enrol.broker_host, enrol.broker_port)
            address = (enrol.host, enrol.port)
            with (
                EnrolmentServer(address, place, registrar, broker, context, metrics) as server,
                metrics_shown(config, "enrol", metrics, 0),
            ):
                thread = threading.Thread(target=server.serve_forever, daemon=True)
                thread.start()
                log.info("enrolment server on %s:%d", enrol.host, enrol.port)
                while not stop.wait(_DAY_S):
                    # New connections show what lies there now.
                    files = server_certificate(place, enrol.names, clock.now_utc_s())
                    context.load_cert_chain(*files)
                server.shutdown()
                thread.join()
    except AlreadyRunning as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        raise CommandFailed(
            f"{config.source}, [enrol] host, port: {enrol.host}:{enrol.port} cannot be used "
            f"({error}); choose another"
        ) from error
    return 0


# --- tokens


def _token(config: Config, options: argparse.Namespace) -> int:
    if not 1 <= options.hours <= 168:
        raise CommandFailed(f"--hours {options.hours}: expected 1 to 168")
    enrol = _enrol_of(config)
    with _registrar(config) as (registrar, _):
        token = registrar.make_token(
            options.device, f"{enrol.names[0]}:{enrol.port}", options.hours
        )
    if options.json:
        print(json.dumps({"device": options.device, "token": str(token), "hours": options.hours}))
        return 0
    print(
        f"{token}\n\nGood once, for {token.common_name}, for {options.hours} hours. On the device:"
    )
    print("loadscape-agent enrol --token-file -")
    return 0


def _cancel(config: Config, options: argparse.Namespace) -> int:
    with _registrar(config) as (_, ledger), ledger.transaction():
        there = ledger.cancel_token(options.device)
    if not there:
        raise CommandFailed(f"no token for {options.device!r}; see enrol status")
    print(json.dumps({"cancelled": options.device}) if options.json else "cancelled")
    return 0


# --- devices


def _status(config: Config, options: argparse.Namespace) -> int:
    now = config.clock().now_utc_s()
    with _registrar(config) as (_, ledger):
        tokens = [_token_fields(row, now) for row in ledger.tokens()]
    devices = read_devices(KeyPlace(config.keys_dir))
    renewing = sorted(name for name, device in devices.items() if device.renewed)
    quarantined = {name: one.quarantined for name, one in devices.items() if one.quarantined}
    fields = {"tokens": tokens, "renewing": renewing, "quarantined": quarantined}
    if options.json:
        print(json.dumps(fields, indent=1))
    else:
        for token in tokens:
            print(f"token       {token['device']:16} {token['state']} until {token['ends']}")
        for name in renewing:
            print(f"two keys    {name:16} the new one takes over with its first batch")
        for name, why in quarantined.items():
            print(f"quarantine  {name:16} {why}")
        active = sum(device.active for device in devices.values())
        print(f"{active} devices enrolled, {len(quarantined)} in quarantine")
    return SOMETHING_DUE if quarantined else 0


def _token_fields(row: TokenRow, now_utc_s: float) -> dict[str, Any]:
    state = "spent" if row.spent_by else "over" if now_utc_s > row.ends_utc_s else "open"
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.ends_utc_s))
    return {"device": row.device, "state": state, "ends": ends}


def _release(config: Config, options: argparse.Namespace) -> int:
    with _registrar(config) as (registrar, _):
        registrar.release(options.device)
    print(json.dumps({"released": options.device}) if options.json else "released")
    return 0


def _revoke(config: Config, options: argparse.Namespace) -> int:
    from central.enrol.dropping import NotDropped, drop_connection, reload_broker
    from central.keys.device import revoke_device

    enrol, place = _enrol_of(config), KeyPlace(config.keys_dir)
    version = revoke_device(config.keys_dir, options.device)
    with _registrar(config) as (registrar, _):
        registrar.revoke_certificates_of(options.device)
    name = read_devices(place)[options.device].cn
    try:
        if enrol.reload_broker:
            reload_broker(enrol.reload_broker)
        drop_connection(place, config.broker, name)
    except NotDropped as error:
        raise CommandFailed(f"{name} is revoked, but its connection may stand: {error}") from error
    fields = {"revoked": options.device, "keyset": version, "dropped": True}
    text = f"{name} is revoked; whatever connection stood under its name has ended"
    if not enrol.reload_broker:
        text += "; now let the broker read ca.crl (kill -HUP), or it may come back"
    print(json.dumps(fields) if options.json else text)
    return 0
