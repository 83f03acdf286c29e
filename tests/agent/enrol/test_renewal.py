"""The running agent's renewals against an enrolment server over real TLS, by clocks that jump."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from est_bench import Clock, EstServer, config_of, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock_trust import AgentClock
from agent.config import AgentConfig
from agent.enrol import issue
from agent.enrol.enrolled import Validity, broker_of, key_folder_of
from agent.enrol.renewal import ALARM_S, WAIT_S, Renewal
from agent.health import Faults
from agent.keyring import Keyring
from agent.publish import tls_context
from agent.run import keyring_of
from central.keys.certificates import Authority
from wire import est
from wire.envelope import DeviceSigner

DAY_S = 86_400.0


@dataclass
class Device:
    """An enrolled device that looks after its certificate; nothing passes but what a test says."""

    config: AgentConfig
    server: EstServer
    system: Clock = field(default_factory=Clock)
    """What the machine's clock shows; a time server vouches for it."""
    boottime_s: float = 1000.0
    shares: list[tuple[float, float]] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    """What comes of chance next; the smallest if there is nothing."""
    taken: list[Validity] = field(default_factory=list)

    def __post_init__(self) -> None:
        issue.enrol(self.config, self.server.token, self.server.server, self.system.now_utc_s)
        self.clock = AgentClock(
            floor_utc_s=0.0,
            sources={"timesyncd": lambda: True},
            tell=lambda *_: None,
            system_utc_s=self.system.now_utc_s,
            boottime_s=lambda: self.boottime_s,
            boot=bytes(8),
        )
        self.faults = Faults()
        self.keyring: Keyring = keyring_of(self.config)
        self.first_kid = self.keyring.signer.kid
        self.start()

    def start(self) -> None:
        """As the agent does when it starts."""
        self.renewal = Renewal(
            self.config.broker.cert_file,
            partial(issue.renew, self.config, self.clock.now_utc_s),
            in_use=self._in_use,
            now_utc_s=self.clock.now_utc_s,
            faults=self.faults,
            monotonic_s=lambda: self.boottime_s,
            draw=self._draw,
        )

    def _in_use(self, validity: Validity) -> None:
        self.keyring.take_new_key()
        self.taken.append(validity)

    def _draw(self, least: float, most: float) -> float:
        self.shares.append((least, most))
        return self.draws.pop(0) if self.draws else least

    def pass_days(self, days: float) -> None:
        """Time passes, here and at the centre."""
        self.boottime_s += days * DAY_S
        self.system.utc_s += days * DAY_S
        self.server.clock.utc_s += days * DAY_S

    def jump_days(self, days: float) -> None:
        """The machine's clock is set, by whomever."""
        self.system.utc_s += days * DAY_S
        self.boottime_s += 1

    def look(self) -> None:
        """Look once, and let an attempt that begins come to its end."""
        self.boottime_s += 1.5
        self.clock.look()
        self.renewal.tick()
        for thread in threading.enumerate():
            if thread.name == "renewal":
                thread.join()
        self.renewal.tick()

    @property
    def kid(self) -> bytes:
        return self.keyring.signer.kid


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        yield Device(config_of(tmp_path), server)


def test_a_certificate_is_renewed_from_day_20_on_and_not_before(device: Device) -> None:
    device.look()
    device.pass_days(19.9)
    device.look()
    assert len(device.server.requests) == 1
    device.pass_days(0.2)
    device.look()
    assert len(device.server.requests) == 2
    assert device.taken[0].not_after_utc_s == pytest.approx(
        device.server.clock.utc_s + 30 * DAY_S, abs=2 * 3600
    )
    assert device.renewal.ends_utc_s == device.taken[0].not_after_utc_s
    device.look()
    assert len(device.server.requests) == 2


def test_a_renewal_has_two_new_keys_and_leaves_none_of_the_old(device: Device) -> None:
    device.pass_days(21)
    device.look()
    first, second = device.server.requests
    assert device.kid == second.sign_key.kid != first.sign_key.kid
    assert second.tls_public != first.tls_public
    folder = device.config.keys.folder
    assert folder is not None
    assert len(list(folder.glob("*/sign.key"))) == 2, "by its name and by the link to it"
    assert tls_context(broker_of(device.config)).get_ca_certs()
    assert keyring_of(device.config).signer.kid == device.kid


def test_three_renewals_follow_each_other_while_the_clock_jumps(device: Device) -> None:
    kids = [device.kid]
    # Time passes; then the clock is set back by years, back by days, forward, and right again.
    for days, jump in ((20.5, -400.0), (25.5, -5.0), (15.0, 6.0)):
        device.pass_days(days)
        for by in (jump, -jump):
            device.jump_days(by)
            device.look()
        kids.append(device.kid)
    assert len(set(kids)) == 4
    assert kids == device.server.kids
    assert device.faults.present() == {}
    assert device.renewal.ends_utc_s > device.server.clock.utc_s + 29 * DAY_S


def test_a_clock_that_jumps_beyond_the_end_is_an_alarm_and_heals_with_the_clock(
    device: Device,
) -> None:
    device.jump_days(90)
    device.look()
    assert "set this clock right" in device.faults.present()["renewal"]
    assert "has ended on" in device.faults.present()["certificate"]
    assert device.kid == device.first_kid, "what is not valid now does not come into use"
    device.jump_days(-90)
    device.look()
    assert "certificate" not in device.faults.present()
    device.pass_days(20.5)
    device.look()
    # The very request of the first try: another would look like a copy of the device.
    assert len(device.server.requests) == 2
    assert device.kid == device.server.kids[1]


def test_five_days_before_the_end_there_is_an_alarm_until_it_is_renewed(device: Device) -> None:
    device.server.refuse[est.REENROLL] = (503, "later")
    device.pass_days(24)
    device.look()
    assert "503 Service Unavailable: later" in device.faults.present()["renewal"]
    assert "certificate" not in device.faults.present()
    device.pass_days(6 - ALARM_S / DAY_S + 0.1)
    device.look()
    assert "ends on" in device.faults.present()["certificate"]
    device.server.refuse.clear()
    device.pass_days(1)
    device.look()
    device.look()
    assert device.faults.present() == {}


def test_after_the_end_the_server_refuses_and_the_agent_says_what_to_do(device: Device) -> None:
    device.pass_days(31)
    device.look()
    assert "401" in device.faults.present()["renewal"]
    assert "enrol anew with a token" in device.faults.present()["certificate"]


def test_tries_wait_twice_as_long_each_time_with_jitter_up_to_six_hours(device: Device) -> None:
    centre = key_folder_of(device.config.keys).current
    assert centre is not None
    text = centre.centre.read_text()
    centre.centre.write_text(text.replace(device.server.server, "localhost:1"))
    device.shares.clear()
    device.pass_days(20)
    for _ in range(12):
        device.look()
        device.pass_days(0.3)
    longest = [most for _, most in device.shares]
    assert longest == [min(WAIT_S[1], 60.0 * 2**k) for k in range(len(longest))]
    assert longest[-1] == WAIT_S[1]
    assert len(longest) == 12


def test_no_try_comes_before_its_time(device: Device) -> None:
    device.server.refuse[est.REENROLL] = (503, "later")
    device.pass_days(20)
    device.draws = [500.0]
    device.look()
    asked = len(device.server.asked)
    device.boottime_s += 490
    device.look()
    assert len(device.server.asked) == asked
    device.boottime_s += 20
    device.look()
    assert len(device.server.asked) > asked


def test_a_fleet_that_was_enrolled_together_comes_spread_over_a_day(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        device = Device(config_of(tmp_path), server)
        assert device.shares == [(0.0, pytest.approx(1 / 30))]
        device.draws = [1 / 30]
        device.start()
        device.pass_days(20.9)
        device.look()
        assert len(server.requests) == 1
        device.pass_days(0.2)
        device.look()
        assert len(server.requests) == 2


def test_a_server_of_another_authority_or_root_renews_nothing(device: Device) -> None:
    device.pass_days(20)
    before = device.server.root
    device.server.root = DeviceSigner(os.urandom(32))
    device.look()
    assert "the root's key has changed" in device.faults.present()["renewal"]
    device.server.root = before
    other = Authority.make("demo")
    forged = x509.load_pem_x509_certificate(other.issue_client("demo-t01", 30).certificate)
    device.server.spoil[est.REENROLL] = est.certificates_body([forged])
    device.pass_days(1)
    device.look()
    assert "not signed by the centre's authority" in device.faults.present()["renewal"]
    assert device.kid == device.first_kid


def test_an_agent_with_a_bundle_has_the_alarm_and_asks_nobody(device: Device) -> None:
    renewal = Renewal(
        device.config.broker.cert_file,
        None,
        in_use=lambda _: None,
        now_utc_s=device.clock.now_utc_s,
        faults=device.faults,
        monotonic_s=lambda: device.boottime_s,
    )
    device.pass_days(26)
    device.clock.look()
    renewal.tick()
    assert "copy a new bundle of the centre" in device.faults.present()["certificate"]
    assert len(device.server.asked) == 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.3, 5.0, 21.0])),
        st.tuples(st.just("jump"), st.sampled_from([-300.0, -10.0, 10.0, 45.0, 300.0])),
        st.tuples(st.sampled_from(["lose", "answer", "refuse", "restart"]), st.just(0.0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whatever_is_lost_and_however_the_clock_jumps_no_key_asks_for_two_certificates(
    steps: list[tuple[str, float]],
) -> None:
    """The centre takes a second request by one key for a copy of the device."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with serving(folder / "server") as server:
            device = Device(config_of(folder), server)
            for what, days in steps:
                match what:
                    case "pass":
                        device.pass_days(days)
                    case "jump":
                        device.jump_days(days)
                    case "lose":
                        server.lose.add(est.REENROLL)
                    case "refuse":
                        server.refuse[est.REENROLL] = (403, "no")
                    case "answer":
                        server.lose.clear()
                        server.refuse.clear()
                    case "restart":
                        device.start()
                device.look()
                assert device.kid == keyring_of(device.config).signer.kid
                assert all(len(digests) == 1 for digests in server.by_certificate.values())
            server.lose.clear()
            server.refuse.clear()
            device.system.utc_s = server.clock.utc_s
            device.pass_days(0.3)
            device.look()
            ended = server.clock.utc_s > device.renewal.ends_utc_s
            assert ended or "renewal" not in device.faults.present()
