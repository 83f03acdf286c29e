"""Epoch and receipt keys follow each other without a gap, and are destroyed on their day."""

from __future__ import annotations

import logging
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from central.cli import main
from central.keys.authority import init_authority
from central.keys.destruction import destroy, due, wipe
from central.keys.epochs import ENDS, OVERDUE, EpochGone, EpochKeys, EpochMissing
from central.keys.place import KeyPlace, KeysError, read_keyset
from central.keys.receipts import ReceiptKeys
from central.keys.record import (
    DAY_S,
    EPOCH,
    PURPOSES,
    RECEIPT,
    destroy_at_utc_s,
    private_file,
    read_records,
)
from central.keys.root import settle
from central.keys.rotation import add_key, revoke_key
from central.keys.schedule import key_states, tasks
from central.metrics import MetricSet
from wire.suites import MLKEM768_X25519, X25519, suite

NOW = 1_772_000_000


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    return init_authority(tmp_path / "k", "demo", broker_hosts=["b"], now_utc_s=NOW)


def test_keys_made_ahead_follow_each_other_with_an_overlap(place: KeyPlace) -> None:
    for purpose in PURPOSES.values():
        for _ in range(16):
            add_key(place, purpose, NOW)
        records = read_records(place, purpose)
        for one, next_ in pairwise(records):
            assert one.not_after_utc_s - next_.not_before_utc_s == purpose.overlap_s
            assert next_.not_after_utc_s - next_.not_before_utc_s == purpose.life_s
    settle(place)
    keyset = read_keyset(place)
    used = {keyset.epoch_key(NOW + hour * 3600).kid for hour in range(24 * 360)}
    assert used == {record.kid for record in read_records(place, EPOCH)} - {
        read_records(place, EPOCH)[-1].kid
    }


def test_an_epoch_key_is_used_30_days_at_most_and_destroyed_90_days_later(
    place: KeyPlace,
) -> None:
    (first,) = read_records(place, EPOCH)
    assert first.not_after_utc_s == NOW + 30 * DAY_S
    assert destroy_at_utc_s(first, EPOCH) == NOW + 120 * DAY_S
    assert due(place, EPOCH, NOW + 120 * DAY_S - 1) == []
    assert due(place, EPOCH, NOW + 120 * DAY_S) == [first]


def test_a_key_for_now_is_used_before_those_made_ahead(place: KeyPlace) -> None:
    add_key(place, EPOCH, NOW)
    for _ in range(8):
        urgent = add_key(place, EPOCH, NOW + 3600, at_once=True)
    settle(place)
    assert read_keyset(place).epoch_key(NOW + 3600).kid == urgent.kid


@pytest.mark.parametrize("number", [X25519, MLKEM768_X25519])
def test_a_key_of_each_suite_opens_what_is_sealed_to_it_and_its_successor_keeps_the_suite(
    place: KeyPlace, number: int
) -> None:
    record = add_key(place, EPOCH, NOW, suite=number)
    settle(place)
    keys = EpochKeys(place, MetricSet())
    named = next(key for key in read_keyset(place).epoch_keys if key.kid == record.kid)
    sealed = suite(named.suite).encrypt(b"block", named.public, b"info")
    assert suite(number).decrypt(sealed, keys.private(record.kid), b"info") == b"block"
    assert add_key(place, EPOCH, NOW).algorithm == number


def test_an_unknown_suite_is_refused(place: KeyPlace) -> None:
    with pytest.raises(KeysError, match="suite 99"):
        add_key(place, EPOCH, NOW, suite=99)
    assert len(read_records(place, EPOCH)) == 1


def test_a_revoked_key_has_a_successor_in_the_same_keyset(place: KeyPlace) -> None:
    for purpose in PURPOSES.values():
        (stolen,) = read_records(place, purpose)
        made = revoke_key(place, purpose, stolen.kid, NOW)
        assert made is not None
        settle(place)
        keyset = read_keyset(place)
        assert stolen.kid in keyset.revoked
        named = keyset.epoch_keys if purpose is EPOCH else keyset.receipt_keys
        assert [key.kid for key in named] == [made.kid]
        with pytest.raises(KeysError, match="revoked already"):
            revoke_key(place, purpose, stolen.kid, NOW)
    assert keyset.epoch_key(NOW)
    assert ReceiptKeys(place, keyset).signer(NOW).kid == keyset.receipt_keys[0].kid


def test_what_is_sealed_to_a_revoked_epoch_can_still_be_opened(place: KeyPlace) -> None:
    (stolen,) = read_records(place, EPOCH)
    revoke_key(place, EPOCH, stolen.kid, NOW)
    assert EpochKeys(place, MetricSet()).private(stolen.kid)


def test_receipts_are_signed_by_the_youngest_key_that_devices_know(place: KeyPlace) -> None:
    (first,) = read_records(place, RECEIPT)
    second = add_key(place, RECEIPT, NOW)
    later = second.not_before_utc_s
    assert ReceiptKeys(place, read_keyset(place)).signer(later).kid == first.kid
    settle(place)
    keys = ReceiptKeys(place, read_keyset(place))
    assert keys.signer(later - 1).kid == first.kid
    assert keys.signer(later).kid == second.kid
    private_file(place, RECEIPT, first.kid).unlink()
    private_file(place, RECEIPT, second.kid).unlink()
    with pytest.raises(KeysError, match="no private half of a receipt key"):
        ReceiptKeys(place, read_keyset(place))


def test_a_receipt_key_is_never_destroyed_before_it_has_a_successor(place: KeyPlace) -> None:
    (first,) = read_records(place, RECEIPT)
    assert due(place, RECEIPT, NOW + 1000 * DAY_S) == []
    add_key(place, RECEIPT, NOW)
    assert due(place, RECEIPT, first.not_after_utc_s) == []
    settle(place)
    assert due(place, RECEIPT, first.not_after_utc_s) == [first]


def test_wiping_overwrites_the_file_before_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    path.write_bytes(b"secret")
    beside = tmp_path / "same-inode"
    os.link(path, beside)
    wipe(path)
    assert not path.exists()
    assert len(beside.read_bytes()) == 6
    assert beside.read_bytes() != b"secret"


def test_a_destroyed_key_leaves_its_record_and_the_keyset(place: KeyPlace) -> None:
    add_key(place, EPOCH, NOW)
    settle(place)
    first, second = read_records(place, EPOCH)
    day = destroy_at_utc_s(first, EPOCH)
    destroy(place, EPOCH, due(place, EPOCH, day), day)
    assert not private_file(place, EPOCH, first.kid).exists()
    gone, kept = read_records(place, EPOCH)
    assert (gone.destroyed_utc_s, gone.revoked_utc_s) == (day, None)
    assert kept == second
    assert due(place, EPOCH, day) == []
    add_key(place, EPOCH, day)
    settle(place)
    assert first.kid not in {key.kid for key in read_keyset(place).epoch_keys}


def test_a_destruction_that_died_halfway_is_done_again(place: KeyPlace) -> None:
    (record,) = read_records(place, EPOCH)
    day = destroy_at_utc_s(record, EPOCH)
    wipe(private_file(place, EPOCH, record.kid))
    assert due(place, EPOCH, day) == [record]
    destroy(place, EPOCH, [record], day)
    assert due(place, EPOCH, day) == []


class LoaderDay:
    """A loader's epoch keys and what it knows on some day."""

    def __init__(self, place: KeyPlace) -> None:
        self.metrics = MetricSet()
        self.keys = EpochKeys(place, self.metrics)
        self.newest_reading_utc_s: int | None = None
        self.needed: set[bytes] = set()

    def look(self, now_utc_s: float) -> bool:
        return self.keys.look(now_utc_s, lambda: self.newest_reading_utc_s, lambda: self.needed)


@pytest.fixture
def loader(place: KeyPlace) -> LoaderDay:
    return LoaderDay(place)


def test_the_loader_destroys_a_key_on_its_day_and_says_before_and_after(
    place: KeyPlace, loader: LoaderDay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (record,) = read_records(place, EPOCH)
    day = destroy_at_utc_s(record, EPOCH)
    loader.newest_reading_utc_s = day - 13 * DAY_S
    assert loader.look(day - 13 * DAY_S)
    assert f"{record.kid.hex()} will be destroyed in 13 days" in caplog.text
    assert loader.keys.private(record.kid)
    assert not loader.look(day - 12 * DAY_S - 1)
    loader.newest_reading_utc_s = day - 900
    assert loader.look(day)
    assert f"{record.kid.hex()} destroyed" in caplog.text
    with pytest.raises(EpochGone, match="has been destroyed"):
        loader.keys.private(record.kid)
    assert not private_file(place, EPOCH, record.kid).exists()
    assert loader.metrics.value(OVERDUE) == 0


@pytest.mark.parametrize("newest_s", [None, 3 * DAY_S])
def test_a_clock_that_no_reading_confirms_destroys_nothing(
    place: KeyPlace,
    loader: LoaderDay,
    caplog: pytest.LogCaptureFixture,
    newest_s: int | None,
) -> None:
    (record,) = read_records(place, EPOCH)
    day = destroy_at_utc_s(record, EPOCH)
    loader.newest_reading_utc_s = None if newest_s is None else day - newest_s
    loader.look(day)
    assert loader.keys.private(record.kid)
    assert "no reading of the last days confirms the clock" in caplog.text
    assert loader.metrics.value(OVERDUE) == 1


def test_a_key_that_waiting_batches_need_is_kept_and_said_so(
    place: KeyPlace, loader: LoaderDay, caplog: pytest.LogCaptureFixture
) -> None:
    (record,) = read_records(place, EPOCH)
    day = destroy_at_utc_s(record, EPOCH)
    loader.newest_reading_utc_s, loader.needed = day, {record.kid}
    loader.look(day)
    assert loader.keys.private(record.kid)
    assert "sealed batches wait" in caplog.text
    loader.newest_reading_utc_s, loader.needed = day + DAY_S, set()
    assert loader.look(day + DAY_S)
    with pytest.raises(EpochGone):
        loader.keys.private(record.kid)


def test_a_key_that_another_process_destroys_is_forgotten_at_once(
    place: KeyPlace, loader: LoaderDay
) -> None:
    (record,) = read_records(place, EPOCH)
    assert loader.keys.private(record.kid)
    destroy(place, EPOCH, [record], NOW)
    with pytest.raises(EpochGone):
        loader.keys.private(record.kid)


def test_a_missing_key_is_told_from_a_destroyed_one_and_found_when_it_comes(
    place: KeyPlace, loader: LoaderDay
) -> None:
    (record,) = read_records(place, EPOCH)
    path = private_file(place, EPOCH, record.kid)
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(EpochMissing, match=f"destroy --lost {record.kid.hex()}"):
        loader.keys.private(record.kid)
    path.write_bytes(data)
    assert loader.keys.private(record.kid) == bytes.fromhex(data.decode())


def test_the_loader_shows_when_its_last_key_ends(place: KeyPlace, loader: LoaderDay) -> None:
    last = add_key(place, EPOCH, NOW)
    loader.look(NOW)
    assert loader.metrics.value(ENDS) == last.not_after_utc_s


def test_a_loader_without_its_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="keys hand-out"):
        EpochKeys(KeyPlace(tmp_path), MetricSet())


def test_the_schedule_names_every_duty_in_its_order(place: KeyPlace) -> None:
    found = {task.command: task.due_utc_s for task in tasks(place)}
    assert found["keys rotate epoch"] == NOW + 23 * DAY_S
    assert found["keys rotate receipt"] == NOW + 76 * DAY_S
    assert found["keys destroy"] == NOW + 120 * DAY_S
    now_s = time.time()
    for part in ("broker", "collector"):
        assert abs(found[f"keys renew {part}"] - now_s - 335 * DAY_S) < 3600
    assert [task.due_utc_s for task in tasks(place)] == sorted(found.values())
    assert "keys request" not in found
    add_key(place, EPOCH, NOW)
    assert tasks(place)[0].command == "keys request"
    assert {state.state for state in key_states(place, NOW)} == {"in use", "waits for the root"}


def test_each_state_of_a_key_has_its_word(place: KeyPlace) -> None:
    words = []
    (record,) = read_records(place, EPOCH)
    second = add_key(place, EPOCH, NOW)
    settle(place)

    def state(now_utc_s: float, kid: bytes) -> str:
        return next(s.state for s in key_states(place, now_utc_s) if s.record.kid == kid)

    words = [state(NOW, record.kid), state(NOW, second.kid)]
    words.append(state(NOW + 31 * DAY_S, record.kid))
    revoke_key(place, EPOCH, second.kid, NOW)
    words.append(state(NOW, second.kid))
    destroy(place, EPOCH, [record], NOW)
    words.append(state(NOW, record.kid))
    assert words == ["in use", "prepared", "ended", "revoked", "destroyed"]


@pytest.mark.parametrize(
    ("days", "alarm"),
    [(0, None), (22, None), (24, "the last epoch key here ends on"), (31, "ends on"),
     (119, "ends on"), (121, "1 epoch keys should have been destroyed")],
)  # fmt: skip
def test_status_alarms_before_agents_lack_an_epoch_key_and_after_a_missed_destruction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int, alarm: str | None
) -> None:
    begun_s = int(time.time()) - days * DAY_S
    init_authority(tmp_path / "k", "demo", broker_hosts=["b"], now_utc_s=begun_s)
    toml = tmp_path / "central.toml"
    toml.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "k"\n[broker]\n'
        'host = "localhost"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
    )
    assert main(["status", "--config", str(toml)]) == 0
    told = capsys.readouterr().out
    assert ("ALARM" in told) == (alarm is not None)
    assert (alarm or "") in told
