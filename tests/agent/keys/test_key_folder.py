"""Generations of keys: the old one or the new one is in use, whatever was cut in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.keys.folder import Generation, KeyFolder
from agent.keys.providers import Ed25519File
from wire.enrolment import read_request

NAME, BY = "demo-t01", "certificate"


class Cut(Exception):
    """The power went."""


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys", Ed25519File())


def finished(folder: KeyFolder) -> Generation:
    made = folder.begin(NAME, BY)
    made.tls_certificate.write_text("certificate")
    folder.put_in_use(made)
    return made


def test_a_generation_holds_both_keys_and_a_request_for_them(folder: KeyFolder) -> None:
    made = folder.begin(NAME, BY)
    request = read_request(made.request.read_bytes())
    assert request.common_name == NAME
    assert request.sign_key.kid == Ed25519File().open(made.sign_key).kid
    assert folder.current is None
    for key in (made.sign_key, made.tls_key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_the_same_request_is_made_again_until_its_keys_are_in_use(folder: KeyFolder) -> None:
    made = folder.begin(NAME, BY)
    request = made.request.read_bytes()
    assert folder.begin(NAME, BY).request.read_bytes() == request
    folder.put_in_use(made)
    assert folder.next is None
    assert folder.begin(NAME, BY).request.read_bytes() != request


def test_a_request_by_another_leave_is_another_one(folder: KeyFolder) -> None:
    made = folder.begin(NAME, BY)
    other = folder.begin(NAME, "token")
    assert other != made
    assert not made.folder.exists()
    assert folder.begin(NAME, "token") == other


def test_the_generation_before_is_erased_when_the_next_is_in_use(
    folder: KeyFolder, tmp_path: Path
) -> None:
    old = finished(folder)
    new = finished(folder)
    assert folder.current == new
    assert not old.folder.exists()
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_keys_that_were_given_up_are_erased(folder: KeyFolder) -> None:
    used = finished(folder)
    made = folder.begin(NAME, BY)
    folder.abandon()
    assert folder.next is None
    assert not made.folder.exists()
    assert folder.current == used


CALLS = ("fsync", "replace", "symlink", "unlink", "rmdir", "mkdir")


def cut_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call of that number to the system, and all after it, do not happen."""
    left = [number]

    def guarded(call: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            return call(*given, **named)

        return called

    for name in CALLS:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))


def test_a_cut_at_any_call_leaves_whole_keys_in_use_and_the_next_try_succeeds(
    tmp_path: Path,
) -> None:
    reached = 0
    for number in range(200):
        path = tmp_path / str(number) / "keys"
        path.parent.mkdir()
        folder = KeyFolder(path, Ed25519File())
        old = finished(folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            cut_at(number, monkeypatch)
            try:
                finished(folder)
            except Cut:
                reached = number
            else:
                break
        used = KeyFolder(path, Ed25519File()).current
        assert used is not None
        assert Ed25519File().open(used.sign_key).kid
        assert used.tls_certificate.read_text() == "certificate"
        begun = KeyFolder(path, Ed25519File()).next
        if begun is not None:
            assert used == old
            assert read_request(begun.request.read_bytes()).common_name == NAME
        again = finished(KeyFolder(path, Ed25519File()))
        assert KeyFolder(path, Ed25519File()).current == again
        assert sorted(entry.name for entry in path.iterdir()) == sorted(
            ["current", again.folder.name]
        )
    assert reached > 15


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_the_keys(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = finished(folder)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        folder.begin(NAME, BY)
    assert folder.current == used


def test_erasing_leaves_nothing(folder: KeyFolder, tmp_path: Path) -> None:
    finished(folder)
    folder.begin(NAME, BY)
    gone = list(folder.erase())
    assert len(gone) == 4
    assert not (tmp_path / "keys").exists()
    assert list(folder.erase()) == []
