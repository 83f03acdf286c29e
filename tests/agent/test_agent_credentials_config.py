"""agent.toml says where secrets are, which a meter has, and how DLMS lines are opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from errors_bench import whole_story

from agent.config import AgentConfig, ConfigError, load_config
from agent.credentials import (
    CredentialsConfig,
)

_S = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
HEAD = """\
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"

[broker]
host = "127.0.0.1"
ca_file = "ca.crt"
cert_file = "tls.crt"
key_file = "tls.key"

[keys]
sign_key_file = "sign.key"
root_public_file = "root.pub"
keyset_file = "keyset.cose"

"""
LINE = """
[[line]]
name = "l"
port = "/dev/ttyUSB0"
protocol = "dlms"

"""
METER = """
[[meter]]
id = "m1"
line = "l"
model = "idis_residential"
server_address = "1/17"
"""


def load(folder: Path, text: str) -> AgentConfig:
    path = folder / "agent.toml"
    path.write_text(HEAD + text)
    return load_config(path)


def test_agent_toml_says_where_secrets_are_and_which_a_meter_has(tmp_path: Path) -> None:
    text = '[credentials]\nfile = "keys/m.toml"\n' + LINE + METER + 'credentials = "north"\n'
    config = load(tmp_path, text)
    assert config.credentials == CredentialsConfig(file=tmp_path / "keys" / "m.toml")
    assert config.meters[0].credentials == "north"
    assert load(tmp_path, LINE + METER).credentials is None


def _two(more: str, second_address: str) -> str:
    """Two meters of one line."""
    second = METER.replace('"m1"', '"m2"').replace("1/17", second_address)
    return METER + more + second + more


def test_meters_that_are_woken_by_their_own_addresses_may_share_one_behind_it(
    tmp_path: Path,
) -> None:
    meters = METER + 'device_address = "00012345"\n'
    meters += METER.replace('"m1"', '"m2"') + 'device_address = "00012346"\n'
    there = load(tmp_path, LINE + 'opening = "mode-e"\n' + meters).meters
    assert [meter.server_address for meter in there] == ["1/17", "1/17"]
    assert [meter.device_address for meter in there] == ["00012345", "00012346"]


_TCP = LINE.replace("/dev/ttyUSB0", "gw:4059").replace('"dlms"', '"dlms-tcp"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            LINE + METER + f'encryption_key = "{_S}"',
            r":29: \[meter\] encryption_key: passwords and keys are not written into this file; "
            r"put them into a file of mode 0600 .*\[credentials\] file",
        ),
        (LINE + METER + f'password = "{_S}"', r"\[meter\] password: passwords and keys are not"),
        (LINE + METER + f'GUEK = "{_S}"', r"\[meter\] GUEK: passwords and keys are not"),
        (
            LINE + METER + f'credentials = {{password = "{_S}"}}',
            r"\[meter\] credentials: passwords and keys are not",
        ),
        (
            f'[credentials]\npassword = "{_S}"\n' + LINE + METER,
            r":18: \[credentials\] password: passwords and keys are not",
        ),
        (
            f'[credentials.north]\npassword = "{_S}"\n' + LINE + METER,
            r"\[credentials\] north: passwords and keys are not",
        ),
        ("[credentials]\n" + LINE + METER, r"\[credentials\]: expected one of file, systemd and"),
        (
            '[credentials]\nfile = "a"\nsystemd = "b"\n' + LINE + METER,
            r":19: \[credentials\] systemd: expected one of .*came 2",
        ),
        ('[credentials]\ncommand = "pass"\n' + LINE + METER, r"command: expected a list of texts"),
        ('[credentials]\ncommand = ["pass"]\n' + LINE + METER, r"command: .*program's full path"),
        ("[credentials]\ncommand = []\n" + LINE + METER, r"command: expected a list of texts"),
        ('[credentials]\nsystemd = "../x"\n' + LINE + METER, r"systemd: expected the name of a"),
        (
            '[credentials]\nfile = "a"\ntimeout_s = 5\n' + LINE + METER,
            r"timeout_s: counts only for a command",
        ),
        (
            LINE + METER + 'credentials = "north"',
            r":29: \[meter\] credentials: has no table \[credentials\]",
        ),
        (
            '[credentials]\nfile = "a"\n' + LINE + METER + 'credentials = "a"\npassword_file = "b"',
            r"\[meter\] password_file: stands beside credentials",
        ),
        (LINE + METER + "client_sap = 127", r"\[meter\] client_sap: expected .* from 1 to 126"),
        (LINE + METER + "client_sap = 0", r"\[meter\] client_sap: expected .* from 1 to 126"),
        (
            LINE + METER + 'device_address = "12345678"',
            r"\[meter\] device_address: counts only where the line has opening = \"mode-e\"",
        ),
        (
            LINE + 'opening = "mode-e"\n' + METER + 'device_address = "12-45"',
            r"\[meter\] device_address: expected 1 to 32 letters, digits or spaces, came '12-45'",
        ),
        (
            LINE + 'opening = "mode-e"\n' + _two('device_address = "12"\n', "1/18"),
            r"\[meter\] device_address: '12' is already used in line",
        ),
        (
            LINE + 'opening = "mode-e"\n' + _two("", "1/17"),
            r"\[meter\] server_address: '1/17' is already used in line",
        ),
        (LINE + 'framing = "hdlc"' + METER, r"framing: counts only where protocol = \"dlms-tcp\""),
        (LINE + 'opening = "mode-f"' + METER, r"opening: expected one of 'none', 'mode-e'"),
        (_TCP + 'opening = "mode-e"' + METER, r"opening: counts only where protocol = \"dlms\""),
        (_TCP + METER, r"server_address: expected a logical address such as \"1\" \(wrapper\)"),
        (_TCP.replace("gw:4059", "gw") + METER, r"\[line\] port: expected a gateway's host:port"),
        (_TCP + 'rs485 = "kernel"' + METER, r"\[line\] rs485: is no key of this table"),
    ],
)
def test_a_fault_of_agent_toml_names_line_and_key_and_shows_no_secret(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, text)
    assert _S not in whole_story(caught.value)


def test_a_line_over_tcp_knows_how_long_a_character_takes_behind_it(tmp_path: Path) -> None:
    address = METER.replace('"1/17"', '"1"')
    wrapper = load(tmp_path, _TCP + "baud = 300\n" + address).lines[0]
    hdlc = load(tmp_path, _TCP + 'framing = "hdlc"\nbaud = 1200\nparity = "E"\n' + METER).lines[0]
    assert (wrapper.endpoint, wrapper.char_s) == (("gw", 4059), 0.0)
    assert hdlc.char_s == pytest.approx(11 / 1200)


def test_a_system_title_is_8_bytes_of_hex(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    text = HEAD + LINE + METER
    path.write_text(text.replace('"data"\n', '"data"\ndlms_system_title = "4c53430102030405"\n'))
    assert load_config(path).dlms_system_title == b"LSC\1\2\3\4\5"
    path.write_text(text.replace('"data"\n', '"data"\ndlms_system_title = "4c5343"\n'))
    with pytest.raises(ConfigError, match=r":5: \[agent\] dlms_system_title: expected 8 bytes as"):
        load_config(path)
