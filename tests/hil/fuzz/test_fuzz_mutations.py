"""`./dev soak fuzz --mutations N`: what it counts, and that it sees what it looks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import main
from hil.fuzz import mutated, mutated_child
from hil.fuzz.decoders import Decoder, decoders
from hil.fuzz.mutated import run_mutated


def test_all_inputs_are_given_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = []
    for _ in range(2):
        assert run_mutated(["ber", "wire-log"], 500, 7, as_json=True, folder=tmp_path) == 0
        told.append(json.loads(capsys.readouterr().out))
    first, second = told[0]
    assert (first["decoder"], second["decoder"]) == ("ber", "wire-log")
    assert 0 < first["refused"] <= first["inputs"] == 500
    assert first["crash"] is None
    assert 0 <= first["grown_bytes"] <= first["most_bytes"]
    assert [one["refused"] for one in told[0]] == [one["refused"] for one in told[1]]


def bad_decoder(what: str) -> str:
    """A module like the child's, with a decoder that does `what` with the third input."""
    return f"""
import itertools, os, sys
from hil.fuzz import mutated_child
from hil.fuzz.decoders import Decoder
count = itertools.count()
kept = []
def run(data):
    if next(count) == 3:
        {what}
mutated_child.decoders = lambda: {{"bad": Decoder("bad", run, (ValueError,), lambda: [b"seed"])}}
mutated_child.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise KeyError", "crash-"),
        ("os.kill(os.getpid(), 11)", "crash-"),
        ("kept.append(b'x' * (64 << 20))", "MORE THAN IT MAY"),
    ],
)
def test_what_ends_the_process_or_takes_memory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    what: str, said: str,
):  # fmt: skip
    child = tmp_path / "child.py"
    child.write_text(bad_decoder(what))
    monkeypatch.setattr(mutated, "CHILD", (str(child),))
    bad = Decoder("bad", lambda data: None, (ValueError,), lambda: [b"seed"])
    monkeypatch.setattr(mutated, "decoders", lambda: {"bad": bad})
    assert run_mutated(["bad"], 50, 1, as_json=False, folder=tmp_path) == 1
    assert said in capsys.readouterr().err
    kept = list((tmp_path / "crashes" / "bad").iterdir())
    inputs = list(mutated_child.mutations([b"seed"], 3, 1))
    assert [file.read_bytes() for file in kept] == ([] if "MORE" in said else [inputs[2]])


def test_without_inputs_or_with_an_unknown_decoder_nothing_runs(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["soak", "fuzz", "axdr", "--mutations", "0"]) == 2
    assert main(["soak", "fuzz", "morse", "--mutations", "5"]) == 2
    assert "no decoder morse" in capsys.readouterr().err


def test_every_decoder_of_the_wire_is_in_the_table():
    messages = {"block", "rows", "envelope", "receipt", "keyset", "roster", "events", "log", "cbor"}
    assert {f"wire-{name}" for name in messages} <= set(decoders())
