from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from agent.config import AgentConfig, ConfigError, load_config

GOOD = """\
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"

[broker]
host = "127.0.0.1"
port = 8883
ca_file = "ca.crt"
cert_file = "tls.crt"
key_file = "tls.key"

[keys]
sign_key_file = "sign.key"
root_public_file = "root.pub"
keyset_file = "keyset.cose"

[[line]]
name = "modbus-1"
port = "/dev/ttyUSB0"
protocol = "modbus"
baud = 19200

[[line]]
name = "dlms-1"
port = "/dev/ttyUSB1"
protocol = "dlms"

[[meter]]
id = "m000123"
line = "modbus-1"
model = "eastron_sdm630"
unit = 3

[[meter]]
id = "m000124"
line = "dlms-1"
model = "idis_residential"
server_address = "1/17"
password_file = "lls.password"
"""


def load(folder: Path, text: str) -> AgentConfig:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_config(path)


def test_a_full_configuration_becomes_values_with_paths_beside_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)

    assert config.common_name == "demo-t07"
    assert config.data_dir == tmp_path / "data"
    assert config.interval_s == 900
    assert [line.baud for line in config.lines] == [19200, 9600]
    assert config.meters_of("modbus-1")[0].unit == 3
    assert config.meters_of("dlms-1")[0].password_file == tmp_path / "lls.password"


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ('device = "t07"', 'device = "t-07"', r"agent.toml:3: \[agent\] device: .* rename it"),
        ("baud = 19200", "baud = 5", r":22: \[line\] baud: expected a whole number from 300"),
        ("baud = 19200", "boud = 19200", r":22: \[line\] boud: is no key .* spelling"),
        ("unit = 3", "", r":29: \[meter\] unit: is missing; add unit"),
        ('line = "dlms-1"', 'line = "dlms-2"', r"'dlms-2' is no \[\[line\]\] .*dlms-1, modbus-1"),
        ('id = "m000124"', 'id = "m000123"', r":36: \[meter\] id: .* already used in line 30"),
        ('"1/17"', '"1-17"', r':39: \[meter\] server_address: expected an address such as "1/17"'),
        ('"dlms"', '"dl645"', r"\[line\] protocol: expected one of 'modbus', 'modbus-tcp', 'dlms'"),
        (
            "unit = 3",
            "unit = 3\nserial = ' '",
            r":34: \[meter\] serial: expected 1 to 48 ",
        ),
        ("unit = 3", 'unit = 3\ncurrent_ratio = "250/0"', r":34: \[meter\] current_ratio: .*250/5"),
        ("unit = 3", "unit = 3\nvoltage_ratio = -1", r":34: \[meter\] voltage_ratio: .* came -1"),
        (
            "unit = 3",
            "unit = 3\ncurrent_ratio = true",
            r"current_ratio: expected a positive",
        ),
        ("baud = 19200", 'rs485 = "chip"', r":22: \[line\] rs485: expected one of 'adapter', 'ker"),
        ("baud = 19200", "rts_after_ms = 1", r":22: \[line\] rts_after_ms: counts only .*kernel"),
        ('"modbus"', '"modbus-tcp"', r":20: \[line\] port: expected a gateway's host:port"),
        ('ca_file = "ca.crt"', "ca_file = 7", r":9: \[broker\] ca_file: expected text in quotes"),
        ("[keys]", "[kees]", r":13: \[kees\]: is no table"),
        ("[agent]", "[agent", r"agent.toml: not TOML"),
    ],
)
def test_an_error_names_file_line_key_and_remedy(
    tmp_path: Path, was: str, now: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path, GOOD.replace(was, now, 1))


def test_a_transformers_ratio_is_a_number_or_primary_over_secondary(tmp_path: Path) -> None:
    for text, ratio in (('"250/5"', 50), ("40", 40), ("2.5", Fraction(5, 2)), ('"110/0.1"', 1100)):
        config = load(tmp_path, GOOD.replace("unit = 3", f"unit = 3\ncurrent_ratio = {text}"))
        assert config.meters[0].current_ratio == ratio
        assert config.meters[0].voltage_ratio == 1


def test_a_gateway_is_a_line_with_host_and_port(tmp_path: Path) -> None:
    for port, endpoint in (
        ("gateway.example:502", ("gateway.example", 502)),
        ("[fe80::1]:1502", ("fe80::1", 1502)),
    ):
        text = GOOD.replace("/dev/ttyUSB0", port).replace('"modbus"', '"modbus-tcp"')
        line = load(tmp_path, text).lines[0]
        assert (line.protocol, line.endpoint) == ("modbus-tcp", endpoint)


def test_the_kernel_switches_the_line_when_it_is_told_to(tmp_path: Path) -> None:
    told = 'rs485 = "kernel"\nrts_high_while_sending = false\nrts_before_ms = 2'
    line = load(tmp_path, GOOD.replace("baud = 19200", told)).lines[0]
    assert (line.rs485, line.rts_high_while_sending) == ("kernel", False)
    assert (line.rts_before_ms, line.rts_after_ms) == (2, 0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read .* --config"):
        load_config(tmp_path / "nowhere.toml")


def test_two_meters_on_one_address_are_refused(tmp_path: Path) -> None:
    twin = '\n[[meter]]\nid = "m9"\nline = "modbus-1"\nmodel = "eastron_sdm630"\nunit = 3\n'
    with pytest.raises(ConfigError, match=r"unit: 3 is already used in line 33"):
        load(tmp_path, GOOD + twin)
