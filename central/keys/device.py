"""Enrols devices and revokes them.

The private halves of a device's keys are written into its bundle only.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from central.durable import PRIVATE, PUBLIC, write_file
from central.keys.authority import read_authority, revoke_certificates
from central.keys.place import (
    ED25519_ALG,
    EnrolledDevice,
    KeyPlace,
    KeysError,
    devices_locked,
    hex_line,
    read_devices,
    read_tenant,
    write_devices_json,
)
from central.keys.root import settle
from wire.envelope import DeviceSigner
from wire.topics import common_name

DEVICE_CERTIFICATE_DAYS = 30


@dataclass(frozen=True, slots=True)
class DeviceBundle:
    """What one device is handed, as files of one directory."""

    directory: Path

    @property
    def sign_key(self) -> Path:
        return self.directory / "sign.key"

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


def issue_device(
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
    issued = read_authority(place).issue_client(cn, days)
    bundle = DeviceBundle(out)
    write_file(bundle.sign_key, hex_line(seed))
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
    with devices_locked(place):
        devices = {**read_devices(place), device: enrolled}
        write_file(place.devices, write_devices_json(tenant, devices), PUBLIC)
    return bundle


def revoke_device(directory: Path, device: str, *, root: Path | None = None) -> int | None:
    """Refuse `device` from now on; raises KeysError.

    Returns the keyset version that says so, None if it waits for the root.
    Collector and broker refuse it without the keyset too.
    """
    place = KeyPlace(directory, root)
    tenant = read_tenant(place)
    with devices_locked(place):
        devices = read_devices(place)
        if device not in devices:
            raise KeysError(f"{place.devices}: no device {device!r}; see keys list")
        devices[device] = replace(devices[device], active=False)
        write_file(place.devices, write_devices_json(tenant, devices), PUBLIC)
        revoke_certificates(place, devices[device].serials)
    return settle(place)
