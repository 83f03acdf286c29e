"""What a DLMS driver is made of: class, line, credentials, counters; and what is said of a lack."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from commands_bench import Bench, prepare
from drivers_dlms_bench import (
    FILE,
    GAK,
    GUEK,
    OVER_HDLC,
    PASSWORD,
    SECRETS,
    SERIAL,
    WRAPPER,
    config,
    drivers,
    meter,
)

from agent.config import ConfigError, load_config
from agent.dlms.driver import DlmsDriver
from agent.drivers import open_line
from agent.drivers_dlms import client_title, credential_of
from agent.line.tcp_port import TcpPort


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (SERIAL, "1/17"),
        (SERIAL + 'opening = "mode-e"\n', "1/17"),
        (WRAPPER, "1"),
        (OVER_HDLC, "1/17"),
    ],
)
@pytest.mark.parametrize(
    ("model", "credentials"),
    [("idis_residential", "lls"), ("idis_residential_gmac", "gmac"), ("ct_meter_gmac", "gmac")],
)
def test_every_kind_of_line_and_security_makes_a_driver_and_writes_nothing(
    tmp_path: Path, line: str, address: str, model: str, credentials: str
) -> None:
    there = config(tmp_path, line, meter(model, credentials, address))
    (driver,) = drivers(there)
    assert isinstance(driver, DlmsDriver)
    assert not (tmp_path / "data").exists()


def test_a_line_over_tcp_has_a_tcp_port_with_the_pace_of_the_line_behind(tmp_path: Path) -> None:
    for line, address, char_s in ((WRAPPER, "1", 0.0), (OVER_HDLC, "1/17", 10 / 2400)):
        there = config(tmp_path, line, meter("idis_residential", "lls", address))
        port = open_line(there.lines[0])
        assert isinstance(port, TcpPort)
        assert port.path == "127.0.0.1:4059"
        assert port.char_s == pytest.approx(char_s)


@pytest.mark.parametrize(
    ("line", "what", "said"),
    [
        (
            SERIAL,
            meter("idis_residential_gmac", "lls"),
            r":30: \[meter\] credentials: .*needs an encryption_key and an authentication_key, "
            r"credentials \[lls\] has none; write both",
        ),
        (
            SERIAL,
            meter("idis_residential_gmac", "long"),
            r"credentials: .*\(suite 0\) needs keys of 16 bytes, those of credentials \[long\] "
            r"have 32",
        ),
        (SERIAL, meter("idis_residential_gmac", None), r"credentials: .*meter m0 has none"),
        (
            SERIAL,
            meter("idis_residential", "gmac"),
            r"credentials: .*password \(LLS\) and credentials \[gmac\] has none",
        ),
        (SERIAL, meter("idis_residential", "nord"), r"credentials: .*\[nord\] .*gmac, lls, long"),
        (SERIAL, meter("idis_residental", "lls"), r"model: .*idis_residential"),
        (
            SERIAL,
            meter("idis_residential", None, more='password_file = "nowhere"\n'),
            r"password_file: .*nowhere: cannot be read \(No such file.*; correct the path, or",
        ),
    ],
)
def test_what_is_missing_is_told_at_its_place_and_without_a_secret(
    tmp_path: Path, line: str, what: str, said: str
) -> None:
    there = config(tmp_path, line, what)
    with pytest.raises(ConfigError, match=said) as caught:
        drivers(there)
    for secret in (GUEK, GAK, PASSWORD):
        assert secret not in f"{caught.value!s}{caught.value.__cause__!r}"


def test_a_password_comes_from_credentials_or_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "lls").write_text("of-its-own\nmore\n")
    (tmp_path / "lls").chmod(0o600)
    there = config(
        tmp_path,
        SERIAL,
        meter("idis_residential", "lls"),
        meter("idis_residential", None, "1/18", 'password_file = "lls"\n'),
        meter("idis_residential", None, "1/19"),
    )
    of_each = [credential_of(there, meter).password for meter in there.meters]
    assert of_each == [PASSWORD.encode(), b"of-its-own", None]


@pytest.mark.parametrize(
    ("mode", "of_another", "said"),
    [
        (0o640, False, r"password_file: .*mode 640 lets others .*; run chmod 600 .*lls"),
        (0o604, False, r"password_file: .*mode 604 lets others"),
        (0o600, True, r"password_file: .*belongs to user \d+, expected 42, .*run chown 42 .*lls"),
    ],
)
def test_a_password_file_that_others_get_at_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, of_another: bool, said: str
) -> None:
    (tmp_path / "lls").write_text(PASSWORD)
    (tmp_path / "lls").chmod(mode)
    if of_another:
        if os.geteuid() == 0:
            os.chown(tmp_path / "lls", 4711, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 42)
    there = config(
        tmp_path, SERIAL, meter("idis_residential", None, more='password_file = "lls"\n')
    )
    with pytest.raises(ConfigError, match=said) as caught:
        drivers(there)
    assert PASSWORD not in f"{caught.value!s}{caught.value.__cause__!r}"


def test_a_command_is_run_once_for_all_meters(tmp_path: Path) -> None:
    there = config(
        tmp_path,
        SERIAL,
        *(meter("idis_residential", "lls", f"1/{17 + number}") for number in range(5)),
    )
    program = f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); print({SECRETS!r})"
    text = (tmp_path / "agent.toml").read_text()
    words = json.dumps([sys.executable, "-c", program])
    (tmp_path / "agent.toml").write_text(text.replace('file = "meters.toml"', f"command = {words}"))
    there = load_config(tmp_path / "agent.toml")
    assert len(drivers(there)) == 5
    assert (tmp_path / "runs").read_text() == "x"


def test_the_system_title_is_the_agents_own_and_stays(tmp_path: Path) -> None:
    there = config(tmp_path, SERIAL, meter("idis_residential_gmac", "gmac"))
    assert client_title(there) == b"LSC" + sha256(b"demo-t07").digest()[:5]
    text = (tmp_path / "agent.toml").read_text()
    (tmp_path / "agent.toml").write_text(text.replace('"t07"', '"t08"'))
    assert client_title(load_config(tmp_path / "agent.toml")) != client_title(there)
    titled = text.replace('"t07"\n', '"t07"\ndlms_system_title = "0102030405060708"\n')
    (tmp_path / "agent.toml").write_text(titled)
    assert client_title(load_config(tmp_path / "agent.toml")) == bytes(range(1, 9))


def test_a_meter_that_does_not_cipher_loads_no_cryptography_and_no_database(
    tmp_path: Path,
) -> None:
    config(tmp_path, SERIAL, meter("idis_residential", "lls"))
    program = """\
import sys
from pathlib import Path
from agent.config import load_config
from agent.drivers import build_driver, open_line
from wire.clock import SystemClock
config = load_config(Path(sys.argv[1]))
(line,), (meter,) = config.lines, config.meters
build_driver(config, line, meter, open_line(line), SystemClock())
print([name for name in ("cryptography", "subprocess") if name in sys.modules])
"""
    words = [sys.executable, "-c", program, str(tmp_path / "agent.toml")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"


# --- check and doctor


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A configuration with keys and certificates, whose first DLMS meter has credentials."""
    bench = prepare(tmp_path)
    (tmp_path / "meters.toml").write_text(SECRETS)
    (tmp_path / "meters.toml").chmod(0o600)
    bench.edit("[[line]]", '[credentials]\nfile = "meters.toml"\n\n[[line]]')
    bench.edit('password_file = "lls"', 'credentials = "lls"')
    return bench


def about(bench: Bench, capsys: pytest.CaptureFixture[str], which: str) -> list[dict[str, str]]:
    """The findings of that name; no secret is in any."""
    bench.say("check", "--json")
    said = capsys.readouterr().out
    for secret in (GUEK, GAK, PASSWORD):
        assert secret not in said
    return [found for found in json.loads(said)["findings"] if found["what"] == which]


def test_check_counts_credentials_and_names_those_that_no_meter_uses(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, unused = about(bench, capsys, "credentials")
    assert summary["says"] == f"{bench.folder / 'meters.toml'}: 3 names"
    assert summary["problem"] is None
    place = f"{bench.config}:{bench.line_of(FILE)}: [credentials] file"
    assert unused["warning"].startswith(place)
    assert "no meter names: gmac, long; take out" in unused["warning"]


def test_check_says_once_that_others_may_read_the_credentials(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.folder / "meters.toml").chmod(0o644)
    (found,) = about(bench, capsys, "credentials")
    assert f"run chmod 600 {bench.folder / 'meters.toml'}" in str(found["problem"])
    assert f"{bench.config}:{bench.line_of(FILE)}: [credentials] file: " in found["problem"]
    assert not about(bench, capsys, "meter d17")


def test_check_names_a_meter_whose_credentials_are_not_there(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.edit('credentials = "lls"', 'credentials = "nord"')
    (found,) = about(bench, capsys, "meter d17")
    assert f":{bench.line_of('credentials = ')}: [meter] credentials: " in found["problem"]
    assert "expected a table [nord] (there are: gmac, lls, long)" in found["problem"]


def forms(secret: bytes) -> list[str]:
    """How a secret might be shown by a log line, a trace or an exception."""
    return [
        secret.hex(),
        secret.hex().upper(),
        secret.hex(" "),
        secret.hex(" ").upper(),
        repr(secret)[2:-1],
        base64.b64encode(secret).decode(),
    ]


@pytest.mark.parametrize("damage", ["none", "open to all", "no TOML", "from a command"])
def test_a_bundle_holds_no_secret_even_if_the_agent_had_said_one(
    bench: Bench, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = bench.folder / "meters.toml"
    if damage == "open to all":
        secrets.chmod(0o666)
    elif damage == "no TOML":
        secrets.write_text(SECRETS + "\n]")
    elif damage == "from a command":
        token = "hvs-4711-token"
        words = json.dumps(["/bin/sh", "-c", 'cat "$0"', str(secrets), token])
        bench.edit('file = "meters.toml"', f"command = {words}")
    shown = [PASSWORD, GUEK]
    for secret in (PASSWORD.encode(), bytes.fromhex(GUEK), bytes.fromhex(GAK)):
        shown += forms(secret)
    (bench.folder / "data").mkdir()
    status = {"pid": 1, "faults": {"meter d17": " and ".join(shown)}}
    (bench.folder / "data" / "status.json").write_text(json.dumps(status))
    out = bench.folder / "bundle.tar.gz"
    assert bench.say("doctor", "--out", str(out)) == 0
    whole = "".join(capsys.readouterr())
    with tarfile.open(out) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            whole += file.read().decode()
    assert " and " in whole, "what the agent said is in the bundle"
    for text in (*shown, "hvs-4711-token"):
        assert text not in whole
