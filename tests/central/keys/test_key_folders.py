"""Which file is whose: inventory, what is handed out, backups that bring nothing dead back."""

from __future__ import annotations

import os
import shutil
import stat
from functools import partial
from pathlib import Path

import pytest

from central.enrol.ledger import EnrolmentLedger
from central.enrol.server import server_certificate
from central.keys import backup
from central.keys.authority import init_authority
from central.keys.backup import restore
from central.keys.destruction import destroy
from central.keys.device import issue_device, revoke_device
from central.keys.inventory import FILES, PARTS, hand_out, inventory
from central.keys.place import KeyPlace, KeysError, read_keyset
from central.keys.record import DAY_S, EPOCH, private_file, read_records
from central.keys.root import settle
from central.keys.rotation import add_key

NOW = 1_772_000_000
PASSPHRASE = "correct horse battery staple"
write_backup = partial(backup.write_backup, work=14)
"""With little work per guess, for tests only."""


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    return init_authority(tmp_path / "k", "demo", broker_hosts=["b"], now_utc_s=NOW)


def names(directory: Path) -> set[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix() for path in files}


def test_every_file_that_is_made_is_in_the_table_and_the_other_way_round(place: KeyPlace) -> None:
    server_certificate(place, ["localhost"], NOW)
    EnrolmentLedger(place.enrol_ledger).close()
    found = inventory(place)
    assert {file.path for file in found} == {place.directory / n for n in names(place.directory)}
    assert [file.path for file in found if file.kind is None or file.exposed] == []
    assert {file.kind for file in found} == {*FILES}


def test_a_root_elsewhere_is_in_the_inventory_when_it_is_at_hand(tmp_path: Path) -> None:
    root = tmp_path / "removable"
    place = init_authority(tmp_path / "k", "demo", broker_hosts=["b"], now_utc_s=NOW, root=root)
    assert root / "root.seed" in {file.path for file in inventory(place)}
    assert root not in {file.path.parent for file in inventory(KeyPlace(tmp_path / "k"))}


def test_an_open_secret_and_a_stranger_are_noticed(place: KeyPlace) -> None:
    place.collector_key.chmod(0o640)
    stranger = place.directory / "epoch" / "copy-of-key.bak"
    stranger.write_text("?")
    odd = {file.path: (file.exposed, file.kind) for file in inventory(place)}
    assert odd[place.collector_key][0]
    assert odd[stranger] == (False, None)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("loader", {"epoch/*.key", "epoch/*.json"}),
        (
            "collector",
            {"receipt/*.key", "receipt/*.json", "collector.key", "collector.crt", "ca.crt",
             "root.pub", "keyset.cose", "devices.json"},
        ),
        ("broker", {"broker/broker.key", "broker/broker.crt", "ca.crt", "ca.crl", "devices.json"}),
        (
            "enrol",
            {"authority/ca.key", "ca.crt", "ca.crl", "root.pub", "keyset.cose", "devices.json"},
        ),
    ],
)  # fmt: skip
def test_a_part_is_handed_what_it_needs_and_nothing_else(
    place: KeyPlace, tmp_path: Path, part: str, expected: set[str]
) -> None:
    out = tmp_path / "out"
    copied = hand_out(place, part, out)
    kinds = {kind.pattern for file in inventory(KeyPlace(out)) if (kind := file.kind)}
    assert kinds == expected
    assert {path.relative_to(out).as_posix() for path in copied} == names(out)
    for path in copied:
        kind = next(f.kind for f in inventory(KeyPlace(out)) if f.path == path)
        assert kind is not None
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if kind.secret else 0o644)
        assert path.read_bytes() == (place.directory / path.relative_to(out)).read_bytes()


def test_no_two_parts_share_a_secret(place: KeyPlace) -> None:
    for kind in FILES:
        if kind.secret:
            assert len(kind.needed_by & PARTS.keys()) <= 1


def test_handing_out_again_brings_what_is_new(place: KeyPlace, tmp_path: Path) -> None:
    hand_out(place, "loader", tmp_path / "loader")
    record = add_key(place, EPOCH, NOW)
    hand_out(place, "loader", tmp_path / "loader")
    assert private_file(KeyPlace(tmp_path / "loader"), EPOCH, record.kid).exists()


def test_an_old_copy_of_the_key_directory_hands_nothing_out_over_what_is_newer(
    place: KeyPlace, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(place.directory, old)
    issue_device(place.directory, "t01", tmp_path / "b")
    hand_out(place, "collector", tmp_path / "collector")
    with pytest.raises(KeysError, match="knows of t01"):
        hand_out(KeyPlace(old), "collector", tmp_path / "collector")
    shutil.copy(place.devices, old)
    revoke_device(place.directory, "t01")
    hand_out(place, "collector", tmp_path / "collector")
    with pytest.raises(KeysError, match="version 2"):
        hand_out(KeyPlace(old), "collector", tmp_path / "collector")
    shutil.copy(place.keyset, old)
    with pytest.raises(KeysError, match="knows of t01"):
        hand_out(KeyPlace(old), "collector", tmp_path / "collector")
    shutil.copy(place.devices, old)
    assert hand_out(KeyPlace(old), "collector", tmp_path / "collector")


def test_moving_leaves_the_secret_in_one_place_only(place: KeyPlace, tmp_path: Path) -> None:
    hand_out(place, "loader", tmp_path / "loader", move=True)
    assert not list(place.epoch_dir.glob("*.key"))
    assert len(read_records(place, EPOCH)) == 1
    assert len(list((tmp_path / "loader" / "epoch").glob("*.key"))) == 1
    hand_out(place, "enrol", tmp_path / "enrol", move=True)
    assert place.authority_key.exists()
    add_key(place, EPOCH, NOW)
    assert settle(place) == 2


def test_a_key_directory_is_not_handed_out_into_itself(place: KeyPlace, tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="is the key directory itself"):
        hand_out(place, "loader", place.directory / "epoch" / "..", move=True)
    assert list(place.epoch_dir.glob("*.key"))
    with pytest.raises(KeysError, match="holds nothing"):
        hand_out(KeyPlace(tmp_path / "empty"), "loader", tmp_path / "o")


def test_a_restored_backup_is_the_same_directory(place: KeyPlace, tmp_path: Path) -> None:
    add_key(place, EPOCH, NOW)
    written = write_backup(place, tmp_path / "b", PASSPHRASE)
    assert written.files == len(names(place.directory))
    assert written.destroy_by_utc_s == NOW + 120 * DAY_S
    assert restore(tmp_path / "b", tmp_path / "r", PASSPHRASE, now_utc_s=NOW) == []
    assert names(tmp_path / "r") == names(place.directory)
    for name in names(tmp_path / "r"):
        one, two = place.directory / name, tmp_path / "r" / name
        assert one.read_bytes() == two.read_bytes()
        assert one.stat().st_mode == two.stat().st_mode
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


def test_a_backup_shows_nothing_of_what_it_holds(place: KeyPlace, tmp_path: Path) -> None:
    write_backup(place, tmp_path / "b", PASSPHRASE)
    data = (tmp_path / "b").read_bytes()
    for file in inventory(place):
        content = file.path.read_bytes().strip()
        assert content[:32] not in data
        assert file.path.name.encode() not in data


def test_a_key_whose_day_has_come_does_not_come_back_from_a_backup(
    place: KeyPlace, tmp_path: Path
) -> None:
    (first,) = read_records(place, EPOCH)
    second = add_key(place, EPOCH, NOW)
    write_backup(place, tmp_path / "b", PASSPHRASE)
    after = NOW + 121 * DAY_S
    left_out = restore(tmp_path / "b", tmp_path / "r", PASSPHRASE, now_utc_s=after)
    assert left_out == [first.kid]
    restored = KeyPlace(tmp_path / "r")
    assert not private_file(restored, EPOCH, first.kid).exists()
    assert private_file(restored, EPOCH, second.kid).exists()
    assert read_keyset(restored).version == 1


def test_a_backup_without_epoch_keys_opens_nothing_and_lasts(
    place: KeyPlace, tmp_path: Path
) -> None:
    written = write_backup(place, tmp_path / "b", PASSPHRASE, epoch_keys=False)
    assert written.destroy_by_utc_s is None
    restore(tmp_path / "b", tmp_path / "r", PASSPHRASE, now_utc_s=NOW)
    assert not list((tmp_path / "r" / "epoch").glob("*.key"))
    assert names(place.directory) - names(tmp_path / "r") == {
        path.relative_to(place.directory).as_posix() for path in place.epoch_dir.glob("*.key")
    }


def test_a_backup_after_destruction_does_not_name_a_day(place: KeyPlace, tmp_path: Path) -> None:
    destroy(place, EPOCH, read_records(place, EPOCH), NOW)
    assert write_backup(place, tmp_path / "b", PASSPHRASE).destroy_by_utc_s is None


@pytest.mark.parametrize("at", [0, 24, 30, 60, -1])
def test_a_damaged_backup_restores_nothing(place: KeyPlace, tmp_path: Path, at: int) -> None:
    write_backup(place, tmp_path / "b", PASSPHRASE)
    data = bytearray((tmp_path / "b").read_bytes())
    data[at] ^= 1
    (tmp_path / "b").write_bytes(bytes(data))
    with pytest.raises(KeysError, match=r"not a backup|does not open"):
        restore(tmp_path / "b", tmp_path / "r", PASSPHRASE, now_utc_s=NOW)
    assert not (tmp_path / "r").exists()


def test_a_cut_backup_a_wrong_passphrase_and_a_short_one_are_refused(
    place: KeyPlace, tmp_path: Path
) -> None:
    write_backup(place, tmp_path / "b", PASSPHRASE)
    with pytest.raises(KeysError, match="passphrase is another one"):
        restore(tmp_path / "b", tmp_path / "r", PASSPHRASE + "!", now_utc_s=NOW)
    os.truncate(tmp_path / "b", (tmp_path / "b").stat().st_size // 2)
    with pytest.raises(KeysError, match="does not open"):
        restore(tmp_path / "b", tmp_path / "r", PASSPHRASE, now_utc_s=NOW)
    with pytest.raises(KeysError, match="at least 16"):
        write_backup(place, tmp_path / "c", "short")
    assert not (tmp_path / "c").exists()


def test_a_backup_is_restored_into_an_empty_folder_only(place: KeyPlace, tmp_path: Path) -> None:
    write_backup(place, tmp_path / "b", PASSPHRASE)
    with pytest.raises(KeysError, match="not empty"):
        restore(tmp_path / "b", place.directory, PASSPHRASE, now_utc_s=NOW)
