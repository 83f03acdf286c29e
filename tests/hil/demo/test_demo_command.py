"""The demo refuses what it cannot do, in words, before it starts anything."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from hil.cli import main


def test_a_taken_port_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status = main(["demo", "--port", str(port), "--folder", str(tmp_path / "demo")])
    assert status == 2
    said = capsys.readouterr().err
    assert str(port) in said
    assert "--port" in said


def test_a_folder_with_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters").write_text("dear diary")
    assert main(["demo", "--port", "0", "--folder", str(tmp_path)]) == 2
    assert "--folder" in capsys.readouterr().err
    assert (tmp_path / "letters").read_text() == "dear diary"


def test_a_folder_in_which_a_demo_runs_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    with (tmp_path / "demo.lock").open("wb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        assert main(["demo", "--port", "0", "--folder", str(folder)]) == 2
    assert "another demo is running there" in capsys.readouterr().err


def test_an_unknown_town_is_refused_with_the_towns_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--town", "atlantis", "--port", "0", "--folder", str(folder)]) == 2
    assert "schutterwald" in capsys.readouterr().err


def test_days_must_be_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--days", "0"]) == 2
    assert "--days 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "bench", "soak", "meters"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
