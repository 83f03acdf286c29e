"""Passwords and keys come from three sources in one form, and no message shows one."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import pytest
from errors_bench import whole_story
from hypothesis import given
from hypothesis import strategies as st

from agent.credentials import (
    Credential,
    CredentialsConfig,
    CredentialsError,
    load_credentials,
    names_in,
    secrets_in,
)

PASSWORD = "Sesam-oeffne-dich"
GUEK = "0123456789ABCDEF0123456789abcdef"
GAK = "fedcba9876543210fedcba9876543210"
GOOD = f"""\
[north]
password = "{PASSWORD}"

[south]
password_hex = "00ff10"
encryption_key = "{GUEK}"
authentication_key = "{GAK}"

[suite-2]
encryption_key = "{GUEK * 2}"
authentication_key = "{GAK * 2}"
"""


def secret_file(folder: Path, text: str | bytes = GOOD, mode: int = 0o600) -> Path:
    path = folder / "meters.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def from_file(folder: Path, text: str | bytes = GOOD, mode: int = 0o600) -> CredentialsConfig:
    return CredentialsConfig(file=secret_file(folder, text, mode))


def from_systemd(folder: Path, patch: pytest.MonkeyPatch) -> CredentialsConfig:
    patch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    secret_file(folder, mode=0o400)
    return CredentialsConfig(systemd="meters.toml")


def from_command(folder: Path, program: str) -> CredentialsConfig:
    return CredentialsConfig(command=(sys.executable, "-c", program), timeout_s=10)


@pytest.mark.parametrize("source", ["file", "systemd", "command"])
def test_all_three_sources_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    config = {
        "file": lambda: from_file(tmp_path),
        "systemd": lambda: from_systemd(tmp_path, monkeypatch),
        "command": lambda: from_command(tmp_path, f"print({GOOD!r})"),
    }[source]()
    credentials = load_credentials(config)
    assert credentials.names == ("north", "south", "suite-2")
    assert credentials.of("north") == Credential("north", password=PASSWORD.encode())
    assert credentials.of("south") == Credential(
        "south", b"\x00\xff\x10", bytes.fromhex(GUEK), bytes.fromhex(GAK)
    )
    assert len(credentials.of("suite-2").encryption_key or b"") == 32


def test_neither_credentials_nor_one_of_them_show_a_secret(tmp_path: Path) -> None:
    credentials = load_credentials(from_file(tmp_path))
    shown = (
        repr(credentials)
        + str(credentials)
        + "".join(
            repr(credentials.of(name)) + str(credentials.of(name)) for name in credentials.names
        )
    )
    assert "north" in shown
    for secret in secrets_in(GOOD.encode()):
        assert secret.decode() not in shown
        assert repr(secret) not in shown
    assert repr(bytes.fromhex(GUEK)) not in shown


# --- the file's rights


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_file_that_others_may_touch_is_refused_with_the_command_to_run(
    tmp_path: Path, mode: int
) -> None:
    source = from_file(tmp_path, mode=mode)
    with pytest.raises(CredentialsError, match=rf"mode {mode:o} .*run chmod 600 {source.file}"):
        load_credentials(source)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_for_its_user_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert load_credentials(from_file(tmp_path, mode=mode)).names


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"keys\.toml: cannot be read \(No such file"):
        load_credentials(CredentialsConfig(file=tmp_path / "keys.toml"))


# --- systemd and commands


def test_without_a_service_systemds_credential_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(CredentialsError, match="LoadCredentialEncrypted=meters to the unit"):
        load_credentials(CredentialsConfig(systemd="meters"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(CredentialsError, match=r"cannot be read .*correct \[credentials\] systemd"):
        load_credentials(CredentialsConfig(systemd="meters"))


def test_a_command_is_run_without_a_shell_and_without_input(tmp_path: Path) -> None:
    told = "import sys; print(f'[a]\\npassword = \"{sys.argv[1]}\"' + sys.stdin.read())"
    source = CredentialsConfig(command=(sys.executable, "-c", told, "$HOME;*|`id`"))
    assert load_credentials(source).of("a").password == b"$HOME;*|`id`"


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        f"print({PASSWORD!r}, flush=True)\n"
        f"child = os.fork()\n"
        f"open({str(tmp_path / 'pid')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(60)\n"
    )
    source = CredentialsConfig(command=(sys.executable, "-c", program), timeout_s=1)
    began_s = time.monotonic()
    with pytest.raises(CredentialsError, match="expected an end within 1 s") as caught:
        load_credentials(source)
    assert time.monotonic() - began_s < 5
    assert PASSWORD not in whole_story(caught.value)
    for pid in map(int, (tmp_path / "pid").read_text().split()):
        deadline_s = time.monotonic() + 5
        while alive(pid):
            assert time.monotonic() < deadline_s, f"process {pid} still runs"


def alive(pid: int) -> bool:
    """Whether it runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((sys.executable, "-c", f"print({PASSWORD!r}); exit(3)"), "expected exit code 0, got 3"),
        (("/nowhere/vault", PASSWORD), r"/nowhere/vault: cannot be run \(No such file"),
        ((sys.executable, "-c", f"import sys; sys.exit({PASSWORD!r})"), "got 1; run it by hand"),
    ],
)
def test_a_command_that_fails_is_told_without_what_it_said_or_was_told(
    words: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CredentialsError, match=said) as caught:
        load_credentials(CredentialsConfig(command=words))
    assert PASSWORD not in whole_story(caught.value)
    assert PASSWORD not in "".join(capfd.readouterr())


# --- what is wrong in the text

_S = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[a]\nencryption_key = "{_S[:30]}"', r"\[a\] encryption_key: expected 16 .*came 15"),
        (f'[a]\nencryption_key = "{_S}{_S[:8]}"', r"\[a\] encryption_key: .*came 20; copy"),
        (f'[a]\nencryption_key = "{_S[:31]}"', r"\[a\] encryption_key: .*even number of hex"),
        (f'[a]\nencryption_key = "{_S[:31]}g"', r"\[a\] encryption_key: .*even number of hex"),
        (f'[a]\nencryption_key = "{_S[:16]} {_S[16:]}"', r"encryption_key: .*without spaces"),
        (f'[a]\nencryption_key = "{_S}"', r"\[a\] authentication_key: is missing beside encr"),
        (f'[a]\nauthentication_key = "{_S}"', r"\[a\] encryption_key: is missing beside auth"),
        (
            f'[a]\nencryption_key = "{_S}"\nauthentication_key = "{_S * 2}"',
            r"\[a\] authentication_key: is not as long as encryption_key; suite 0 has 16",
        ),
        ("[a]\npassword = 59257525", r"\[a\] password: expected a text of printable ASCII"),
        ('[a]\npassword = "59257525ü"', r"\[a\] password: .*as password_hex"),
        ('[a]\npassword = ""', r"\[a\] password: expected"),
        ('[a]\npassword_hex = "zz59257525"', r"\[a\] password_hex: expected an even number"),
        (
            '[a]\npassword = "59257525"\npassword_hex = "59257525"',
            r"\[a\] password_hex: stands beside password; write one",
        ),
        (f'[a]\npasswort = "{_S}"', r"\[a\] passwort: is no key .*known are password"),
        (f'[a]\n{_S} = "x"', r"\[a\] \(not shown\): is no key"),
        ("[a]", r"\[a\]: is empty; write a password or both keys"),
        (f'password = "{_S}"', r"password: expected a table; put it below a line \[name\]"),
        (f'{_S} = "x"', r"\(not shown\): expected a table"),
        (f"[a]\npassword = {_S}", r"not TOML at line 2, column \d+; correct it there"),
        (f'[a]\npassword = "{_S}', r"not TOML at end of document; correct it there"),
        (f"[a]\n[{_S}]\n[{_S}]", r"not TOML at line 3, column \d+; correct it there"),
        (b'[a]\npassword = "59257525\xff"', r"expected UTF-8 text, byte 24 is none"),
        (b"# 59257525\n" * 100_000, r"expected at most 1048576 bytes"),
    ],
)
def test_a_fault_names_file_table_and_key_and_shows_no_value(
    tmp_path: Path, text: str | bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CredentialsError, match=said) as caught:
        load_credentials(from_file(tmp_path, text))
    assert str(tmp_path / "meters.toml") in str(caught.value)
    for shown in (whole_story(caught.value), caplog.text):
        assert _S[:12] not in shown
        assert "59257525" not in shown


def test_a_name_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"expected a table \[nord\] .*north, south"):
        load_credentials(from_file(tmp_path)).of("nord")


@given(
    key=st.sampled_from(["password", "password_hex", "encryption_key", "authentication_key"]),
    secret=st.text("0123456789abcdefXYZ", min_size=12, max_size=70)
    | st.text("abcdef", min_size=12, max_size=32),
    around=st.sampled_from(['{k} = "{s}"', '{k} = "{s}', "{k} = {s}", "{s} = 1", '"{s}"', "[{s}"]),
)
def test_whatever_is_written_wrongly_no_message_shows_it(
    key: str, secret: str, around: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    told = ""
    try:
        told = repr(load_credentials(from_file(folder, "[a]\n" + around.format(k=key, s=secret))))
    except CredentialsError as error:
        told = whole_story(error)
    assert secret not in told


def test_all_values_of_a_text_are_found_for_keeping_them_out_even_if_it_is_no_toml() -> None:
    for text in (GOOD, GOOD + "\n]", GOOD.replace('"', "'", 1)):
        found = set(secrets_in(text.encode()))
        assert {PASSWORD.encode(), GUEK.encode(), GAK.encode(), b"00ff10"} <= found
    assert set(secrets_in(b"[a.b]\npassword = 4711\nlist = ['s1', 's2']")) == {
        b"4711",
        b"s1",
        b"s2",
    }
    assert names_in(GOOD.encode()) == ("north", "south", "suite-2")
    assert names_in(b"[") == ()


def test_reading_a_file_leaves_its_rights_alone(tmp_path: Path) -> None:
    source = from_file(tmp_path)
    assert source.file is not None
    before = os.stat(source.file)
    load_credentials(source)
    assert os.stat(source.file).st_mode == before.st_mode
