"""A tenant's keys: made once, private, handed out per device, revoked for good."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509

from central.cli import main
from central.keys.authority import init_authority, rotate_epoch
from central.keys.device import issue_device, revoke_device
from central.keys.place import (
    KeyPlace,
    KeysError,
    read_devices,
    read_hex,
    read_keyset,
)
from central.keys.receipts import ReceiptKeys
from wire.envelope import DeviceSigner
from wire.topics import TopicError

NOW = 1_772_000_000


def kids(directory: Path) -> list[bytes]:
    """Ids of the private keys that lie there."""
    return [bytes.fromhex(path.stem) for path in directory.glob("*.key")]


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    return init_authority(tmp_path / "k", "demo", broker_hosts=["broker.test"], now_utc_s=NOW)


def test_private_halves_are_readable_by_their_owner_only(place: KeyPlace, tmp_path: Path) -> None:
    issue_device(place.directory, "t01", tmp_path / "b")
    private = [*place.directory.rglob("*.key"), *place.directory.rglob("*.seed")]
    private += list((tmp_path / "b").iterdir())
    assert len(private) == 6 + 6
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_device_gets_keys_that_its_registration_fits(place: KeyPlace, tmp_path: Path) -> None:
    bundle = issue_device(place.directory, "t01", tmp_path / "b")
    device = read_devices(place)["t01"]
    signer = DeviceSigner(read_hex(bundle.sign_key, 32))
    assert (device.kid, device.public, device.alg) == (signer.kid, signer.public, -19)
    assert device.cn == "demo-t01"
    certificate = x509.load_pem_x509_certificate(bundle.tls_certificate.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=demo-t01"
    authority = x509.load_pem_x509_certificate(bundle.authority_certificate.read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert bundle.keyset.read_bytes() == place.keyset.read_bytes()


def test_the_first_keyset_names_the_keys_that_are_there(place: KeyPlace) -> None:
    keyset = read_keyset(place)
    assert keyset.version == 1
    assert [key.kid for key in keyset.epoch_keys] == kids(place.epoch_dir)
    assert keyset.epoch_key(NOW) == keyset.epoch_keys[0]
    assert [key.kid for key in keyset.receipt_keys] == kids(place.receipt_dir)
    assert ReceiptKeys(place, keyset).signer(NOW).public == keyset.receipt_keys[0].public


def test_a_new_epoch_keeps_the_old_key_for_full_outboxes(place: KeyPlace) -> None:
    old = read_keyset(place).epoch_keys[0]
    assert rotate_epoch(place.directory, now_utc_s=NOW + 25 * 86_400) == 2
    keyset = read_keyset(place)
    assert keyset.version == 2
    assert old in keyset.epoch_keys
    assert keyset.epoch_key(NOW + 26 * 86_400) != old
    assert len(kids(place.epoch_dir)) == 2


def test_a_revoked_device_is_in_keyset_registry_and_revocation_list(
    place: KeyPlace, tmp_path: Path
) -> None:
    issue_device(place.directory, "t01", tmp_path / "b")
    issue_device(place.directory, "t02", tmp_path / "c")
    assert revoke_device(place.directory, "t01") == 2
    devices = read_devices(place)
    assert [devices[name].active for name in ("t01", "t02")] == [False, True]
    assert read_keyset(place).revoked == (devices["t01"].kid,)
    revoked = x509.load_pem_x509_crl(place.revocation_list.read_bytes())
    serial = devices["t01"].certificate_serial
    assert [entry.serial_number for entry in revoked] == [serial]


def test_nothing_is_made_twice(place: KeyPlace, tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="are there already"):
        init_authority(place.directory, "demo", broker_hosts=["b"], now_utc_s=NOW)
    issue_device(place.directory, "t01", tmp_path / "b")
    with pytest.raises(KeysError, match="enrolled already"):
        issue_device(place.directory, "t01", tmp_path / "c")
    with pytest.raises(KeysError, match="not empty"):
        issue_device(place.directory, "t02", tmp_path / "b")


@pytest.mark.parametrize("name", ["T1", "a-b", "a.b", "a/b", "#", ""])
def test_a_name_that_means_something_in_topics_is_refused(
    place: KeyPlace, tmp_path: Path, name: str
) -> None:
    with pytest.raises(TopicError):
        issue_device(place.directory, name, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_commands_do_the_same_and_fail_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, bundle = str(tmp_path / "k"), str(tmp_path / "b")
    assert main(["keys", "init", "--dir", keys, "--tenant", "demo"]) == 0
    assert main(["keys", "device", "--dir", keys, "--device", "t01", "--out", bundle]) == 0
    assert main(["keys", "device", "--dir", keys, "--device", "t01", "--out", bundle]) == 1
    assert "choose another name" in capsys.readouterr().err
    assert main(["keys", "rotate", "--dir", keys]) == 0
    assert main(["keys", "revoke", "--dir", keys, "--device", "t01"]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--dir", keys, "--json"]) == 0
    (device,) = json.loads(capsys.readouterr().out)
    assert (device["device"], device["active"]) == ("t01", False)
    assert read_keyset(KeyPlace(Path(keys))).version == 3
    assert read_keyset(KeyPlace(Path(keys))).epoch_key(time.time())


def test_the_broker_needs_keys_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["broker-config", "--keys", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "keys init" in capsys.readouterr().err
