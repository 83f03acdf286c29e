"""docs/keys.md: its ceremony can be typed as it stands, its tables are the program's."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from central.cli import main, parser
from central.keys.inventory import FILES
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import DAY_S, EPOCH, RECEIPT

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
TYPED = [
    line.partition("$ ")[2]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
]


def actions() -> dict[str, argparse.ArgumentParser]:
    found = parser()
    for name in ("keys", None):
        (commands,) = (a for a in found._actions if isinstance(a, argparse._SubParsersAction))
        if name is None:
            return dict(commands.choices)
        found = commands.choices[name]
    raise AssertionError


def test_the_ceremony_can_be_typed_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "six words of an ordinary poem")
    monkeypatch.chdir(tmp_path)
    for disk in ("root", "root2", "usb"):
        (tmp_path / "media" / disk).mkdir(parents=True)
    for line in TYPED:
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        program, *words = shlex.split(line.replace("/media/", f"{tmp_path}/media/"))
        if program == "cp":
            recursive, (source, goal) = "-r" in words, [w for w in words if w != "-r"]
            (shutil.copytree if recursive else shutil.copy)(source, goal)
        else:
            assert program == "loadscape-central"
            assert main(words) == 0, line
    office, loader = KeyPlace(tmp_path / "keys"), KeyPlace(tmp_path / "media" / "usb" / "loader")
    assert read_keyset(office).version == 4
    assert len(read_keyset(office).epoch_keys) == 33
    assert len(list(loader.epoch_dir.glob("*.key"))) == 33
    assert not list(office.epoch_dir.glob("*.key"))
    root2 = tmp_path / "media" / "root2" / "demo"
    assert (root2 / "keyset.cose").read_bytes() == office.keyset.read_bytes()


def test_every_action_is_on_the_page_with_options_that_it_has() -> None:
    named: dict[str, set[str]] = {}
    for action, rest in re.findall(r"keys ([a-z-]+)((?: [^`\n]*)?)", PAGE):
        if action in actions():
            named.setdefault(action, set()).update(re.findall(r"--[a-z][a-z-]+", rest))
    assert named.keys() == actions().keys()
    for action, options in named.items():
        known = {o for a in actions()[action]._actions for o in a.option_strings}
        assert options <= known, action


def test_the_table_of_files_is_the_programs() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| (yes)? ?\| ([a-z, ]+) \|$", PAGE, re.M)
    assert [tuple(row) for row in rows] == [
        (f.pattern, f.holds, "yes" if f.secret else "", ", ".join(sorted(f.needed_by)))
        for f in FILES
    ]


def test_the_times_on_the_page_are_the_programs() -> None:
    assert f"valid {EPOCH.life_s // DAY_S} days, destroyed {EPOCH.kept_s // DAY_S} days" in PAGE
    assert f"valid {RECEIPT.life_s // DAY_S} days" in PAGE
    overlaps = f"({EPOCH.overlap_s // DAY_S} days for epoch keys, {RECEIPT.overlap_s // DAY_S} for"
    assert overlaps in PAGE.replace("\n", " ")
