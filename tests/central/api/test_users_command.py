"""`loadscape-central users add` with the password on standard input."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from central.api.users import find_user, password_fits
from central.commands import users
from central.commands.failed import CommandFailed


def run(folder: Path, name: str) -> int:
    (folder / "central.toml").write_text(
        'tenant = "demo"\ndata_dir = "data"\n[broker]\nhost = "h"\nca_file = "a"\n'
        'cert_file = "b"\nkey_file = "c"\n[keys]\ndir = "k"\n'
    )
    parser = argparse.ArgumentParser()
    users.add(parser.add_subparsers(required=True))
    options = parser.parse_args(["users", "add", "--config", str(folder / "central.toml"), name])
    return int(options.action(options))


def test_an_account_is_added_and_its_password_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a long password\n"))
    assert run(tmp_path, "ada") == 0
    assert capsys.readouterr().out == "ada: added\n"
    registry = tmp_path / "data" / "registry.db"
    assert password_fits(find_user(registry, "ada"), "a long password")
    assert b"a long password" not in registry.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO("another password\n"))
    assert run(tmp_path, "ada") == 0
    assert capsys.readouterr().out == "ada: has a new password\n"


def test_a_short_password_fails_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(CommandFailed, match="10 characters or more"):
        run(tmp_path, "ada")
