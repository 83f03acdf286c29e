"""Where each key of a tenant lies, and who reads it.

    root/root.seed, keyset.cose        offline, best on a medium of its own; signs keysets
    authority/ca.key                   signs certificates
    epoch/KID.key, KID.json            the loader alone
    receipt/KID.key, KID.json          the collector
    collector.key, collector.crt       the collector
    broker/broker.key, broker.crt      the broker, with ca.crt and ca.crl
    enrol/enrol.key, enrol.crt,        the enrolment server, with authority/ca.key
      ledger.db
    ca.crt, ca.crl, root.pub,          public
    keyset.cose, devices.json

One folder may hold all of them, or each process a folder with its part; which
file is whose says `central.keys.inventory`. Seeds and keys are hex, mode 0600.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wire.cose import CoseError
from wire.keyset import Keyset, KeysetError, verify_keyset

ED25519_ALG = -19
"""COSE algorithm of the sign keys made here (RFC 9864)."""


_NOT_THERE = (
    "not there; loadscape-central keys init makes it for a new tenant, keys hand-out brings it "
    "to a machine that needs it"
)


class KeysError(Exception):
    """The key directory lacks something or holds something unexpected."""


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """The public half of a sign key, with the certificate that was given out beside it."""

    kid: bytes
    public: bytes
    alg: int
    certificate_serial: int
    request: bytes = b""
    """SHA-256 of the request that asked for it; empty where the keys were made at the centre."""
    certificate: str = ""
    """The certificate itself, PEM, to give the same answer to the same request."""


@dataclass(frozen=True, slots=True)
class EnrolledDevice:
    """One sign key that central accepts (or no longer: `active` false)."""

    device: str
    cn: str
    kid: bytes
    public: bytes
    alg: int
    active: bool
    certificate_serial: int
    renewed: tuple[DeviceKey, ...] = ()
    """The keys that follow, oldest first, accepted beside these until the device uses them."""
    quarantined: str = ""
    """Why nothing of the device is believed until somebody has looked; empty: it is not so."""

    @property
    def serials(self) -> list[int]:
        """Serial numbers of the certificates that the device may have."""
        return [self.certificate_serial, *(key.certificate_serial for key in self.renewed)]

    def with_key(self, key: DeviceKey) -> EnrolledDevice:
        """The same device with `key` in the place of its keys, and what follows that one."""
        later = self.renewed[self.renewed.index(key) + 1 :] if key in self.renewed else ()
        return replace(
            self,
            kid=key.kid,
            public=key.public,
            alg=key.alg,
            certificate_serial=key.certificate_serial,
            renewed=later,
        )

    def under_each_key(self) -> list[EnrolledDevice]:
        """The device once for each sign key that is accepted of it."""
        return [self, *(self.with_key(key) for key in self.renewed)]


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """The files below one key directory; the root's may lie elsewhere."""

    directory: Path
    root: Path | None = None

    @property
    def root_dir(self) -> Path:
        return self.root or self.directory / "root"

    @property
    def root_seed(self) -> Path:
        return self.root_dir / "root.seed"

    @property
    def root_public(self) -> Path:
        return self.directory / "root.pub"

    @property
    def authority_key(self) -> Path:
        return self.directory / "authority" / "ca.key"

    @property
    def authority_certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def revocation_list(self) -> Path:
        return self.directory / "ca.crl"

    @property
    def broker_key(self) -> Path:
        return self.directory / "broker" / "broker.key"

    @property
    def broker_certificate(self) -> Path:
        return self.directory / "broker" / "broker.crt"

    @property
    def collector_key(self) -> Path:
        return self.directory / "collector.key"

    @property
    def collector_certificate(self) -> Path:
        return self.directory / "collector.crt"

    @property
    def enrol_key(self) -> Path:
        return self.directory / "enrol" / "enrol.key"

    @property
    def enrol_certificate(self) -> Path:
        return self.directory / "enrol" / "enrol.crt"

    @property
    def enrol_ledger(self) -> Path:
        return self.directory / "enrol" / "ledger.db"

    @property
    def epoch_dir(self) -> Path:
        return self.directory / "epoch"

    @property
    def receipt_dir(self) -> Path:
        return self.directory / "receipt"

    @property
    def keyset(self) -> Path:
        return self.directory / "keyset.cose"

    @property
    def devices(self) -> Path:
        return self.directory / "devices.json"


def collector_name(tenant: str) -> str:
    """The collector's common name; the dot keeps it apart from every device's."""
    return f"collector.{tenant}"


def hex_line(value: bytes) -> bytes:
    """Bytes as they stand in a key file."""
    return value.hex().encode() + b"\n"


def read_hex(path: Path, length: int) -> bytes:
    """`length` bytes written as hex; raises KeysError naming file and remedy."""
    try:
        value = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError as error:
        raise KeysError(f"{path}: {_NOT_THERE}") from error
    except ValueError as error:
        raise KeysError(f"{path}: expected {length} bytes as hex, found something else") from error
    if len(value) != length:
        raise KeysError(f"{path}: expected {length} bytes as hex, found {len(value)} bytes")
    return value


def read_devices(place: KeyPlace) -> dict[str, EnrolledDevice]:
    """All enrolled devices by name; raises KeysError."""
    try:
        table = json.loads(place.devices.read_text())
        return {name: _device(name, fields) for name, fields in table["devices"].items()}
    except FileNotFoundError as error:
        raise KeysError(f"{place.devices}: {_NOT_THERE}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeysError(
            f"{place.devices}: expected the list that `keys device` writes, found something else "
            f"({error}); restore it from a backup"
        ) from error


@contextmanager
def devices_locked(place: KeyPlace) -> Iterator[None]:
    """Alone with devices.json, from reading to writing; not to be nested."""
    folder = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_devices_json(tenant: str, devices: Mapping[str, EnrolledDevice]) -> bytes:
    """The text of devices.json."""
    table = {
        "tenant": tenant,
        "devices": {
            name: {
                "cn": device.cn,
                "kid": device.kid.hex(),
                "public": device.public.hex(),
                "alg": device.alg,
                "active": device.active,
                "certificate_serial": str(device.certificate_serial),
                **({"renewed": [*map(_key_fields, device.renewed)]} if device.renewed else {}),
                **({"quarantined": device.quarantined} if device.quarantined else {}),
            }
            for name, device in sorted(devices.items())
        },
    }
    return (json.dumps(table, indent=1) + "\n").encode()


def read_tenant(place: KeyPlace) -> str:
    """Whose keys these are; raises KeysError."""
    try:
        return str(json.loads(place.devices.read_text())["tenant"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise KeysError(
            f"{place.devices}: no tenant there; make the keys with loadscape-central keys init"
        ) from error


def _device(name: str, fields: Mapping[str, object]) -> EnrolledDevice:
    alg, active = fields["alg"], fields["active"]
    if not isinstance(alg, int) or not isinstance(active, bool):
        raise ValueError(f"device {name!r} has no whole number alg or no true/false active")
    renewed = fields.get("renewed", [])
    if not isinstance(renewed, list):
        raise ValueError(f"device {name!r}: renewed is no list of keys")
    return EnrolledDevice(
        device=name,
        cn=str(fields["cn"]),
        kid=bytes.fromhex(str(fields["kid"])),
        public=bytes.fromhex(str(fields["public"])),
        alg=alg,
        active=active,
        certificate_serial=int(str(fields["certificate_serial"])),
        renewed=tuple(_device_key(key) for key in renewed),
        quarantined=str(fields.get("quarantined", "")),
    )


def _key_fields(key: DeviceKey) -> dict[str, object]:
    return {
        "kid": key.kid.hex(),
        "public": key.public.hex(),
        "alg": key.alg,
        "certificate_serial": str(key.certificate_serial),
        "request": key.request.hex(),
        "certificate": key.certificate,
    }


def _device_key(fields: object) -> DeviceKey:
    if not isinstance(fields, dict):
        raise ValueError("expected the fields of a renewed key")
    return DeviceKey(
        kid=bytes.fromhex(fields["kid"]),
        public=bytes.fromhex(fields["public"]),
        alg=int(fields["alg"]),
        certificate_serial=int(fields["certificate_serial"]),
        request=bytes.fromhex(fields["request"]),
        certificate=str(fields["certificate"]),
    )


def read_keyset(place: KeyPlace) -> Keyset:
    """The present keyset, verified against the root's public key; raises KeysError."""
    root_public = read_hex(place.root_public, 32)
    try:
        return verify_keyset(
            place.keyset.read_bytes(), root_public, tenant=read_tenant(place), lowest_version=0
        )
    except (CoseError, KeysetError) as error:
        raise KeysError(f"{place.keyset}: not the tenant's keyset: {error}") from error
