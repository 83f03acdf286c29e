"""A device that has renewed its keys: both are accepted until it confirms, both are revoked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from central.collect.gate import Gate
from central.collect.journal import Batch, Refusal
from central.keys.authority import init_authority
from central.keys.certificates import revoked_serials
from central.keys.device import issue_device, revoke_device
from central.keys.place import DeviceKey, KeyPlace, read_devices, write_devices_json
from wire.envelope import BLOCK, NO_PREV, BatchHeader, BatchSigner, DeviceSigner, seal
from wire.p256 import P256Signer
from wire.suites import X25519, suite
from wire.topics import up

OLD, NEW = DeviceSigner(b"\1" * 32), P256Signer(b"\2" * 32)
EPOCH = suite(X25519).public_of(b"\3" * 32)


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    """Keys of a tenant with one device that has asked for other keys of another algorithm."""
    place = init_authority(
        tmp_path / "keys", "demo", broker_hosts=["localhost"], now_utc_s=time.time()
    )
    issue_device(place.directory, "t01", tmp_path / "bundle")
    device = read_devices(place)["t01"]
    used = replace(device, kid=OLD.kid, public=OLD.public)
    renewed = DeviceKey(NEW.kid, NEW.public, NEW.alg, 4711)
    table = write_devices_json("demo", {"t01": replace(used, renewed=(renewed,))})
    place.devices.write_bytes(table)
    return place


def judged(place: KeyPlace, signer: BatchSigner) -> Batch | Refusal:
    header = BatchHeader(
        signer.alg, BLOCK, signer.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV,
        b"epoch001", X25519, 1,
    )  # fmt: skip
    sealed = seal(header, b"block", epoch_public=EPOCH, signer=signer)
    return Gate("demo", read_devices(place)).check(up("demo-t01"), sealed)


@pytest.mark.parametrize("signer", [OLD, NEW], ids=["old", "new"])
def test_batches_under_either_key_are_taken(place: KeyPlace, signer: BatchSigner) -> None:
    assert isinstance(judged(place, signer), Batch)


def test_revoking_the_device_refuses_both_keys_and_both_certificates(place: KeyPlace) -> None:
    serials = read_devices(place)["t01"].serials
    assert len(serials) == 2
    revoke_device(place.directory, "t01")
    assert set(revoked_serials(place.revocation_list.read_bytes())) == set(serials)
    for signer in (OLD, NEW):
        refused = judged(place, signer)
        assert isinstance(refused, Refusal)
        assert refused.reason == "revoked"
