"""`loadscape-central enrol`: tokens, status, quarantine, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from enrol_bench import Centre, Keys, centre_at

from agent.enrol.est import Refused
from central import cli
from central.keys.place import read_devices
from wire.est import fingerprint, read_token

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with centre_at(tmp_path / "keys") as made:
        write_config(tmp_path, '[enrol]\nnames = ["enrol.example", "10.0.0.1"]\n')
        yield made


def write_config(folder: Path, more: str) -> None:
    (folder / "central.toml").write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\nhost = "127.0.0.1"\n'
        f'port = 1\nca_file = "keys/ca.crt"\ncert_file = "none"\nkey_file = "none"\n{more}'
    )


def say(folder: Path, *words: str) -> int:
    return cli.main(["enrol", *words, "--config", str(folder / "central.toml")])


def test_a_token_names_server_and_fingerprints_and_is_good_once(
    centre: Centre, tmp_path: Path, capsys: Captured
) -> None:
    assert say(tmp_path, "token", "t01", "--json") == 0
    token = read_token(json.loads(capsys.readouterr().out)["token"])
    assert (token.common_name, token.server) == ("demo-t01", "enrol.example:8884")
    assert token.root == fingerprint(bytes.fromhex(centre.place.root_public.read_text()))
    centre.client().enroll(Keys.make().request, token.basic)
    assert say(tmp_path, "status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["device"], one["state"]) for one in told["tokens"]] == [("t01", "spent")]


def test_a_cancelled_token_is_good_for_nothing(
    centre: Centre, tmp_path: Path, capsys: Captured
) -> None:
    assert say(tmp_path, "token", "t01") == 0
    token = read_token(capsys.readouterr().out.splitlines()[0])
    assert say(tmp_path, "cancel", "t01") == 0
    assert say(tmp_path, "cancel", "t01") == 1
    with pytest.raises(Refused, match="not known"):
        centre.client().enroll(Keys.make().request, token.basic)


def test_status_shows_quarantine_and_release_ends_it(
    centre: Centre, tmp_path: Path, capsys: Captured
) -> None:
    first = centre.enrolled()
    centre.renewed(first)
    assert say(tmp_path, "status") == 0
    assert "two keys    t01" in capsys.readouterr().out
    with pytest.raises(Refused):
        centre.renewed(first)
    assert say(tmp_path, "status") == 3
    assert "second renewal under one certificate" in capsys.readouterr().out
    assert cli.main(["status", "--config", str(tmp_path / "central.toml")]) == 0
    assert "ALARM: t01 is in quarantine since" in capsys.readouterr().out
    assert say(tmp_path, "release", "t01") == 0
    assert read_devices(centre.place)["t01"].quarantined == ""
    assert say(tmp_path, "release", "nobody") == 1


def test_revoking_says_when_the_connection_may_still_stand(
    centre: Centre, tmp_path: Path, capsys: Captured
) -> None:
    centre.enrolled()
    assert say(tmp_path, "revoke", "t01") == 1
    assert "is revoked, but its connection may stand" in capsys.readouterr().err
    assert not centre.device().active


def test_what_cannot_be_used_is_named(centre: Centre, tmp_path: Path, capsys: Captured) -> None:
    for words, said in (
        (["token", "T 1"], "rename it"),
        (["token", "t01", "--hours", "0"], "expected 1 to 168"),
    ):
        assert say(tmp_path, *words) == 1
        assert said in capsys.readouterr().err
    write_config(tmp_path, "")
    assert say(tmp_path, "token", "t01") == 1
    assert "no section [enrol]" in capsys.readouterr().err
    write_config(tmp_path, '[enrol]\nnames = "one"\n')
    assert say(tmp_path, "status") == 2
    assert "a list of texts" in capsys.readouterr().err
