"""`./dev bench`: what it prints, what it writes, and what its exit status says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.bench.figure import Figure
from hil.bench.run import run_bench
from hil.cli import main

SMALL = Figure("trial.bytes", 10.25, "B", limit=10.9, peer="entropy bound", peer_value=9.5)
ALONE = Figure("trial.cpu_ms", 0.5, "ms", peer="a faster library")
SLOW = Figure("trial.per_s", 90.0, "1/s", limit=100.0, better="higher")


def small() -> Iterator[Figure]:
    yield SMALL
    yield ALONE


def slow() -> Iterator[Figure]:
    yield SLOW


def breaks() -> Iterator[Figure]:
    yield SMALL
    raise RuntimeError("the meters did not come up")


def test_an_unknown_part_is_refused_and_the_known_ones_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "weather"]) == 2
    said = capsys.readouterr()
    assert "no part 'weather'" in said.err
    assert "chain" in said.err
    assert said.out == ""


def test_every_figure_is_printed_beside_its_limit_and_peer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_bench("small", None, {"small": small, "slow": slow}) == 0
    head, bytes_line, cpu_line = capsys.readouterr().out.splitlines()
    assert head.split() == ["figure", "value", "unit", "limit", "peer"]
    assert " ".join(bytes_line.split()) == "trial.bytes 10.2 B <= 10.9 entropy bound: 9.5"
    assert "a faster library: not measured" in cpu_line
    assert bytes_line.index("B") == cpu_line.index("ms", len("trial.cpu_ms"))


def test_text_of_a_part_is_printed_among_its_figures_and_is_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tells() -> Iterator[Figure | str]:
        yield SMALL
        yield "a table\nof two lines"

    file = tmp_path / "figures.json"
    assert run_bench("tells", file, {"tells": tells}) == 0
    assert "\n\na table\nof two lines\n\n" in capsys.readouterr().out
    assert len(json.loads(file.read_text())) == 1


def test_no_part_named_means_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    run_bench(None, None, {"small": small, "slow": slow})
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == ["trial.bytes", "trial.cpu_ms", "trial.per_s"]


def test_a_missed_limit_is_visible_and_makes_the_exit_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_bench(None, None, {"small": small, "slow": slow}) == 1
    said = capsys.readouterr()
    (missed,) = (line for line in said.out.splitlines() if "LIMIT MISSED" in line)
    assert missed.startswith("trial.per_s")
    assert ">= 100" in missed
    assert said.err == "bench: limit missed: trial.per_s\n"


def test_the_json_has_one_object_per_figure_with_null_for_what_was_not_measured(
    tmp_path: Path,
) -> None:
    file = tmp_path / "figures.json"
    run_bench("small", file, {"small": small})
    assert json.loads(file.read_text()) == [
        {
            "name": "trial.bytes",
            "value": 10.25,
            "unit": "B",
            "limit": 10.9,
            "peer": "entropy bound",
            "peer_value": 9.5,
        },
        {
            "name": "trial.cpu_ms",
            "value": 0.5,
            "unit": "ms",
            "limit": None,
            "peer": "a faster library",
            "peer_value": None,
        },
    ]


def test_what_was_measured_before_a_part_broke_is_still_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with pytest.raises(RuntimeError, match="the meters did not come up"):
        run_bench(None, file, {"breaks": breaks})
    assert [figure["name"] for figure in json.loads(file.read_text())] == ["trial.bytes"]
