"""A bench for the field commands: two served lines, keys that central made, one agent.toml."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.cli import main
from agent.run import Agent
from central.keys.authority import init_authority
from central.keys.device import issue_device
from hil.line.pty import PtyLine
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.security import MeterSecurity
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Recorded
from hil.meters.steady import Steady
from wire.clock import SystemClock

BAUD = 115_200
UNITS = {3: "eastron_sdm630", 5: "eastron_sdm120"}
DLMS_SERIALS = {"1/17": "D0000017", "1/20": "D0000020"}


@dataclass
class Bench:
    """Keys, lines, configuration; the broker is away, which the field commands do not mind."""

    folder: Path
    config: Path
    keys: Path

    def say(self, *words: str) -> int:
        return main([*words, "--config", str(self.config)])

    def edit(self, before: str, after: str) -> None:
        text = self.config.read_text()
        assert before in text, before
        self.config.write_text(text.replace(before, after, 1))

    def line_of(self, text: str) -> int:
        return self.config.read_text()[: self.config.read_text().index(text)].count("\n") + 1


def modbus_line(folder: Path) -> PtyLine:
    meters = {unit: ModbusMeter(model, Steady(f"M{unit}")) for unit, model in UNITS.items()}
    return PtyLine(folder / "modbus", ModbusBus(meters, SystemClock()), baud=BAUD)


class Recording(Steady):
    """A steady face that has recorded every quarter hour."""

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> list[Recorded]:
        ends = range(first_end_utc_s + -first_end_utc_s % 900, last_end_utc_s + 1, 900)
        energies = (self.import_wh, self.export_wh, self.import_varh)
        return [Recorded(end, *energies, 2304, 500) for end in ends]


def dlms_line(folder: Path) -> PtyLine:
    meters = {address: DlmsMeter(Recording(serial)) for address, serial in DLMS_SERIALS.items()}
    return PtyLine(folder / "dlms", DlmsBus(meters, SystemClock()), baud=BAUD)


ENCRYPTION_KEY, AUTHENTICATION_KEY = bytes(range(16)), bytes(range(16, 32))


def ciphered_line(folder: Path, addresses: Sequence[str] = ("1/17",)) -> PtyLine:
    """Meters that want HLS-GMAC and global ciphering, all with the same keys."""
    meters = {
        address: DlmsMeter(
            Recording(f"D00000{address[2:]}"),
            security=MeterSecurity(ENCRYPTION_KEY, AUTHENTICATION_KEY),
        )
        for address in addresses
    }
    return PtyLine(folder / "dlms", DlmsBus(meters, SystemClock()), baud=BAUD)


def give_keys(bench: Bench, meter: str) -> None:
    """A meter becomes a ciphered one whose keys are in a credentials file."""
    secrets = bench.folder / "secrets.toml"
    secrets.write_text(
        f'[{meter}]\nencryption_key = "{ENCRYPTION_KEY.hex()}"\n'
        f'authentication_key = "{AUTHENTICATION_KEY.hex()}"\n'
    )
    secrets.chmod(0o600)
    before = f'id = "{meter}"\nline = "dlms-1"\nmodel = "idis_residential'
    bench.edit(before, f"{before}_gmac")
    address = f'"1/{meter[1:]}"\n'
    bench.edit(f'{address}password_file = "lls"', f'{address}credentials = "{meter}"')
    bench.edit("[broker]", '[credentials]\nfile = "secrets.toml"\n\n[broker]')


def prepare(folder: Path) -> Bench:
    place = init_authority(
        folder / "authority", "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time()
    )
    issue_device(place.directory, "t07", folder / "keys")
    issue_device(place.directory, "t08", folder / "other")
    (folder / "lls").write_text("loadscape\n")
    (folder / "lls").chmod(0o600)
    text = f"""\
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"
sample_s = 1
clock_trust = "system"

[broker]
host = "127.0.0.1"
port = 1
ca_file = "keys/ca.crt"
cert_file = "keys/tls.crt"
key_file = "keys/tls.key"

[keys]
sign_key_file = "keys/sign.key"
root_public_file = "keys/root.pub"
keyset_file = "keys/keyset.cose"

[[line]]
name = "modbus-1"
port = "{folder}/modbus"
protocol = "modbus"
baud = {BAUD}

[[line]]
name = "dlms-1"
port = "{folder}/dlms"
protocol = "dlms"
baud = {BAUD}
"""
    for unit, model in {**UNITS, 9: "eastron_sdm230"}.items():
        text += (
            f'\n[[meter]]\nid = "m{unit}"\nline = "modbus-1"\nmodel = "{model}"\nunit = {unit}\n'
        )
    for address in (*DLMS_SERIALS, "1/30"):
        text += (
            f'\n[[meter]]\nid = "d{address[2:]}"\nline = "dlms-1"\nmodel = "idis_residential"\n'
            f'server_address = "{address}"\npassword_file = "lls"\n'
        )
    (folder / "agent.toml").write_text(text)
    return Bench(folder, folder / "agent.toml", folder / "keys")


@dataclass
class Running:
    """An agent in a thread of this process."""

    agent: Agent
    thread: threading.Thread

    def until(self, true: Callable[[], bool], within_s: float = 15.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline_s, self.agent.faults.present()
            self.thread.join(0.02)
            assert self.thread.is_alive()

    def is_open(self, line: str) -> bool:
        return any(entry["open"] for entry in self.agent.state()["lines"] if entry["name"] == line)

    def count(self, name: str) -> float:
        return self.agent.counters.snapshot()[name]
