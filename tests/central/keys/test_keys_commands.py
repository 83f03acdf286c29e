"""`loadscape-central keys`: the whole ceremony typed, with what it answers and exits with."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from central.cli import main
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import EPOCH, RECEIPT, private_file, read_records


class Office:
    """Types `keys` actions on one directory whose root lies elsewhere."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.dir, self.root = folder / "office", folder / "removable"
        self.place = KeyPlace(self.dir)
        self.type("init", "--tenant", "demo", "--root", self.root)

    def type(self, action: str, *more: object, exits: int = 0, where: Path | None = None) -> Any:
        """Run one action with --json; what it answers, or its message if it fails."""
        place = [] if action == "sign" else ["--dir", str(where or self.dir)]
        self.capsys.readouterr()
        assert main(["keys", action, *place, "--json", *map(str, more)]) == exits
        told = self.capsys.readouterr()
        return json.loads(told.out) if told.out else told.err

    def ceremony(self) -> int:
        """Request, sign, take."""
        request, keyset = self.folder / "request", self.folder / "keyset"
        self.type("request", "--out", request)
        self.type("sign", request, "--root", self.root, "--out", keyset, "--yes")
        version: int = self.type("take", keyset)["keyset"]
        return version


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, capsys)


def test_a_years_keys_are_made_in_one_ceremony(office: Office) -> None:
    answer = office.type("rotate", "epoch", "--count", "16")
    assert (len(answer["kids"]), answer["keyset"]) == (16, None)
    office.type("rotate", "receipt", "--count", 4)
    status = office.type("status", exits=3)
    assert (status["tasks"][0]["command"], status["tasks"][0]["due"]) == ("keys request", True)
    assert office.ceremony() == 2
    status = office.type("status")
    assert status["keyset"] == 2
    assert [key["state"] for key in status["keys"]].count("prepared") == 20
    assert not any(task["due"] for task in status["tasks"])


def test_the_root_at_hand_signs_at_once(office: Office) -> None:
    assert office.type("rotate", "--root", office.root)["keyset"] == 2
    (kid, _) = (record.kid.hex() for record in read_records(office.place, EPOCH))
    assert office.type("revoke", "--epoch", kid, "--root", office.root)["keyset"] == 3


def test_the_suite_is_chosen_once_and_kept(office: Office) -> None:
    office.type("rotate", "--suite", 2)
    office.type("rotate")
    algorithms = [record.algorithm for record in read_records(office.place, EPOCH)]
    assert algorithms == [1, 2, 2]
    assert office.ceremony() == 2
    with pytest.raises(SystemExit, match="2"):
        office.type("rotate", "--suite", 9)


def test_nobody_signs_without_having_compared(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (kid,) = office.type("rotate")["kids"]
    request, keyset = tmp_path / "request", tmp_path / "keyset"
    shown = office.type("request", "--out", request)["asks_for"]
    assert [row["kid"] for row in shown] == [kid]
    for answer, exits in (("no\n", 1), ("", 1), ("yes\n", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        arguments = ["keys", "sign", str(request), "--root", str(office.root)]
        assert main([*arguments, "--out", str(keyset)]) == exits
        told = office.capsys.readouterr()
        assert shown[0]["what"] in told.err
        assert keyset.exists() == (exits == 0)


def test_nothing_waiting_and_nothing_to_sign_are_said(office: Office, tmp_path: Path) -> None:
    assert "nothing waits" in office.type("request", "--out", tmp_path / "r", exits=1)
    assert "keys sign wrote last" in office.type("take", office.place.devices, exits=1)
    (tmp_path / "r").write_text("{}")
    told = office.type("sign", tmp_path / "r", "--root", office.root, "--out", "x", exits=1)
    assert "not a request" in told


def test_a_stolen_receipt_key_is_replaced_in_one_ceremony(office: Office) -> None:
    (stolen,) = read_records(office.place, RECEIPT)
    answer = office.type("revoke", "--receipt", stolen.kid.hex())
    assert answer["made"] != [stolen.kid.hex()]
    assert office.ceremony() == 2
    keyset = read_keyset(office.place)
    assert keyset.revoked == (stolen.kid,)
    assert [key.kid.hex() for key in keyset.receipt_keys] == answer["made"]


def test_all_epoch_keys_of_a_stolen_loader_are_replaced_in_one_ceremony(office: Office) -> None:
    office.type("rotate", "--count", 3)
    stolen = [record.kid.hex() for record in read_records(office.place, EPOCH)]
    answer = office.type("revoke", "--epoch", *stolen)
    assert (answer["kids"], len(answer["made"])) == (stolen, 1)
    office.type("rotate")
    assert office.ceremony() == 2
    named = [key.kid.hex() for key in read_keyset(office.place).epoch_keys]
    assert named[0] == answer["made"][0]
    assert len({*named} - {*stolen}) == len(named) == 2


def test_a_lost_epoch_key_is_given_up_at_the_office_and_replaced(office: Office) -> None:
    (lost,) = read_records(office.place, EPOCH)
    private_file(office.place, EPOCH, lost.kid).unlink()
    assert office.type("destroy", "--lost", lost.kid.hex())["kids"] == [lost.kid.hex()]
    assert office.ceremony() == 2
    keyset = read_keyset(office.place)
    assert lost.kid in keyset.revoked
    assert len(keyset.epoch_keys) == 1
    assert "no epoch key" in office.type("destroy", "--lost", "00" * 8, exits=1)
    assert "no key id" in office.type("destroy", "--lost", "xyz", exits=1)


def test_destruction_is_listed_before_and_done_in_a_loaders_folder_too(
    office: Office, tmp_path: Path
) -> None:
    loader = tmp_path / "loader"
    office.type("hand-out", "loader", "--out", loader, "--move")
    (record,) = read_records(office.place, EPOCH)
    assert office.type("destroy", "--list", where=loader) == {"kids": [], "keyset": None}
    path = loader / "epoch" / f"{record.kid.hex()}.json"
    fields = json.loads(path.read_text())
    past = {"not_before_utc_s": 1_700_000_000, "not_after_utc_s": 1_702_592_000}
    path.write_text(json.dumps(fields | past))
    assert office.type("destroy", "--list", where=loader)["kids"] == [record.kid.hex()]
    assert private_file(KeyPlace(loader), EPOCH, record.kid).exists()
    assert office.type("destroy", where=loader)["kids"] == [record.kid.hex()]
    assert not private_file(KeyPlace(loader), EPOCH, record.kid).exists()
    assert office.type("destroy", where=loader)["kids"] == []


def test_a_renewed_certificate_has_the_same_names_and_a_stolen_one_is_refused(
    office: Office,
) -> None:
    place = office.place

    def broker() -> x509.Certificate:
        return x509.load_pem_x509_certificate(place.broker_certificate.read_bytes())

    before, key = broker(), place.broker_key.read_bytes()
    office.type("renew", "broker", "--revoke")
    after = broker()
    names = x509.SubjectAlternativeName
    assert after.extensions.get_extension_for_class(names) == (
        before.extensions.get_extension_for_class(names)
    )
    assert after.public_key() != before.public_key()
    assert place.broker_key.read_bytes() != key
    office.type("renew", "collector")
    office.type("device", "--device", "t01", "--out", office.folder / "b")
    office.type("revoke", "--device", "t01")
    revoked = {entry.serial_number for entry in _revoked(place)}
    assert before.serial_number in revoked
    assert len(revoked) == 2


def _revoked(place: KeyPlace) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(place.revocation_list.read_bytes())


def test_the_inventory_says_whose_each_file_is_and_fails_when_one_is_exposed(
    office: Office,
) -> None:
    rows = {row["file"]: row for row in office.type("inventory", "--root", office.root)["files"]}
    seed = rows[str(office.root / "root.seed")]
    assert (seed["secret"], seed["needed_by"]) == (True, ["root"])
    (epoch,) = office.place.epoch_dir.glob("*.key")
    assert (rows[str(epoch)]["needed_by"], rows[str(epoch)]["exposed"]) == (["loader"], False)
    epoch.chmod(0o644)
    rows = {row["file"]: row for row in office.type("inventory", exits=3)["files"]}
    assert rows[str(epoch)]["exposed"]


def test_a_backup_goes_and_comes_back(office: Office, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("six words of an ordinary poem\n")
    backup, back = tmp_path / "backup", tmp_path / "back"
    written = office.type("backup", "--out", backup, "--passphrase-file", secret)
    assert written["destroy_by_utc_s"] is not None
    answer = office.type("restore", backup, "--passphrase-file", secret, where=back)
    assert answer["left_out"] == []
    assert read_keyset(KeyPlace(back)) == read_keyset(office.place)
    secret.write_text("another\n")
    told = office.type(
        "restore", backup, "--passphrase-file", secret, where=tmp_path / "c", exits=1
    )
    assert "does not open" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["rotate", "--count", "0"],
        ["rotate", "--count", "25"],
        ["rotate", "--count", "2", "--at-once"],
        ["revoke", "--epoch", "ff" * 8],
        ["revoke", "--device", "nobody"],
        ["restore", "no-such-file", "--passphrase-file", "no-such-file"],
    ],
)
def test_what_cannot_be_done_fails_with_a_message_and_changes_nothing(
    office: Office, arguments: list[str]
) -> None:
    before = {path: path.read_bytes() for path in office.dir.rglob("*") if path.is_file()}
    assert office.type(*arguments, exits=1)
    assert {path: path.read_bytes() for path in office.dir.rglob("*") if path.is_file()} == before


def test_in_words_each_answer_says_what_to_do_next(office: Office, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        office.capsys.readouterr()
        assert main(["keys", *map(str, arguments)]) in (0, 3)
        return office.capsys.readouterr().out

    at = ("--dir", office.dir)
    assert "keys request" in said("rotate", *at)
    assert "keys sign" in said("request", *at, "--out", tmp_path / "r")
    signing = ("sign", tmp_path / "r", "--root", office.root, "--out", tmp_path / "k", "--yes")
    assert "keys take" in said(*signing)
    assert "in force" in said("take", *at, tmp_path / "k")
    assert "to be destroyed" in said("status", *at)
    assert "needed by loader" in said("inventory", *at)
    assert "hand-out broker" in said("renew", *at, "broker")
    assert "wiped here" in said("hand-out", *at, "broker", "--out", tmp_path / "b", "--move")
    assert said("destroy", *at) == "nothing is due\n"


@pytest.mark.parametrize("action", [("sign", "--root", "r", "--out", "o"), ("take",)])
def test_a_file_that_is_not_there_is_named(office: Office, action: tuple[str, ...]) -> None:
    told = office.type(action[0], "no-such-file", *action[1:], exits=1)
    assert "no-such-file: not there; loadscape-central keys " + action[0] in told
