"""Broker, collector and loader as processes, each with a folder of its own keys and no other."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from central.collect.broker import write_broker_config
from central.config import load_config
from central.keys.authority import init_authority
from central.keys.inventory import hand_out
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import EPOCH, PURPOSES, RECEIPT, read_records
from central.keys.root import make_request, read_request, sign_asked, take_keyset
from central.keys.rotation import add_key
from central.readings.query import Readings
from wire.block import Roster, RosterEntry

FIRST_END = int(time.time()) // 86_400 * 86_400 - 86_400
ROSTER = Roster((RosterEntry("m1", "s1", (1 << 5) - 1),))


def row(number: int) -> list[tuple[int, int, list[int]]]:
    return [(FIRST_END + 900 * number, 0, [number, 0, 0, 2300, 100, 0])]


@pytest.fixture
def office(centre) -> KeyPlace:
    """Keys whose root lies elsewhere; every part of `centre` has what was handed out to it."""
    root: Path = centre.root
    shutil.rmtree(root / "keys")
    place = init_authority(
        root / "keys", "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time(),
        root=root / "removable",
    )  # fmt: skip
    text = centre.config.source.read_text()
    for part in ("broker", "collector", "loader"):
        hand_out(place, part, root / part, move=True)
        toml = text.replace('dir = "keys"', f'dir = "{part}"').replace('"keys/', '"collector/')
        (root / f"{part}.toml").write_text(toml)
    write_broker_config(root / "broker", centre.port, root / "broker")
    return KeyPlace(place.directory)


def start(centre, command: str, part: str) -> None:
    centre.config = load_config(centre.root / f"{part}.toml")
    centre.start(command)


def private_halves(directory: Path) -> set[str]:
    files = [*directory.rglob("*.key"), *directory.rglob("*.seed")]
    return {path.relative_to(directory).as_posix().split("/")[0] for path in files}


def test_a_collector_without_decryption_key_and_a_loader_with_nothing_else_do_their_work(
    centre, office: KeyPlace
) -> None:
    device = centre.device("t01")
    # The collector has to know the device, and nobody needs the key office to be there.
    hand_out(office, "collector", centre.root / "collector")
    away = office.directory.rename(centre.root / "in-the-safe")
    (centre.root / "removable").rename(centre.root / "another-safe")
    assert private_halves(centre.root / "collector") == {"receipt", "collector.key"}
    assert private_halves(centre.root / "loader") == {"epoch"}
    assert private_halves(centre.root / "broker") == {"broker"}
    assert private_halves(away) == {"authority"}
    centre.start("broker")
    start(centre, "collect", "collector")
    device.connect("127.0.0.1", centre.port)
    device.cut(ROSTER, row(0))
    assert device.deliver(within_s=20)
    start(centre, "load", "loader")
    readings = Readings(centre.config)

    def loaded(count: int) -> bool:
        if not readings.days():
            return False
        return len(readings.meter_series("m1", FIRST_END, FIRST_END + 86_400)) == count

    centre.wait(lambda: loaded(1), "the reading")

    # A ceremony while everything runs: new keys of both kinds, signed elsewhere, handed out.
    away.rename(office.directory)
    made = [add_key(office, p, time.time(), at_once=True) for p in PURPOSES.values()]
    root = centre.root / "another-safe"
    take_keyset(office, sign_asked(root, read_request(root, make_request(office))))
    hand_out(office, "loader", centre.root / "loader", move=True)
    hand_out(office, "collector", centre.root / "collector", move=True)
    centre.wait(lambda: device.keyset.version == 2, "the keyset")
    assert device.keyset == read_keyset(office)
    device.cut(ROSTER, row(1))
    assert device.deliver(within_s=20)
    centre.wait(lambda: loaded(2), "the reading under the new epoch key")
    assert device.keyset.epoch_keys[-1].kid == made[0].kid
    assert len(read_records(KeyPlace(centre.root / "loader"), EPOCH)) == 2
    assert len(read_records(KeyPlace(centre.root / "collector"), RECEIPT)) == 2
    device.close()
