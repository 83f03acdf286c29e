"""Makes a tenant's keys and opens new epochs.

Meant for a machine that is not on the network: root and authority stay there.
Every change writes a new keyset version.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from central.durable import PUBLIC, write_file
from central.keys.certificates import Authority
from central.keys.place import (
    KeyPlace,
    KeysError,
    collector_name,
    read_hex,
    read_keyset,
    write_devices_json,
)
from wire.envelope import DeviceSigner
from wire.keyset import EpochKey, Keyset, ReceiptKey, sign_keyset
from wire.topics import common_name

SUITE_X25519 = 1
"""HPKE base: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""
EPOCH_S = 30 * 86_400
"""How long devices seal to one epoch key."""
SERVICE_CERTIFICATE_DAYS = 365


def init_authority(
    directory: Path, tenant: str, *, broker_hosts: Sequence[str], now_utc_s: float
) -> KeyPlace:
    """Make all keys of a new tenant below `directory`; raises KeysError if some are there."""
    common_name(tenant, "x")
    place = KeyPlace(directory)
    if place.devices.exists() or place.root_seed.exists():
        raise KeysError(
            f"{directory}: keys of a tenant are there already; choose another directory, "
            "for new keys of the same tenant use keys rotate"
        )
    for folder in ("root", "authority", "broker", "epoch"):
        (directory / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    root_seed = secrets.token_bytes(32)
    write_file(place.root_seed, hex_line(root_seed))
    write_file(place.root_public, hex_line(DeviceSigner(root_seed).public), PUBLIC)
    _make_certificates(place, tenant, broker_hosts)
    receipt_seed = secrets.token_bytes(32)
    write_file(place.receipt_seed, hex_line(receipt_seed))
    write_file(place.receipt_public, hex_line(DeviceSigner(receipt_seed).public), PUBLIC)
    receipt = DeviceSigner(receipt_seed)
    first = Keyset(
        version=1,
        tenant=tenant,
        epoch_keys=(_make_epoch_key(place, int(now_utc_s)),),
        receipt_keys=(ReceiptKey(receipt.kid, receipt.public),),
        revoked=(),
    )
    write_file(place.keyset, sign_keyset(first, DeviceSigner(root_seed)), PUBLIC)
    write_file(place.devices, write_devices_json(tenant, {}), PUBLIC)
    return place


def rotate_epoch(directory: Path, *, now_utc_s: float) -> int:
    """Let devices seal to a new epoch key from now on; returns the new keyset version.

    Older private keys stay: a device with a full outbox has sealed to them.
    """
    place = KeyPlace(directory)
    keyset = read_keyset(place)
    fresh = _make_epoch_key(place, int(now_utc_s))
    return write_next_keyset(place, replace(keyset, epoch_keys=(*keyset.epoch_keys, fresh)))


def write_next_keyset(place: KeyPlace, keyset: Keyset) -> int:
    """Sign `keyset` as the version after its own; returns that version."""
    following = replace(keyset, version=keyset.version + 1)
    root = DeviceSigner(read_hex(place.root_seed, 32))
    write_file(place.keyset, sign_keyset(following, root), PUBLIC)
    return following.version


def _make_epoch_key(place: KeyPlace, now_utc_s: int) -> EpochKey:
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    key = EpochKey(
        kid=secrets.token_bytes(8),
        suite=SUITE_X25519,
        public=public,
        # A device's clock may lag behind the one that made the key.
        not_before_utc_s=now_utc_s - 86_400,
        not_after_utc_s=now_utc_s + EPOCH_S,
    )
    fields: Mapping[str, object] = {
        "suite": key.suite,
        "public": public.hex(),
        "not_before_utc_s": key.not_before_utc_s,
        "not_after_utc_s": key.not_after_utc_s,
    }
    write_file(place.epoch_dir / f"{key.kid.hex()}.key", hex_line(private.private_bytes_raw()))
    write_file(place.epoch_dir / f"{key.kid.hex()}.json", json.dumps(fields).encode(), PUBLIC)
    return key


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


def hex_line(value: bytes) -> bytes:
    """Bytes as they stand in a key file."""
    return value.hex().encode() + b"\n"
