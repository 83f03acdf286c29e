"""The way to an offline root and back: nothing is signed twice, nothing revoked comes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from central.durable import write_file
from central.keys.authority import init_authority
from central.keys.device import issue_device, revoke_device
from central.keys.place import KeyPlace, KeysError, read_devices, read_keyset
from central.keys.record import DAY_S, EPOCH, RECEIPT, read_records
from central.keys.root import (
    make_request,
    read_request,
    settle,
    sign_asked,
    take_keyset,
    waiting,
    wanted_keyset,
)
from central.keys.rotation import add_key, revoke_key
from wire.keyset import encode_keyset

NOW = 1_772_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "removable" / "root"


@pytest.fixture
def office(tmp_path: Path, root: Path) -> KeyPlace:
    """A key directory whose root was taken away after the first keyset."""
    init_authority(tmp_path / "k", "demo", broker_hosts=["b"], now_utc_s=NOW, root=root)
    return KeyPlace(tmp_path / "k")


def asking(office: KeyPlace, **changed: Any) -> bytes:
    """A request that the office never makes."""
    form, _, follows = make_request(office).decode().splitlines()
    keyset = replace(wanted_keyset(office), **changed)
    return f"{form}\n{encode_keyset(keyset).hex()}\n{follows}\n".encode()


def signed(root: Path, request: bytes) -> bytes:
    return sign_asked(root, read_request(root, request))


def test_the_key_directory_holds_nothing_that_signs_keysets(office: KeyPlace, root: Path) -> None:
    seed = (root / "root.seed").read_bytes()
    assert not office.root_dir.exists()
    everything = [path for path in office.directory.rglob("*") if path.is_file()]
    assert everything
    assert not [path for path in everything if seed.strip() in path.read_bytes()]
    assert read_keyset(office).version == 1


def test_a_new_key_counts_only_when_the_root_has_signed_it(office: KeyPlace, root: Path) -> None:
    record = add_key(office, EPOCH, NOW)
    assert settle(office) is None
    assert record.kid not in {key.kid for key in read_keyset(office).epoch_keys}
    assert [(d.kid, d.pressing) for d in waiting(office)] == [(record.kid, True)]
    data = signed(root, make_request(office))
    assert take_keyset(office, data) == 2
    assert record.kid in {key.kid for key in read_keyset(office).epoch_keys}
    assert waiting(office) == ()
    assert settle(office) == 2


def test_what_is_wanted_while_a_request_travels_waits_for_the_next(
    office: KeyPlace, root: Path, tmp_path: Path
) -> None:
    add_key(office, EPOCH, NOW)
    request = make_request(office)
    issue_device(office.directory, "t01", tmp_path / "b")
    revoke_device(office.directory, "t01")
    assert take_keyset(office, signed(root, request)) == 2
    kid = read_devices(office)["t01"].kid
    assert [difference.kid for difference in waiting(office)] == [kid]
    assert take_keyset(office, signed(root, make_request(office))) == 3
    assert read_keyset(office).revoked == (kid,)


def test_the_root_signs_no_version_twice_but_the_same_request_again(
    office: KeyPlace, root: Path
) -> None:
    add_key(office, EPOCH, NOW)
    first = make_request(office)
    data = signed(root, first)
    assert signed(root, first) == data
    add_key(office, RECEIPT, NOW)
    with pytest.raises(KeysError, match="has signed version 2 already"):
        read_request(root, make_request(office))
    take_keyset(office, data)
    assert take_keyset(office, signed(root, make_request(office))) == 3


def test_a_root_that_came_back_from_its_seed_alone_goes_on_where_the_request_is(
    office: KeyPlace, root: Path
) -> None:
    add_key(office, EPOCH, NOW)
    take_keyset(office, signed(root, make_request(office)))
    (root / "keyset.cose").unlink()
    add_key(office, EPOCH, NOW)
    assert take_keyset(office, signed(root, make_request(office))) == 3


def test_an_old_copy_of_the_key_directory_cannot_bring_a_revoked_key_back(
    office: KeyPlace, root: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(office.directory, old)
    (stolen,) = read_records(office, EPOCH)
    revoke_key(office, EPOCH, stolen.kid, NOW)
    newest = signed(root, make_request(office))
    add_key(KeyPlace(old), EPOCH, NOW)
    with pytest.raises(KeysError, match="has signed version 2 already"):
        read_request(root, make_request(KeyPlace(old)))
    take_keyset(KeyPlace(old), newest)
    assert stolen.kid in wanted_keyset(KeyPlace(old)).revoked
    with pytest.raises(KeysError, match="come back"):
        read_request(root, asking(KeyPlace(old), revoked=()))


def test_the_root_refuses_what_is_not_its_own_tenants(office: KeyPlace, tmp_path: Path) -> None:
    other = tmp_path / "other-root"
    init_authority(tmp_path / "o", "demo", broker_hosts=["b"], now_utc_s=NOW, root=other)
    add_key(office, EPOCH, NOW)
    with pytest.raises(KeysError, match="did not sign"):
        read_request(other, make_request(office))
    add_key(KeyPlace(tmp_path / "o"), EPOCH, NOW)
    data = signed(other, make_request(KeyPlace(tmp_path / "o")))
    before = office.keyset.read_bytes()
    with pytest.raises(KeysError, match="not a keyset that"):
        take_keyset(office, data)
    assert office.keyset.read_bytes() == before


def test_two_roots_of_one_seed_that_signed_apart_are_noticed(
    office: KeyPlace, root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "second-root"
    shutil.copytree(root, copy)
    add_key(office, EPOCH, NOW)
    one = signed(root, make_request(office))
    add_key(office, EPOCH, NOW)
    two = signed(copy, make_request(office))
    take_keyset(office, one)
    with pytest.raises(KeysError, match="two copies of the root"):
        take_keyset(office, two)
    assert take_keyset(office, one) == 2


def test_an_older_keyset_is_never_taken(office: KeyPlace, root: Path) -> None:
    first = office.keyset.read_bytes()
    add_key(office, EPOCH, NOW)
    take_keyset(office, signed(root, make_request(office)))
    with pytest.raises(KeysError, match="older than 2"):
        take_keyset(office, first)
    assert read_keyset(office).version == 2


def test_a_request_that_leaves_devices_without_keys_is_refused(
    office: KeyPlace, root: Path
) -> None:
    add_key(office, EPOCH, NOW)
    for name in ("epoch_keys", "receipt_keys"):
        with pytest.raises(KeysError, match="leaves no epoch key or no receipt key"):
            read_request(root, asking(office, **{name: ()}))


def test_a_request_that_leaves_a_version_out_is_refused(office: KeyPlace, root: Path) -> None:
    add_key(office, EPOCH, NOW)
    with pytest.raises(KeysError, match="asks for version 9 after 1"):
        read_request(root, asking(office, version=9))


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r[:-20],
        lambda r: r[:-21] + b"\n",
        lambda r: b"",
        lambda r: b"\n\n\n",
        lambda r: r.replace(b"request 1", b"request 2"),
        lambda r: r.replace(b"\n86", b"\n87"),
        lambda r: r.replace(b"\nd2", b"\nd3"),
        lambda r: r + r,
        lambda r: b"\xff\xfe",
    ],
)
def test_a_damaged_request_is_refused_with_a_message(
    office: KeyPlace, root: Path, damage: Callable[[bytes], bytes]
) -> None:
    add_key(office, EPOCH, NOW)
    request = make_request(office)
    damaged = damage(request)
    assert damaged != request
    with pytest.raises(KeysError, match=r"anew|did not sign"):
        read_request(root, damaged)


@pytest.mark.parametrize(
    "wrong",
    [{"kid": b"short"}, {"public": bytes(31)}, {"not_after_utc_s": 0}, {"not_before_utc_s": -1}],
)
def test_the_root_signs_nothing_that_devices_would_refuse(
    office: KeyPlace, root: Path, wrong: dict[str, Any]
) -> None:
    add_key(office, EPOCH, NOW)
    keyset = wanted_keyset(office)
    broken = replace(keyset.epoch_keys[-1], **wrong)
    with pytest.raises(KeysError, match="not a request"):
        read_request(root, asking(office, epoch_keys=(broken,)))


def test_keys_in_force_whose_records_are_lost_stay_in_the_keyset(
    office: KeyPlace, root: Path
) -> None:
    for path in (*office.epoch_dir.glob("*.json"), *office.receipt_dir.glob("*.json")):
        path.unlink()
    before = read_keyset(office)
    add_key(office, EPOCH, NOW + DAY_S)
    take_keyset(office, signed(root, make_request(office)))
    after = read_keyset(office)
    assert {*before.epoch_keys} < {*after.epoch_keys}
    assert before.receipt_keys == after.receipt_keys


def test_a_damaged_record_names_its_file(office: KeyPlace) -> None:
    (path,) = office.epoch_dir.glob("*.json")
    for text in ("{", "[]", '{"kid": "00"}', path.read_text().replace("algorithm", "algo")):
        write_file(path, text.encode())
        with pytest.raises(KeysError, match=path.name):
            read_records(office, EPOCH)
