"""Keys at rest: who makes them, how they lie on the disk, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.keyring import Keyring, KeyringError
from agent.keys.at_rest import unit_secret
from agent.keys.providers import PROVIDERS, Ed25519File, P256File
from wire.cose import ED25519, ESP256, verify_signature
from wire.envelope import DeviceSigner

SECRET = b"a secret of the unit, long enough"
ALGORITHMS = {"ed25519-file": ED25519, "p256-file": ESP256}


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "sealed"])
@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_signs_and_hedges_with_the_key_that_it_made(
    name: str, secret: bytes | None, tmp_path: Path
) -> None:
    provider, path = PROVIDERS[name](secret), tmp_path / "sign.key"
    provider.make(path)
    signer, again = provider.open(path), PROVIDERS[name](secret).open(path)
    assert signer.alg == ALGORITHMS[name]
    verify_signature(signer.public, signer.alg, again.sign(b"said"), b"said")
    assert signer.hedge(b"x") == again.hedge(b"x") != again.hedge(b"y")
    other = tmp_path / "other.key"
    provider.make(other)
    assert provider.open(other).kid != signer.kid
    assert provider.open(other).hedge(b"x") != signer.hedge(b"x")


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_key_lies_in_a_file_that_nobody_else_may_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sign.key"
    PROVIDERS[name](None).make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(KeyringError, match=f"mode {mode:o} lets others read.*chmod 600"):
            PROVIDERS[name](None).open(path)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_sealed_key_opens_with_its_secret_only(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sign.key"
    PROVIDERS[name](SECRET).make(path)
    assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    with pytest.raises(KeyringError, match="secret is another"):
        PROVIDERS[name](SECRET + b".").open(path)
    with pytest.raises(KeyringError, match="enrol anew"):
        PROVIDERS[name](None).open(path)
    # As any tool opens it that knows the secret.
    assert serialization.load_pem_private_key(path.read_bytes(), SECRET)


def test_a_key_that_is_not_sealed_is_not_taken_for_one_that_is(tmp_path: Path) -> None:
    path = tmp_path / "sign.key"
    Ed25519File().make(path)
    with pytest.raises(KeyringError, match=r"not encrypted.*\[keys\] systemd"):
        Ed25519File(SECRET).open(path)
    path.write_text(bytes(32).hex())
    with pytest.raises(KeyringError, match="expected a private key"):
        Ed25519File(SECRET).open(path)


def test_the_centres_bundle_holds_its_key_as_hex_digits(tmp_path: Path) -> None:
    path = tmp_path / "sign.key"
    path.write_text("07" * 32 + "\n")
    path.chmod(0o600)
    assert Ed25519File().open(path).kid == DeviceSigner(b"\7" * 32).kid
    path.write_text("07" * 31)
    with pytest.raises(KeyringError, match="expected 32 bytes as hex digits, came 31"):
        Ed25519File().open(path)


def test_a_provider_refuses_the_key_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "sign.key"
    P256File().make(path)
    with pytest.raises(KeyringError, match=r"expected an Ed25519 key.*\[keys\] provider"):
        Ed25519File().open(path)
    Ed25519File().make(path)
    with pytest.raises(KeyringError, match="expected a P-256 key"):
        P256File().open(path)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_destroyed_key_is_gone_and_destroying_it_again_is_no_error(
    name: str, tmp_path: Path
) -> None:
    provider, path = PROVIDERS[name](None), tmp_path / "sign.key"
    provider.make(path)
    provider.destroy(path)
    assert not path.exists()
    provider.destroy(path)


def test_the_units_secret_comes_from_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert unit_secret(None) is None
    with pytest.raises(KeyringError, match="LoadCredentialEncrypted=device-key"):
        unit_secret("device-key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyringError, match="device-key: cannot be read"):
        unit_secret("device-key")
    (tmp_path / "device-key").write_bytes(SECRET + b"\n")
    assert unit_secret("device-key") == SECRET
    (tmp_path / "device-key").write_bytes(b"short")
    with pytest.raises(KeyringError, match="5 bytes, expected 16 to 1024"):
        unit_secret("device-key")


def test_the_keyring_signs_with_the_new_key_once_it_is_told_of_it(tmp_path: Path) -> None:
    provider, path = P256File(SECRET), tmp_path / "sign.key"
    provider.make(path)
    (tmp_path / "root.pub").write_text("01" * 32)
    keyring = Keyring("demo", path, tmp_path / "root.pub", tmp_path / "kept", provider)
    old = keyring.signer
    assert old.alg == ESP256
    provider.make(path)
    assert keyring.signer.kid == old.kid
    keyring.take_new_key()
    assert keyring.signer.kid == provider.open(path).kid != old.kid
    path.write_text("garbage")
    with pytest.raises(KeyringError, match="expected a private key"):
        keyring.take_new_key()
    assert keyring.signer.kid != old.kid
