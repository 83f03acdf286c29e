"""loadscape-central: every command explains itself; `run` lives and dies as one."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from central.cli import main, parser
from central.collect.fleet import Fleet
from central.commands.run import run_together
from central.config import load_config


def _all_parsers(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [top]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += _all_parsers(child)
    return found


@pytest.mark.parametrize("command", _all_parsers(parser()), ids=lambda command: command.prog)
def test_every_option_has_a_help_or_a_name_that_says_it(command: argparse.ArgumentParser) -> None:
    text = command.format_help()
    assert command.prog in text
    for action in command._actions:
        assert action.help or action.metavar, f"{command.prog} {action.option_strings}"


def test_a_wrong_configuration_exits_with_2_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "central.toml"
    path.write_text("tenant = 1\n")
    assert main(["status", "--config", str(path)]) == 2
    assert f"{path}, line 1, tenant" in capsys.readouterr().err
    assert main(["status", "--config", str(tmp_path / "none.toml")]) == 1


def test_when_one_part_ends_the_others_are_stopped_and_it_fails(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sleeper = (
        "import os, pathlib, time; "
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    waiter = (
        "import pathlib, sys, time\n"
        f"while not pathlib.Path({str(pid_file)!r}).exists(): time.sleep(0.01)\n"
        "sys.exit(3)"
    )
    commands = {"sleeper": [sys.executable, "-c", sleeper], "fails": [sys.executable, "-c", waiter]}
    assert run_together(commands) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_signal_stops_all_parts_and_is_no_failure(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys; from central.commands.run import run_together; "
        "sys.exit(run_together({'a': [sys.executable, '-c', "
        f'\'import os,time; open("{pid_file}", "w").write(str(os.getpid())); time.sleep(60)\']}}))'
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    until_s = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_status_counts_the_meters_whose_clocks_are_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "central.toml"
    path.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\n'
        'host = "localhost"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
    )
    fleet = Fleet(load_config(path).journal_dir)
    for device, clocks in (("t01", {"read": 9, "off": 2}), ("t02", {"read": 9, "off": 1})):
        fleet.get(device, f"demo-{device}", 1).state = {"meter_clocks": clocks}
    fleet.get("t03", "demo-t03", 1).state = {"meter_clocks": "?"}
    fleet.get("t04", "demo-t04", 1)
    fleet.close()
    assert main(["status", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meter_clocks_off"] == 3
