"""`./dev soak fuzz`: what it says when it cannot run, and how an input is shown again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import main
from hil.fuzz.decoders import decoders
from hil.fuzz.mutate import grown, mutations
from hil.fuzz.run import run_fuzz


def test_a_decoder_that_does_not_exist_is_named_beside_those_that_do(capsys):
    assert main(["soak", "fuzz", "axdr", "morse"]) == 2
    told = capsys.readouterr().err
    assert "no decoder morse" in told
    assert "hdlc-frames" in told


def test_without_time_nothing_is_fuzzed(capsys):
    assert main(["soak", "fuzz", "axdr", "--minutes", "0"]) == 2
    assert "--minutes 0" in capsys.readouterr().err


def test_a_machine_without_the_fuzzer_is_told_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_fuzz(["axdr"], 1.0, as_json=False, replayed=None, folder=tmp_path) == 2
    assert "x86_64" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "said"), [(b"\x11\x05", "takes it"), (b"\x11", "refuses it")])
def test_a_kept_input_is_shown_again(tmp_path: Path, capsys, data, said):
    file = tmp_path / "input"
    file.write_bytes(data)
    assert main(["soak", "fuzz", "axdr", "--input", str(file)]) == 0
    assert said in capsys.readouterr().out


def test_an_input_needs_one_decoder_and_a_file(tmp_path, capsys):
    assert main(["soak", "fuzz", "axdr", "--input", str(tmp_path / "none")]) == 2
    assert main(["soak", "fuzz", "--input", __file__]) == 2


def test_the_plain_soak_keeps_its_words(capsys):
    assert main(["soak", "--minutes", "0", "--speed", "5"]) == 2
    assert "--minutes 0 --speed 5" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_damage():
    seeds = decoders()["axdr"].seeds()
    assert list(mutations(seeds, 300, seed=5)) == list(mutations(seeds, 300, seed=5))
    assert list(mutations(seeds, 300, seed=5)) != list(mutations(seeds, 300, seed=6))
    assert max(map(len, mutations(seeds, 300, seed=5))) <= 4096
    assert all(8192 <= len(data) < 8192 + len(seeds[0]) for data in grown(seeds[0], 8192))


def test_fuzzing_counts_what_it_did(tmp_path, capsys):
    pytest.importorskip("atheris", reason="the fuzzer is installed by ./dev soak fuzz only")
    assert run_fuzz(["ber"], 0.05, as_json=True, replayed=None, folder=tmp_path) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["decoder"] == "ber"
    assert outcome["executions"] > 0
    assert outcome["coverage"] > 0
    assert outcome["crashes"] == []
