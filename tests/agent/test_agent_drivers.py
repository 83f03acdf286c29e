"""Which driver a configured meter gets, and what is said when the two do not fit."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from agent.config import AgentConfig, ConfigError, load_config
from agent.driver import Driver
from agent.drivers import build_driver, open_line
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.gateway import TcpGateway
from wire.clock import SystemClock

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

[[line]]
name = "l"
port = "/dev/ttyUSB0"
protocol = "modbus"

[[meter]]
id = "m1"
line = "l"
unit = 3
"""


def config(folder: Path, text: str) -> AgentConfig:
    file = folder / "agent.toml"
    file.write_text(text)
    return load_config(file)


def driver(folder: Path, text: str) -> Driver:
    there = config(folder, text)
    (line,), (meter,) = there.lines, there.meters
    return build_driver(there, line, meter, open_line(line), SystemClock())


def test_a_profile_of_ones_own_lies_beside_the_configuration(tmp_path: Path) -> None:
    shipped = resources.files("agent.modbus").joinpath("profiles", "eastron_sdm230.toml")
    (tmp_path / "mine").mkdir()
    text = shipped.read_text(encoding="utf-8").replace("eastron_sdm230", "mine", 1)
    (tmp_path / "mine" / "meter.toml").write_text(text, encoding="utf-8")
    there = driver(tmp_path, HEAD + 'model = "mine/meter.toml"\n')
    assert isinstance(there, ModbusDriver)
    assert there.reads


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            'model = "eastron_sdm631"',
            r"agent\.toml:26: \[meter\] model: meter m1 .*'eastron_sdm631': expected one of",
        ),
        (
            'model = "mine.toml"',
            r"agent\.toml:26: \[meter\] model: .*mine\.toml: expected a readable profile",
        ),
        (
            'model = "eastron_sdm630"\ncurrent_ratio = "250/5"',
            r"agent\.toml:27: \[meter\] current_ratio: .*came 50, but .* primary values already",
        ),
        (
            'model = "eastron_sdm630"\nvoltage_ratio = 100',
            r"agent\.toml:27: \[meter\] voltage_ratio: .*came 100, but",
        ),
    ],
    ids=["no such model", "no such file", "current ratio", "voltage ratio"],
)
def test_a_meter_that_does_not_fit_is_named_with_file_line_and_key(
    tmp_path: Path, lines: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        driver(tmp_path, HEAD + lines + "\n")


def test_a_ratio_is_taken_where_the_meter_may_count_the_secondary_side(tmp_path: Path) -> None:
    there = driver(tmp_path, HEAD + 'model = "abb_b23_b24"\ncurrent_ratio = "250/5"\n')
    assert isinstance(there, ModbusDriver)


def test_a_gateway_is_planned_for_by_the_line_behind_it(tmp_path: Path) -> None:
    text = HEAD.replace('"modbus"', '"modbus-tcp"\nbaud = 2400\nparity = "E"')
    text = text.replace("/dev/ttyUSB0", "gateway.example:502") + 'model = "eastron_sdm230"\n'
    there = config(tmp_path, text)
    gateway = open_line(there.lines[0])
    assert isinstance(gateway, TcpGateway)
    assert (gateway.path, gateway.char_s) == ("gateway.example:502", 11 / 2400)
    behind = driver(tmp_path, text)
    assert isinstance(behind, ModbusDriver)
    assert behind.cost.char_s == 11 / 2400


def test_a_serial_line_has_a_serial_port(tmp_path: Path) -> None:
    there = config(tmp_path, HEAD + 'model = "eastron_sdm230"\n')
    port = open_line(there.lines[0])
    assert isinstance(port, SerialPort)
    assert (port.path, port.char_s) == ("/dev/ttyUSB0", 10 / 9600)


def test_pymodbus_is_loaded_only_when_a_gateway_is_opened(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from agent.config import load_config
from agent.drivers import build_driver, open_line
from wire.clock import SystemClock

config = load_config(Path(sys.argv[1]))
(line,), (meter,) = config.lines, config.meters
port = open_line(line)
build_driver(config, line, meter, port, SystemClock())
print("pymodbus" in sys.modules)
try:
    port.open()
except Exception as error:
    print(type(error).__name__)
print("pymodbus" in sys.modules)
"""
    for text, loaded in (
        (HEAD, "False"),
        (HEAD.replace('"modbus"', '"modbus-tcp"').replace("/dev/ttyUSB0", "127.0.0.1:9"), "True"),
    ):
        config(tmp_path, text.replace("/dev/ttyUSB0", "/dev/none") + 'model = "eastron_sdm230"\n')
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "agent.toml")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["False", "PortLost", loaded], done.stderr
