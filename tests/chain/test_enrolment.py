"""A concentrator's life: a token, its own keys, batches at central, three renewals in two months.

All processes see one date, which is moved on by weeks; lines, broker, collector,
TLS and certificates are the real ones. The enrolment server is a small one of the
tests, which enters into the centre's list what it issues.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import pytest
from cryptography import x509

from central.collect.journal import Batch, JournalReader
from central.durable import PUBLIC, write_file
from central.keys.authority import read_authority, rotate_epoch
from central.keys.device import revoke_device
from central.keys.place import (
    DeviceKey,
    EnrolledDevice,
    KeyPlace,
    read_devices,
    read_hex,
    write_devices_json,
)
from hil.site.ahead import Ahead
from hil.site.installation import Installation
from wire import est
from wire.enrolment import Request
from wire.envelope import DeviceSigner

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from est_bench import EstServer, serving

DAY_S = 86_400
STEP_DAYS = 22
"""A renewal is due between day 20 and 21 of a certificate."""
DEVICE, NAME = "t09", "demo-t09"
"""Not one of the town's: enrolled by a token, it reads the lines of the first."""
AGENT = f"agent-{DEVICE}"
PATIENCE_S = 60.0
RENEWALS = 3
REFUSED = "certificate verify failed"
"""What Mosquitto writes of a client whose certificate it does not take."""

pytestmark = pytest.mark.slow


@dataclass
class Life:
    """The installation, and what was seen of the device on its way."""

    site: Installation
    ahead: Ahead
    server: EstServer
    enrolled: subprocess.CompletedProcess[str] = field(init=False)
    """What `enrol` said."""
    delivered: list[Batch] = field(init=False)
    """What central had before the device was revoked."""
    last: dict[str, object] = field(init=False)
    """The agent's status then."""

    @property
    def config(self) -> Path:
        return self.site.layout.agent_config(DEVICE)

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the agent, by the date that all see."""
        command = [sys.executable, "-m", "agent.cli", *words, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def batches(self) -> list[Batch]:
        """What the collector has committed of the device, in its order."""
        reader = JournalReader(self.site.layout.central / "journal")
        try:
            found = reader.after(0, 1 << 30)
        finally:
            reader.close()
        return [batch for _, batch in found if batch.device == DEVICE]

    def signed(self) -> int:
        """By how many keys in all."""
        return len({batch.kid for batch in self.batches()})

    def status(self) -> dict[str, object]:
        path = self.site.layout.agent(DEVICE) / "data" / "status.json"
        status: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
        return status

    def until(self, true: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not true():
            self.site.processes.check()
            assert time.monotonic() < until_s, f"{what}: {self.status()}"
            time.sleep(0.1)  # other processes announce nothing to this one

    def move_on(self, days: int) -> None:
        """From now on all see a date that much later."""
        self.ahead.show(days * DAY_S)
        self.server.clock.utc_s = time.time() + days * DAY_S
        self.site.set_clock(self.server.clock.utc_s, 1.0)
        rotate_epoch(self.site.layout.keys, now_utc_s=self.server.clock.utc_s)


def register(place: KeyPlace, request: Request, certificate: x509.Certificate) -> None:
    """The centre accepts the key: the first alone, another beside the one that is in use."""
    kid, public, alg = request.sign_key.kid, request.sign_key.public, request.sign_key.alg
    devices = read_devices(place)
    serial = certificate.serial_number
    known = devices.get(DEVICE)
    if known is None:
        enrolled = EnrolledDevice(DEVICE, NAME, kid, public, alg, True, serial)
    else:
        used = known if known.renewed is None else known.with_key(known.renewed)
        enrolled = replace(used, renewed=DeviceKey(kid, public, alg, serial))
    table = write_devices_json("demo", {**devices, DEVICE: enrolled})
    write_file(place.devices, table, PUBLIC)


def write_config(site: Installation) -> None:
    """As that of the town's first concentrator, but for the keys."""
    text = site.layout.agent_config("t01").read_text()
    before, rest = text.split("\n[broker]\n")
    lines = rest[rest.index("\n[[line]]\n") :]
    folder = site.layout.agent(DEVICE)
    (folder / "data").mkdir(parents=True)
    agent = before.replace('"t01"', f'"{DEVICE}"')
    agent = agent.replace(str(site.layout.agent("t01")), str(folder))
    text = f'{agent}\n[keys]\nfolder = "keys"\n{lines}'
    site.layout.agent_config(DEVICE).write_text(text)


@pytest.fixture(scope="module")
def life(make_site, town_choice, tmp_path_factory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("enrolment")
    ahead = Ahead(folder / "ahead")
    now = int(time.time())
    choice = replace(
        town_choice,
        transformers=("t01",),
        meters_each=8,
        origin_utc_s=(now // DAY_S - 4) * DAY_S,
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in ahead.environment().items():
            monkeypatch.setenv(name, value)
        site: Installation = make_site(choice=choice, meter_hosts=1, start_utc_s=now)
        place = KeyPlace(site.layout.keys)
        write_config(site)
        with serving(
            folder,
            authority=read_authority(place),
            root=DeviceSigner(read_hex(place.root_seed, 32)),
            name=NAME,
            name_in_certificate=NAME,
            keyset_file=place.keyset,
            broker=("127.0.0.1", site.broker_port),
            registered=lambda request, issued: register(place, request, issued),
        ) as server:
            life = Life(site, ahead, server)
            live(life)
            yield life
            site.stop()


def live(life: Life) -> None:
    """Enrol, deliver, and renew as often as two months ask for."""
    site = life.site
    site.start_broker()
    site.start_meters()
    site.start_central(("collect",))
    life.enrolled = life.say("enrol", "--token", str(life.server.token), "--json")
    assert life.enrolled.returncode == 0, life.enrolled.stderr
    site.start_agent(DEVICE)
    life.until(lambda: bool(life.batches()), "the first batch")
    for renewal in range(1, RENEWALS + 1):
        life.move_on(renewal * STEP_DAYS)
        life.until(lambda count=renewal + 1: life.signed() == count, "the renewal")
    life.until(lambda: life.status()["outbox"] == 0, "the receipts")
    life.delivered = life.batches()
    life.last = life.status()
    log = site.layout.logs / "broker.log"
    assert REFUSED not in log.read_text()
    revoke_device(site.layout.keys, DEVICE)
    site.restart_broker()
    life.until(lambda: REFUSED in log.read_text(), "the broker's refusal")


def test_the_token_brings_keys_that_the_device_has_made_itself(life: Life) -> None:
    report = json.loads(life.enrolled.stdout)
    assert report["device"] == NAME
    assert report["kid"] == life.server.kids[0].hex()
    assert life.server.asked[:3] == [est.CACERTS, est.COMPANION, est.ENROLL]


def test_batches_are_signed_by_one_key_after_the_other_and_none_comes_back(life: Life) -> None:
    kids = [kid for kid, _ in groupby(batch.kid for batch in life.delivered)]
    assert kids == life.server.kids
    assert len(set(kids)) == 1 + RENEWALS


def test_the_chain_of_batches_goes_on_over_every_renewal(life: Life) -> None:
    batches = life.delivered
    assert len({batch.stream for batch in batches}) == 1
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))


def test_each_renewal_was_asked_for_once_under_the_certificate_before(life: Life) -> None:
    assert life.server.asked.count(est.REENROLL) == RENEWALS
    assert [len(asked) for asked in life.server.by_certificate.values()] == [1] * RENEWALS


def test_the_agent_holds_the_last_keys_alone_and_has_no_fault(life: Life) -> None:
    status = life.last
    assert {"renewal", "certificate", "broker", "down"}.isdisjoint(status["faults"])
    assert status["certificate_ends_utc_s"] > life.server.clock.utc_s + 29 * DAY_S
    folder = life.site.layout.agent(DEVICE) / "keys"
    assert len(list(folder.iterdir())) == 2, "current, and what it leads to"
    said = life.say("check", "--json")
    keys = [finding for finding in json.loads(said.stdout)["findings"] if finding["what"] == "keys"]
    assert life.server.kids[-1].hex() in keys[0]["says"]


def test_a_revoked_device_is_not_let_in_with_the_certificate_of_its_last_renewal(
    life: Life,
) -> None:
    life.until(lambda: life.status()["connected"] is False, "the agent's loss of the broker")
    assert life.batches() == life.delivered
    assert "broker" in life.status()["faults"]
