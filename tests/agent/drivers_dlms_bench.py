"""An agent.toml of one DLMS line, and the secrets of its meters."""

from __future__ import annotations

from pathlib import Path

from agent.config import AgentConfig, load_config
from agent.driver import Driver
from agent.drivers import build_driver, open_line
from wire.clock import SystemClock

GUEK = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
GAK = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
PASSWORD = "Sesam-oeffne-dich"
SECRETS = f"""\
[gmac]
encryption_key = "{GUEK}"
authentication_key = "{GAK}"

[long]
encryption_key = "{GUEK * 2}"
authentication_key = "{GAK * 2}"

[lls]
password = "{PASSWORD}"
"""
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

[credentials]
file = "meters.toml"

[[line]]
name = "l"
"""
SERIAL = 'port = "/dev/ttyUSB0"\nprotocol = "dlms"\n'
WRAPPER = 'port = "127.0.0.1:4059"\nprotocol = "dlms-tcp"\n'
FILE = 'file = "meters'
OVER_HDLC = WRAPPER + 'framing = "hdlc"\nbaud = 2400\n'


def config(folder: Path, line: str, *meters: str) -> AgentConfig:
    secrets = folder / "meters.toml"
    if not secrets.exists():
        secrets.write_text(SECRETS)
        secrets.chmod(0o600)
    text = HEAD + line
    for number, meter in enumerate(meters):
        text += f'\n[[meter]]\nid = "m{number}"\nline = "l"\n{meter}'
    (folder / "agent.toml").write_text(text)
    return load_config(folder / "agent.toml")


def meter(model: str, credentials: str | None, address: str = "1/17", more: str = "") -> str:
    named = f'credentials = "{credentials}"\n' if credentials else ""
    return f'model = "{model}"\nserver_address = "{address}"\n{named}{more}'


def drivers(there: AgentConfig) -> list[Driver]:
    (line,) = there.lines
    port = open_line(line)
    return [build_driver(there, line, meter, port, SystemClock()) for meter in there.meters]
