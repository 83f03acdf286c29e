"""Makes a new tenant's keys: root, authority, first epoch and receipt key, certificates.

Meant for a machine that is not on the network. All lie in one key directory,
the root's where one says; what the centre's machines need of it is handed out
(`central.keys.inventory`). What follows in the life of the keys is made by
`central.keys.rotation` and signed by `central.keys.root`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from central.durable import PUBLIC, write_file
from central.keys.certificates import Authority, revoked_serials, server_names
from central.keys.place import (
    KeyPlace,
    KeysError,
    collector_name,
    hex_line,
    read_hex,
    read_tenant,
    write_devices_json,
)
from central.keys.record import EPOCH, RECEIPT
from central.keys.root import settle
from central.keys.rotation import add_key
from wire import suites
from wire.envelope import DeviceSigner
from wire.keyset import Keyset, sign_keyset
from wire.topics import common_name

SERVICE_CERTIFICATE_DAYS = 365


def init_authority(
    directory: Path,
    tenant: str,
    *,
    broker_hosts: Sequence[str],
    now_utc_s: float,
    root: Path | None = None,
    suite: int = suites.X25519,
) -> KeyPlace:
    """Make all keys of a new tenant below `directory`; raises KeysError if some are there.

    `root` is the folder of the root's own files, else one below `directory`.
    """
    common_name(tenant, "x")
    place = KeyPlace(directory, root)
    if place.devices.exists() or place.root_seed.exists():
        raise KeysError(
            f"{directory}: keys of a tenant are there already; choose another directory, "
            "for new keys of the same tenant use keys rotate"
        )
    for folder in (place.root_dir, directory / "authority", directory / "broker"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_seed = secrets.token_bytes(32)
    write_file(place.root_seed, hex_line(root_seed))
    write_file(place.root_public, hex_line(DeviceSigner(root_seed).public), PUBLIC)
    _make_certificates(place, tenant, broker_hosts)
    write_file(place.devices, write_devices_json(tenant, {}), PUBLIC)
    add_key(place, EPOCH, now_utc_s, suite=suite)
    add_key(place, RECEIPT, now_utc_s)
    _sign_first(place, tenant)
    return place


def rotate_epoch(directory: Path, *, now_utc_s: float) -> int | None:
    """Let devices seal to a new epoch key from now on.

    Returns the keyset version that says so, None if it waits for the root.
    Older private keys stay: a device with a full outbox has sealed to them.
    """
    place = KeyPlace(directory)
    add_key(place, EPOCH, now_utc_s, at_once=True)
    return settle(place)


def renew_certificate(place: KeyPlace, part: str, *, revoke: bool = False) -> datetime:
    """Give `broker` or `collector` a new key and certificate; returns when it ends.

    The broker's names stay. `revoke` refuses the old certificate from now on:
    for a key that is in wrong hands. Raises KeysError.
    """
    authority, tenant = read_authority(place), read_tenant(place)
    certificate, key = {
        "broker": (place.broker_certificate, place.broker_key),
        "collector": (place.collector_certificate, place.collector_key),
    }[part]
    old = read_certificate(certificate)
    issued = (
        authority.issue_client(collector_name(tenant), SERVICE_CERTIFICATE_DAYS)
        if part == "collector"
        else authority.issue_server(server_names(old), SERVICE_CERTIFICATE_DAYS)
    )
    write_file(key, issued.key)
    write_file(certificate, issued.certificate, PUBLIC)
    if revoke:
        revoke_certificates(place, [old.serial_number])
    return read_certificate(certificate).not_valid_after_utc


def revoke_certificates(place: KeyPlace, serial_numbers: Sequence[int]) -> None:
    """Put certificates on the revocation list, beside those that are there; raises KeysError."""
    known = revoked_serials(place.revocation_list.read_bytes())
    revoked = read_authority(place).revocation_list(sorted({*known, *serial_numbers}))
    write_file(place.revocation_list, revoked, PUBLIC)


def read_authority(place: KeyPlace) -> Authority:
    """The tenant's certificate authority, to sign with; raises KeysError."""
    try:
        return Authority.load(
            place.authority_key.read_bytes(), place.authority_certificate.read_bytes()
        )
    except (FileNotFoundError, ValueError) as error:
        raise KeysError(
            f"{place.authority_key}: cannot sign certificates with it ({error}); run this where "
            "the authority's key lies, or restore it from a backup"
        ) from error


def read_certificate(path: Path) -> x509.Certificate:
    """A certificate, PEM; raises KeysError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise KeysError(
            f"{path}: no certificate there ({error}); restore it from a backup"
        ) from error


def _sign_first(place: KeyPlace, tenant: str) -> None:
    """Version 1: the keys that lie there."""
    empty = Keyset(version=0, tenant=tenant, epoch_keys=(), receipt_keys=(), revoked=())
    root = DeviceSigner(read_hex(place.root_seed, 32))
    write_file(place.keyset, sign_keyset(empty, root), PUBLIC)
    settle(place)


def _make_certificates(place: KeyPlace, tenant: str, broker_hosts: Sequence[str]) -> None:
    authority = Authority.make(tenant)
    broker = authority.issue_server(broker_hosts, SERVICE_CERTIFICATE_DAYS)
    collector = authority.issue_client(collector_name(tenant), SERVICE_CERTIFICATE_DAYS)
    write_file(place.authority_key, authority.key_pem)
    write_file(place.broker_key, broker.key)
    write_file(place.collector_key, collector.key)
    for path, data in (
        (place.authority_certificate, authority.certificate_pem),
        (place.revocation_list, authority.revocation_list([])),
        (place.broker_certificate, broker.certificate),
        (place.collector_certificate, collector.certificate),
    ):
        write_file(path, data, PUBLIC)
