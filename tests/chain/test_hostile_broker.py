"""A broker in the wrong hands reads nothing, forges nothing, deletes nothing, and is seen."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from central.keys.authority import rotate_epoch
from central.keys.epochs import EpochKeys
from central.keys.place import KeyPlace, read_keyset
from central.metrics import MetricSet
from hil.attack.hostile_broker import Middle, Said, honest, hostile_broker
from hil.attack.meddling import flipped, repeated, swapped, withheld
from hil.proof import prove
from hil.site.installation import Installation
from hil.site.passing import pass_until, recovered, settle, wait_for
from wire import cbor, topics
from wire.block import decode_block
from wire.envelope import BLOCK, DeviceSigner, chain_hash, open_sealed, read_header
from wire.receipt import Receipt, sign_receipt, verify_receipt
from wire.roster import Roster, varint

pytestmark = pytest.mark.slow
SPEED = 240.0
QUARTER_S = 900
PATIENCE_S = 60.0
ONE, OTHER = "t01", "t02"
UP = {device: topics.up(topics.common_name("demo", device)) for device in (ONE, OTHER)}
DOWN = {device: topics.down(topics.common_name("demo", device)) for device in (ONE, OTHER)}


@dataclass
class Siege:
    """An installation whose agents and collector know no broker but the hostile one."""

    site: Installation
    middle: Middle
    first_end_utc_s: int

    def status(self, device: str) -> dict[str, Any]:
        path = self.site.layout.agent(device) / "data" / "status.json"
        status: dict[str, Any] = json.loads(path.read_text())
        return status

    def count(self, device: str, name: str) -> int:
        return int(self.status(device)["counters"][name])

    def refused(self, device: str, reason: str) -> int:
        """Messages on the device's topic that the collector has put into quarantine."""
        found = 0
        for day in (self.site.layout.central / "journal").glob("????-??-??.db"):
            with closing(sqlite3.connect(f"{day.absolute().as_uri()}?mode=ro", uri=True)) as base:
                (count,) = base.execute(
                    "select count(*) from quarantine where topic = ? and reason = ?",
                    (UP[device], reason),
                ).fetchone()
                found += count
        return found

    def until_more(self, count: Callable[[], int], what: str) -> None:
        """Wait until it has grown by one."""
        before = count()
        wait_for(self.site, lambda: count() > before, PATIENCE_S, what)

    def heal(self) -> None:
        """Let everything pass, and wait until all that was withheld is at the centre."""
        self.middle.meddle(honest)
        self.site.set_speed(SPEED)
        last_end_utc_s = (int(self.site.clock.now_utc_s()) // QUARTER_S + 2) * QUARTER_S
        pass_until(self.site, last_end_utc_s + 60)
        settle(self.site, last_end_utc_s)


@pytest.fixture(scope="module")
def siege(make_site, town_choice) -> Iterator[Siege]:
    site: Installation = make_site(choice=replace(town_choice, meters_each=8), recover_days=1)
    with hostile_broker(KeyPlace(site.layout.keys), site.root / "hostile") as middle:
        for config, port in (
            (site.layout.central_config, middle.collector_port),
            *((site.layout.agent_config(device), middle.agents_port) for device in site.devices),
        ):
            ours = f"port = {site.broker_port}\n"
            assert ours in config.read_text()
            config.write_text(config.read_text().replace(ours, f"port = {port}\n"))
        site.start_meters()
        site.start_central()
        site.start_agents()
        wait_for(site, lambda: recovered(site), 90.0, "the recovery of a day")
        start_utc_s = site.settings.start_utc_s
        site.set_speed(SPEED)
        yield Siege(site, middle, (start_utc_s // QUARTER_S + 1) * QUARTER_S)
        site.stop()


@pytest.fixture(autouse=True)
def honest_again(siege: Siege) -> None:
    """Each attack begins with a broker that hands everything on."""
    siege.middle.meddle(honest)
    siege.site.set_speed(SPEED)


def test_a_flipped_bit_in_a_batch_is_refused_by_its_signature(siege: Siege) -> None:
    siege.middle.meddle(flipped(up=True))
    siege.until_more(lambda: siege.refused(ONE, "signature"), "a refused batch")


def test_a_flipped_bit_in_a_receipt_deletes_nothing(siege: Siege) -> None:
    siege.middle.meddle(flipped(up=False))
    siege.until_more(lambda: siege.count(ONE, "receipts_refused_total"), "a refused receipt")
    status = siege.status(ONE)
    assert status["outbox"] > 0
    assert "down" in status["faults"]


@pytest.mark.parametrize("up", [True, False], ids=["batches", "receipts"])
def test_while_all_is_withheld_the_outbox_keeps_it_and_says_so(siege: Siege, up: bool) -> None:
    siege.middle.meddle(withheld(up=up))
    wait_for(siege.site, lambda: siege.status(ONE)["outbox"] >= 3, PATIENCE_S, "a full outbox")
    receipted = siege.count(ONE, "batches_receipted_total")
    siege.until_more(lambda: siege.status(ONE)["outbox"], "one batch more")
    assert siege.count(ONE, "batches_receipted_total") == receipted


def test_old_batches_and_receipts_in_reverse_order_lose_and_double_nothing(siege: Siege) -> None:
    old = [said for said in siege.middle.seen if said.topic in {UP[ONE], DOWN[ONE]}][-40:]
    assert {said.up for said in old} == {True, False}
    siege.middle.meddle(repeated(old))
    siege.until_more(lambda: siege.count(ONE, "rows_total"), "an interval more")
    siege.heal()
    _is_whole(siege)
    assert "rollback" not in siege.status(ONE)["faults"]


def test_a_batch_under_another_devices_name_is_refused(siege: Siege) -> None:
    siege.middle.meddle(swapped({UP[ONE]: UP[OTHER], UP[OTHER]: UP[ONE]}))
    siege.until_more(lambda: siege.refused(OTHER, "wrong_device"), "a refused batch")


def test_another_devices_receipt_is_refused(siege: Siege) -> None:
    siege.middle.meddle(swapped({DOWN[ONE]: DOWN[OTHER], DOWN[OTHER]: DOWN[ONE]}))
    siege.until_more(lambda: siege.count(OTHER, "receipts_refused_total"), "a refused receipt")
    assert siege.status(OTHER)["outbox"] > 0


def test_a_receipt_that_the_broker_signs_itself_deletes_nothing(siege: Siege) -> None:
    siege.middle.meddle(withheld(up=False))
    wait_for(siege.site, lambda: siege.status(ONE)["outbox"] >= 2, PATIENCE_S, "an outbox")
    # Right in all that the broker can see and compute: only the signature is not the centre's.
    sealed = next(said.payload for said in reversed(siege.middle.seen) if said.topic == UP[ONE])
    header = read_header(sealed)
    covering = replace(
        _newest_receipt(siege),
        stream=header.stream,
        upto=header.seq,
        hash_at_upto=chain_hash(sealed),
    )
    forged = sign_receipt(covering, DeviceSigner(bytes(32)))
    before = siege.status(ONE)
    siege.middle.say(Said(DOWN[ONE], forged))
    siege.until_more(lambda: siege.count(ONE, "receipts_refused_total"), "a refused receipt")
    after = siege.status(ONE)
    assert after["outbox"] >= before["outbox"]


def test_an_older_keyset_is_refused(siege: Siege) -> None:
    place = KeyPlace(siege.site.layout.keys)
    old = place.keyset.read_bytes()
    rotate_epoch(place.directory, now_utc_s=siege.site.clock.now_utc_s())
    version = read_keyset(place).version
    wait_for(
        siege.site, lambda: siege.status(ONE)["keyset"] == version, PATIENCE_S, "the new keyset"
    )
    siege.middle.say(Said(DOWN[ONE], old))
    siege.until_more(lambda: siege.count(ONE, "receipts_refused_total"), "a refused keyset")
    assert siege.status(ONE)["keyset"] == version


def test_what_the_broker_saw_holds_no_name_and_no_value_of_a_meter(siege: Siege) -> None:
    keys = EpochKeys(KeyPlace(siege.site.layout.keys), MetricSet())
    rosters: dict[bytes, Roster] = {}
    opened: list[bytes] = []
    told: set[int] = set()
    for said in siege.middle.seen:
        if said.topic != UP[ONE] or read_header(said.payload).content != BLOCK:
            continue
        header = read_header(said.payload)
        opened.append(open_sealed(said.payload, keys.private(header.epoch_kid)))
        block = decode_block(opened[-1], rosters.get)
        rosters[block.roster.hash] = block.roster
        told.update(value for column in block.columns for value in column)
    # Few and large, or a chance hit would come about.
    values = sorted(value for value in told if 1 << 24 <= value < 1 << 32)[-8:]
    assert len(values) >= 4
    names = [meter.id.encode() for meter in siege.site.town.meters if meter.transformer == ONE]
    serials = [
        entry.serial.encode()
        for roster in rosters.values()
        for entry in roster.entries
        if entry.serial
    ]
    secrets = [*names, *serials, *(form for value in values for form in _forms(value))]
    seen = b"\n".join({said.payload for said in siege.middle.seen})
    assert [secret for secret in secrets if secret in seen] == []
    # The same search, where it must find something: in a batch opened, in values written openly.
    assert any(name in plaintext for name in names for plaintext in opened)
    openly = cbor.encode(list(values))
    assert all(any(form in openly for form in _forms(value)) for value in values)


def test_all_of_it_arrived_once(siege: Siege) -> None:
    siege.heal()
    _is_whole(siege)


def _is_whole(siege: Siege) -> None:
    """The centre holds each interval of the meters once, and no agent has given one up."""
    last_end_utc_s = (int(siege.site.clock.now_utc_s()) // QUARTER_S - 1) * QUARTER_S
    proof = prove(siege.site, siege.first_end_utc_s, last_end_utc_s, SPEED)
    assert proof.wrong == []
    ends = (last_end_utc_s - siege.first_end_utc_s) // QUARTER_S + 1
    assert proof.intervals == ends * sum(m.protocol == "dlms" for m in siege.site.town.meters)
    for device in siege.site.devices:
        assert siege.count(device, "rows_lost_total") == 0


def _newest_receipt(siege: Siege) -> Receipt:
    """The newest that the broker has seen on its way to the device."""
    keyset = read_keyset(KeyPlace(siege.site.layout.keys))
    for said in reversed(siege.middle.seen):
        if said.topic == DOWN[ONE]:
            try:
                return verify_receipt(said.payload, keyset)
            except ValueError:
                continue  # a keyset
    raise AssertionError("no receipt passed")


def _forms(value: int) -> list[bytes]:
    """Ways to write a number in bytes."""
    whole = [struct.pack(form, value) for form in ("<q", ">q", "<I", ">I")]
    return [*whole, varint(value), str(value).encode()]
