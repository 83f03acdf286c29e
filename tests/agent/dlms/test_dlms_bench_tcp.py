"""DLMS meters behind real sockets: the wrapper, and a transparent gateway with a serial line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agent.config import load_config
from agent.dlms.driver import DlmsDriver
from agent.driver import ReadError
from agent.drivers import build_driver, open_line
from agent.line.port import PortLost
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.security import MeterSecurity
from hil.meters.dlms.tcp import Faults, GatewaySession, Server, Session, WrapperSession, served
from tests.agent.dlms.conftest import NOW_UTC_S, StoppedClock

KEYS = bytes(range(16)), bytes(range(16, 32))
EDGE = NOW_UTC_S - NOW_UTC_S % 900
LONGEST_S = 1.5
"""Of one exchange, as the meter class of these tests says."""
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
file = "secrets.toml"
[[line]]
name = "net"
protocol = "dlms-tcp"
baud = 115200
"""
CLASS = 'title = "behind a network"\n[link]\nresponse_s = 0.3\nexchange_s = 1.5\n'


class There:
    """Two meters, one with a password and one with keys, and the agent's drivers for them."""

    def __init__(self, framing: str) -> None:
        security = MeterSecurity(*KEYS, heard=4000)
        self.framing = framing
        self.meters = [DlmsMeter(Climbing("LS0000001")), DlmsMeter(Climbing("LS0000002"))]
        self.meters[1].security = security
        self.clock = StoppedClock()
        by_address = {f"1/{17 + number}": meter for number, meter in enumerate(self.meters)}
        self._bus = DlmsBus(by_address, self.clock)

    def session(self) -> Session:
        if self.framing == "wrapper":
            return WrapperSession(dict(enumerate(self.meters, 1)), self.clock)
        return GatewaySession(self._bus, 10 / 115200)

    def drivers(self, folder: Path, port: int) -> list[DlmsDriver]:
        (folder / "secrets.toml").write_text(
            f'[lls]\npassword = "loadscape"\n[gmac]\nencryption_key = "{KEYS[0].hex()}"\n'
            f'authentication_key = "{KEYS[1].hex()}"\n'
        )
        (folder / "secrets.toml").chmod(0o600)
        text = f'{HEAD}port = "127.0.0.1:{port}"\nframing = "{self.framing}"\n'
        for number, name in enumerate(("lls", "gmac")):
            like = "idis_residential" + ("_gmac" if name == "gmac" else "")
            (folder / f"{name}.toml").write_text(f'like = "{like}"\n{CLASS}')
            address = str(number + 1) if self.framing == "wrapper" else f"1/{17 + number}"
            text += (
                f'[[meter]]\nid = "m{number}"\nline = "net"\nmodel = "{name}.toml"\n'
                f'server_address = "{address}"\ncredentials = "{name}"\n'
            )
        (folder / "agent.toml").write_text(text)
        config = load_config(folder / "agent.toml")
        (line,) = config.lines
        shared = open_line(line)
        found = []
        for meter in config.meters:
            driver = build_driver(config, line, meter, shared, self.clock)
            assert isinstance(driver, DlmsDriver)
            found.append(driver)
        return found

    def check(self, driver: DlmsDriver, number: int) -> None:
        """What the driver reads is what the meter shows and has written."""
        meter = self.meters[number]
        sample, shown = driver.sample(), meter.shown.registers(NOW_UTC_S)
        assert (sample.serial, sample.import_wh) == (meter.shown.serial, shown.import_wh)
        rows = driver.profile(EDGE - 95 * 900, EDGE)
        written = LoadProfile(meter, NOW_UTC_S).rows(EDGE - 95 * 900, EDGE)
        assert [(row.end_utc_s, row.import_wh, row.export_wh) for row in rows] == [
            (row.end_utc_s, row.import_wh, row.export_wh) for row in written
        ]
        assert len(rows) == 96


@pytest.fixture(params=["wrapper", "hdlc"])
def there(request: pytest.FixtureRequest) -> There:
    return There(request.param)


def test_two_meters_behind_one_address_are_read_in_turn(there, tmp_path):
    with served(there.session) as server:
        drivers = there.drivers(tmp_path, server.port)
        for number in (0, 1, 0):
            there.check(drivers[number], number)


def test_one_client_at_a_time_is_enough(there, tmp_path):
    with served(there.session, Faults(clients=1)) as server:
        drivers = there.drivers(tmp_path, server.port)
        for number in (0, 1):
            there.check(drivers[number], number)


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_connection_that_is_dropped_brings_no_wrong_value_and_the_next_read_connects_anew(
    there, tmp_path, after
):
    with served(there.session) as server:
        driver = there.drivers(tmp_path, server.port)[1]
        there.check(driver, 1)
        before = server.connections
        server.faults.drop_after = after
        # An error or the right values: where nothing was lost yet the driver connects anew itself.
        with suppress(ReadError, PortLost):
            there.check(driver, 1)
        assert server.faults.drop_after is None
        there.check(driver, 1)
        assert server.connections > before


def spent_s(action: Callable[[], object], *errors: type[Exception]) -> float:
    began_s = time.monotonic()
    with pytest.raises(errors):
        action()
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    "faults", [Faults(silent=True), Faults(cut_to=6), Faults(cut_to=20)], ids=lambda _: ""
)
def test_a_far_end_that_is_silent_or_sends_half_costs_its_deadline_and_no_wrong_value(
    there, tmp_path, faults
):
    with served(there.session, faults) as server:
        drivers = there.drivers(tmp_path, server.port)
        # A link has SNRM, DISC and AARQ; each has its own deadline.
        assert spent_s(drivers[0].sample, ReadError, PortLost) < 3 * LONGEST_S + 0.5
        server.faults = Faults()
        there.check(drivers[0], 0)


def test_a_gateway_that_is_full_or_gone_is_a_lost_line_until_it_is_back(there, tmp_path):
    with served(there.session, Faults(clients=0)) as server:
        driver = there.drivers(tmp_path, server.port)[0]
        assert spent_s(driver.sample, ReadError, PortLost) < 1.0
        server.faults.clients = 1
        there.check(driver, 0)
        port = server.port
    driver = there.drivers(tmp_path, port)[0]
    assert spent_s(driver.sample, PortLost) < 1.0


def test_a_server_ends_with_its_block_and_leaves_no_thread():
    before = threading.active_count()
    with served(lambda: WrapperSession({}, StoppedClock())) as server:
        assert isinstance(server, Server)
    assert threading.active_count() == before
