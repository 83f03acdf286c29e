"""Makes a tenant's keys, enrols devices, revokes them, opens new epochs.

Meant for a machine that is not on the network: root and authority stay there.
Every change writes a new keyset version; nothing that exists is overwritten
but `keyset.cose`, `devices.json` and the revocation list.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from central.durable import PRIVATE, PUBLIC, write_file
from central.keys.certificates import Authority
from central.keys.place import (
    ED25519_ALG,
    EnrolledDevice,
    KeyPlace,
    KeysError,
    collector_name,
    read_devices,
    read_hex,
    read_tenant,
    write_devices_json,
)
from wire.envelope import DeviceSigner
from wire.keyset import EpochKey, Keyset, ReceiptKey, sign_keyset, verify_keyset
from wire.topics import common_name

SUITE_X25519 = 1
"""HPKE base: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""
EPOCH_S = 30 * 86_400
"""How long devices seal to one epoch key."""
SERVICE_CERTIFICATE_DAYS = 365
DEVICE_CERTIFICATE_DAYS = 30


@dataclass(frozen=True, slots=True)
class DeviceBundle:
    """What one device is handed, as files of one directory."""

    directory: Path

    @property
    def sign_seed(self) -> Path:
        return self.directory / "sign.seed"

    @property
    def tls_key(self) -> Path:
        return self.directory / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def authority_certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def root_public(self) -> Path:
        return self.directory / "root.pub"

    @property
    def keyset(self) -> Path:
        return self.directory / "keyset.cose"


def init_keys(
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
    for folder in ("root", "authority", "broker", "collector", "epoch"):
        (directory / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    root_seed = secrets.token_bytes(32)
    write_file(place.root_seed, _hex(root_seed))
    write_file(place.root_public, _hex(DeviceSigner(root_seed).public), PUBLIC)
    _make_certificates(place, tenant, broker_hosts)
    receipt_seed = secrets.token_bytes(32)
    write_file(place.receipt_seed, _hex(receipt_seed))
    write_file(place.receipt_public, _hex(DeviceSigner(receipt_seed).public), PUBLIC)
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


def enrol_device(
    directory: Path, device: str, out: Path, *, days: int = DEVICE_CERTIFICATE_DAYS
) -> DeviceBundle:
    """Make keys and a certificate for `device` into `out` and register its public half.

    The private halves are written to `out` only. Raises KeysError if the
    device is enrolled already or `out` is not empty.
    """
    place = KeyPlace(directory)
    tenant, devices = read_tenant(place), read_devices(place)
    cn = common_name(tenant, device)
    if device in devices:
        raise KeysError(
            f"{place.devices}: device {device!r} is enrolled already (kid "
            f"{devices[device].kid.hex()}); choose another name"
        )
    if out.exists() and any(out.iterdir()):
        raise KeysError(f"{out}: not empty; choose another directory for the bundle")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    seed = secrets.token_bytes(32)
    signer = DeviceSigner(seed)
    issued = _authority(place).issue_client(cn, days)
    bundle = DeviceBundle(out)
    write_file(bundle.sign_seed, _hex(seed))
    write_file(bundle.tls_key, issued.key)
    for path, data in (
        (bundle.tls_certificate, issued.certificate),
        (bundle.authority_certificate, place.authority_certificate.read_bytes()),
        (bundle.root_public, place.root_public.read_bytes()),
        (bundle.keyset, place.keyset.read_bytes()),
    ):
        write_file(path, data, PRIVATE)
    enrolled = EnrolledDevice(
        device, cn, signer.kid, signer.public, ED25519_ALG, True, issued.serial_number
    )
    write_file(place.devices, write_devices_json(tenant, {**devices, device: enrolled}), PUBLIC)
    return bundle


def revoke_device(directory: Path, device: str) -> int:
    """Refuse `device` from now on; returns the new keyset version. Raises KeysError."""
    place = KeyPlace(directory)
    tenant, devices = read_tenant(place), read_devices(place)
    if device not in devices:
        raise KeysError(f"{place.devices}: no device {device!r}; see keys list")
    devices[device] = replace(devices[device], active=False)
    write_file(place.devices, write_devices_json(tenant, devices), PUBLIC)
    revoked = [entry for entry in devices.values() if not entry.active]
    serials = [entry.certificate_serial for entry in revoked]
    write_file(place.revocation_list, _authority(place).revocation_list(serials), PUBLIC)
    keyset = read_keyset(place)
    return _next_keyset(
        place, replace(keyset, revoked=tuple(sorted(entry.kid for entry in revoked)))
    )


def rotate_epoch(directory: Path, *, now_utc_s: float) -> int:
    """Let devices seal to a new epoch key from now on; returns the new keyset version.

    Older private keys stay: a device with a full outbox has sealed to them.
    """
    place = KeyPlace(directory)
    keyset = read_keyset(place)
    fresh = _make_epoch_key(place, int(now_utc_s))
    return _next_keyset(place, replace(keyset, epoch_keys=(*keyset.epoch_keys, fresh)))


def read_keyset(place: KeyPlace) -> Keyset:
    """The present keyset, verified against the root's public key."""
    root_public = read_hex(place.root_public, 32)
    return verify_keyset(
        place.keyset.read_bytes(), root_public, tenant=read_tenant(place), lowest_version=0
    )


def _next_keyset(place: KeyPlace, keyset: Keyset) -> int:
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
    write_file(place.epoch_dir / f"{key.kid.hex()}.key", _hex(private.private_bytes_raw()))
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


def _authority(place: KeyPlace) -> Authority:
    return Authority.load(
        place.authority_key.read_bytes(), place.authority_certificate.read_bytes()
    )


def _hex(value: bytes) -> bytes:
    return value.hex().encode() + b"\n"
