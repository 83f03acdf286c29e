"""DLMS meters behind a simulated optical head: the agent's opening and driver over a real PTY."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.config import load_config
from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import AnswerMalformed, DlmsError, NoAnswer
from agent.dlms.link.mode_e import Agreed, open_hdlc
from agent.driver import MeterSilent
from agent.drivers import build_driver, open_line
from agent.line.serial_port import SerialPort
from hil.line.mode_e import ModeE
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from wire.clock import SystemClock

RATES = {0: 300, 1: 600, 2: 1200, 3: 2400, 4: 4800, 5: 9600, 6: 19200}
LONGEST_S = 2 * (2 * 2.3 + 1.0)
"""Two tries, each with two answers of at most 2 s and the time of their characters."""


class NoMeters:
    def receive(self, data: bytes) -> list[Answer]:
        return []


def a_line(link: Path, head: ModeE, *, echoes: bool = False) -> PtyLine:
    line = PtyLine(link, head, baud=300, echoes=echoes)
    head.attach(line)
    return line


def opened(line: PtyLine, **how: str) -> Agreed | DlmsError:
    """What the agent's opening leads to; the port keeps the rate that was agreed."""
    with SerialPort(str(line.link)) as port:
        try:
            agreed = open_hdlc(port, name="meter 1", **how)
        except DlmsError as error:
            assert port.char_s == 10 / 300
            return error
        assert port.char_s == 10 / agreed.baud
        return agreed


def all_opened(lines: list[PtyLine], **how: str) -> list[Agreed | DlmsError]:
    """The openings of many lines side by side, each in its time."""

    def timed(line: PtyLine) -> Agreed | DlmsError:
        began_s = time.monotonic()
        found = opened(line, **how)
        assert time.monotonic() - began_s < LONGEST_S
        return found

    with served(*lines), ThreadPoolExecutor(len(lines)) as pool:
        return list(pool.map(timed, lines))


@pytest.mark.parametrize("fast", [False, True])
def test_every_rate_is_agreed_with_slow_and_quick_heads_with_and_without_parity(tmp_path, fast):
    heads = [
        ModeE(NoMeters(), fastest=code, fast=fast, parity=parity)
        for code in RATES
        for parity in (True, False)
    ]
    lines = [a_line(tmp_path / str(n), head) for n, head in enumerate(heads)]
    found = all_opened(lines)
    assert [each.baud for each in found if isinstance(each, Agreed)] == [
        baud for baud in RATES.values() for _ in range(2)
    ], found


def test_a_head_whose_adapter_echoes_is_opened_too(tmp_path):
    heads = [ModeE(NoMeters(), fastest=code, fast=fast) for code in (0, 5) for fast in (0, 1)]
    lines = [a_line(tmp_path / str(n), head, echoes=True) for n, head in enumerate(heads)]
    found = all_opened(lines)
    assert [each.baud for each in found if isinstance(each, Agreed)] == [300, 300, 9600, 9600]


@pytest.mark.parametrize("address", ["42", ""])
def test_leading_zeros_of_an_address_do_not_count_and_none_calls_every_meter(tmp_path, address):
    head = ModeE(NoMeters(), address="0042", fast=True)
    (found,) = all_opened([a_line(tmp_path / "line", head)], address=address)
    assert isinstance(found, Agreed)


def test_heads_that_fail_are_typed_errors_within_the_deadline_and_say_what_to_do(tmp_path):
    silent = PtyLine(tmp_path / "silent", NoMeters(), baud=300)
    other = a_line(tmp_path / "other", ModeE(NoMeters(), address="0815"))
    stays = [
        a_line(
            tmp_path / f"stays-{code}", ModeE(NoMeters(), address="42", fastest=code, stays=True)
        )
        for code in (2, 5)
    ]
    found = all_opened([silent, other, *stays], address="42")
    assert [type(each) for each in found[:2]] == [NoAnswer, NoAnswer]
    assert "expected its identification" in str(found[1])
    assert "device address" in str(found[1])
    for each in found[2:]:
        assert isinstance(each, NoAnswer | AnswerMalformed)
        assert "at the new rate" in str(each)


# --- the driver behind it

CONFIG = """\
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
name = "head"
port = "line"
protocol = "dlms"
baud = 19200
opening = "mode-e"
[[meter]]
id = "m1"
line = "head"
model = "meter.toml"
server_address = "1/17"
device_address = "42"
password_file = "lls"
"""


class Behind:
    """One meter behind a head, and what the agent makes of its configuration."""

    def __init__(self, folder: Path, *, echoes: bool = False, **head: bool | float) -> None:
        self.meter = DlmsMeter(Climbing())
        bus = DlmsBus({"1/17": self.meter}, SystemClock(), reaction_s=0.02)
        self.head = ModeE(bus, address="42", fastest=6, **head)
        self.line = a_line(folder / "line", self.head, echoes=echoes)
        (folder / "lls").write_text("loadscape\n")
        (folder / "lls").chmod(0o600)
        (folder / "meter.toml").write_text(
            'like = "idis_residential"\ntitle = "behind a head"\n[link]\nresponse_s = 0.5\n'
        )
        (folder / "agent.toml").write_text(
            CONFIG.replace('port = "line"', f'port = "{folder}/line"')
        )
        config = load_config(folder / "agent.toml")
        (line,), (meter,) = config.lines, config.meters
        self.port = open_line(line)
        driver = build_driver(config, line, meter, self.port, SystemClock())
        assert isinstance(driver, DlmsDriver)
        self.driver = driver


@pytest.fixture
def behind(tmp_path: Path) -> Callable[..., Behind]:
    return lambda **how: Behind(tmp_path, **how)


@pytest.mark.parametrize(
    ("how", "links"),
    [({"fast": True}, 2), ({"parity": False}, 1), ({"fast": True, "echoes": True}, 1)],
    ids=str,
)
def test_a_meter_is_read_again_and_again_each_link_with_an_opening_of_its_own(behind, how, links):
    there = behind(**how)
    with served(there.line):
        for openings in range(1, links + 1):
            sample = there.driver.sample()
            assert sample.serial == "LS0000001"
            shown = Climbing().registers(sample.at_utc_ms / 1000)
            assert abs(sample.import_wh - shown.import_wh) <= 5
            assert there.head.openings == openings
    there.port.close()


@pytest.mark.slow
def test_a_link_that_nobody_ended_costs_an_error_and_is_opened_after_the_inactivity(behind):
    there = behind(fast=True, inactivity_s=6.0)
    with served(there.line):
        with SerialPort(str(there.line.link)) as left:
            assert open_hdlc(left, name="one that vanished", address="42").baud == 19200
        with pytest.raises(MeterSilent, match="inactivity time"):
            there.driver.sample()
        assert there.driver.sample().serial == "LS0000001"
    there.port.close()
