"""A concentrator's life: a token, its own keys, batches at central, three renewals in two months.

All processes see one date, which is moved on by weeks; lines, broker, collector,
enrolment server, TLS and certificates are the real ones.
"""

from __future__ import annotations

import json
import sqlite3
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
from central.enrol.ledger import EnrolmentLedger, Given
from central.keys.authority import rotate_epoch
from central.keys.place import KeyPlace, read_devices
from hil.site.ahead import Ahead
from hil.site.installation import Installation
from hil.site.ports import free_port, is_free

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
    utc_s: float
    """The date that all see."""
    enrolled: subprocess.CompletedProcess[str] = field(init=False)
    """What `enrol` said."""
    delivered: list[Batch] = field(init=False)
    """What central had before the device was revoked."""
    last: dict[str, object] = field(init=False)
    """The agent's status then."""
    dropped_s: float = field(init=False)
    """From the command to the end of the live connection."""

    @property
    def config(self) -> Path:
        return self.site.layout.agent_config(DEVICE)

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the agent, by the date that all see."""
        command = [sys.executable, "-m", "agent.cli", *words, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def centre(self, *words: str) -> dict[str, object]:
        """A command of the centre, answered as JSON."""
        config = str(self.site.layout.central_config)
        command = [sys.executable, "-m", "central.cli", *words, "--json", "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def given(self) -> list[Given]:
        """The certificates that the centre has given, oldest first."""
        ledger = EnrolmentLedger(KeyPlace(self.site.layout.keys).enrol_ledger)
        found = ledger.all_given()
        ledger.close()
        return found

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
        self.utc_s = time.time() + days * DAY_S
        self.site.set_clock(self.utc_s, 1.0)
        rotate_epoch(self.site.layout.keys, now_utc_s=self.utc_s)


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
        write_config(site)
        life = Life(site, ahead, now)
        live(life)
        yield life
        site.stop()


def start_enrolment(life: Life) -> None:
    """The centre's server, as its configuration says."""
    site, port = life.site, free_port()
    broker = site.processes.pid("broker")
    with site.layout.central_config.open("a") as config:
        config.write(
            f'\n[enrol]\nhost = "127.0.0.1"\nport = {port}\nnames = ["localhost"]\n'
            f'broker_host = "127.0.0.1"\nreload_broker = ["kill", "-HUP", "{broker}"]\n'
        )
    words = ["enrol", "serve", "--config", str(site.layout.central_config)]
    site.processes.start("enrol", [sys.executable, "-m", "central.cli", *words])
    life.until(lambda: not is_free(port), "the enrolment server")


def live(life: Life) -> None:
    """Enrol, deliver, and renew as often as two months ask for."""
    site = life.site
    site.start_broker()
    site.start_meters()
    site.start_central(("collect",))
    start_enrolment(life)
    token = str(life.centre("enrol", "token", DEVICE)["token"])
    life.enrolled = life.say("enrol", "--token", token, "--json")
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
    began_s = time.monotonic()
    assert life.centre("enrol", "revoke", DEVICE)["dropped"] is True
    life.until(lambda: life.status()["connected"] is False, "the end of the live connection")
    life.dropped_s = time.monotonic() - began_s
    life.until(lambda: REFUSED in log.read_text(), "the broker's refusal")


def test_the_token_brings_keys_that_the_device_has_made_itself(life: Life) -> None:
    report = json.loads(life.enrolled.stdout)
    assert report["device"] == NAME
    first = life.given()[0]
    assert report["kid"] == first.kid.hex()
    assert (first.device, first.leave) == (DEVICE, "token")


def test_batches_are_signed_by_one_key_after_the_other_and_none_comes_back(life: Life) -> None:
    kids = [kid for kid, _ in groupby(batch.kid for batch in life.delivered)]
    assert kids == [given.kid for given in life.given()]
    assert len(set(kids)) == 1 + RENEWALS


def test_the_chain_of_batches_goes_on_over_every_renewal(life: Life) -> None:
    batches = life.delivered
    assert len({batch.stream for batch in batches}) == 1
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))


def test_each_renewal_was_asked_for_once_under_the_certificate_before(life: Life) -> None:
    given = life.given()
    serials = [str(x509.load_der_x509_certificate(one.certificate).serial_number) for one in given]
    assert [one.leave for one in given] == ["token", *serials[:-1]]
    assert read_devices(KeyPlace(life.site.layout.keys))[DEVICE].quarantined == ""


def test_the_collector_has_retired_each_key_that_was_followed(life: Life) -> None:
    fleet = sqlite3.connect(life.site.layout.central / "journal" / "fleet.db")
    retired = {kid for (kid,) in fleet.execute("select kid from retired")}
    fleet.close()
    assert retired == {one.kid for one in life.given()[:-1]}


def test_the_agent_holds_the_last_keys_alone_and_has_no_fault(life: Life) -> None:
    status = life.last
    assert {"renewal", "certificate", "broker", "down"}.isdisjoint(status["faults"])
    assert status["certificate_ends_utc_s"] > life.utc_s + 29 * DAY_S
    folder = life.site.layout.agent(DEVICE) / "keys"
    assert len(list(folder.iterdir())) == 2, "current, and what it leads to"
    said = life.say("check", "--json")
    keys = [finding for finding in json.loads(said.stdout)["findings"] if finding["what"] == "keys"]
    assert life.given()[-1].kid.hex() in keys[0]["says"]


def test_revoking_ends_the_live_connection_and_it_does_not_come_back(life: Life) -> None:
    assert life.dropped_s < 10
    assert life.status()["connected"] is False
    assert life.batches() == life.delivered
    assert "broker" in life.status()["faults"]
