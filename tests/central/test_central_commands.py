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
from typing import Any

import pytest

from central.cli import main, parser
from central.collect.fleet import Alarm, Fleet
from central.commands.run import run_together
from central.config import load_config
from central.keys.authority import init_authority, read_authority
from central.keys.place import KeyPlace
from central.readings.device_log import DeviceLogLedger
from central.readings.events import EventLedger
from central.readings.ledger import LoaderLedger, Unopened, UnopenedBatch
from wire.events import Event
from wire.log import NO_PREV, Entry, Piece


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


def centre_at(folder: Path) -> Path:
    """A configuration whose keys and certificates lie in `keys`."""
    path = folder / "central.toml"
    path.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\nhost = "localhost"\n'
        'ca_file = "keys/ca.crt"\ncert_file = "keys/collector.crt"\n'
        'key_file = "keys/collector.key"\n'
    )
    return path


def said_by_status(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """Its JSON, and what it says to people."""
    assert main(["status", "--config", str(path), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert main(["status", "--config", str(path)]) == 0
    return state, capsys.readouterr().out


def test_status_counts_the_meters_whose_clocks_are_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    fleet = Fleet(load_config(path).journal_dir)
    for device, clocks in (("t01", {"read": 9, "off": 2}), ("t02", {"read": 9, "off": 1})):
        fleet.get(device, f"demo-{device}", 1).state = {"meter_clocks": clocks}
    fleet.get("t03", "demo-t03", 1).state = {"meter_clocks": "?"}
    fleet.get("t04", "demo-t04", 1)
    fleet.close()
    assert main(["status", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meter_clocks_off"] == 3


def test_status_names_devices_that_may_be_cloned_and_logs_that_are_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    config = load_config(path)
    fleet = Fleet(config.journal_dir)
    fleet.get("t01", "demo-t01", 1).alarm = Alarm(1, "two cards speak in turn")
    fleet.get("t02", "demo-t02", 1)
    fleet.close()
    logs = DeviceLogLedger(config.device_log_file)
    entry = Entry(60, "start", "version=1")
    logs.add([(1, "t02", Piece(b"c" * 8, 1, NO_PREV, (entry,)))])
    assert said_by_status(path, capsys)[0]["device_logs_broken"] == []
    logs.add([(2, "t03", Piece(b"d" * 8, 5, b"p" * 16, (entry,)))])
    logs.close()
    state, text = said_by_status(path, capsys)
    assert state["alarms"] == {"t01": "two cards speak in turn"}
    assert (state["device_logs_broken"], state["device_log_flaws"]) == (["t03"], 1)
    assert "ALARM: t01: two cards speak in turn; " in text
    assert "ALARM: the log of t03 is not whole" in text
    assert text.count("ALARM") == 2


def test_status_tells_why_batches_wait_sealed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    ledger = LoaderLedger(load_config(path).loader_file)
    reasons = ("unreadable", "unreadable", "epoch_gone", "unknown")
    waiting = [
        UnopenedBatch(Unopened(lsn, "t01", b"s" * 8, lsn, reason, "…"), b"sealed")
        for lsn, reason in enumerate(reasons, 1)
    ]
    ledger.before_commit({}, [], waiting)
    ledger.close()
    state, text = said_by_status(path, capsys)
    found = {reason: state[f"unopened_{reason}"] for reason in set(reasons)}
    assert found == {"unreadable": 2, "epoch_gone": 1, "unknown": 1}
    assert state["unopened"] == len(reasons)
    assert "ALARM: 1 batches were written by a later version" in text


def test_status_names_certificates_of_this_machine_that_end_soon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, place = centre_at(tmp_path), KeyPlace(tmp_path / "keys")
    init_authority(place.directory, "demo", broker_hosts=["b"], now_utc_s=int(time.time()))
    authority = read_authority(place)

    def end_in(days: int) -> list[str]:
        place.collector_certificate.write_bytes(authority.issue_client("c", days).certificate)
        place.broker_certificate.write_bytes(authority.issue_server(["b"], days).certificate)
        state, text = said_by_status(path, capsys)
        for what in state["keys_due"]:
            assert f"ALARM: {what}\n" in text
        return [what.split(",")[0] for what in state["keys_due"]]

    assert end_in(31) == []
    assert end_in(29) == ["renew the collector's certificate", "renew the broker's certificate"]
    place.broker_certificate.unlink()
    assert len(said_by_status(path, capsys)[0]["keys_due"]) == 1


def test_status_names_devices_that_know_a_newer_keyset_than_lies_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    init_authority(tmp_path / "keys", "demo", broker_hosts=["b"], now_utc_s=int(time.time()))
    fleet = Fleet(load_config(path).journal_dir)
    for device, version in (("t01", 1), ("t02", 3), ("t03", "9"), ("t04", None)):
        fleet.get(device, f"demo-{device}", 1).state = {"keyset": version}
    fleet.save()
    state, text = said_by_status(path, capsys)
    (what,) = state["keys_due"]
    assert what.startswith("1 devices (t02) know a newer keyset than version 1, which lies here")
    assert f"ALARM: {what}\n" in text
    fleet.get("t02", "demo-t02", 1).state = {"keyset": 1}
    fleet.close()
    assert said_by_status(path, capsys)[0]["keys_due"] == []


def test_status_says_what_is_wrong_with_a_damaged_key_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "collector.crt").write_text("?")
    assert main(["status", "--config", str(path)]) == 1
    assert "collector.crt: no certificate there" in capsys.readouterr().err


def test_what_a_concentrator_says_of_a_meters_events_cannot_pass_for_a_line_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = centre_at(tmp_path)
    at_utc_s = int(time.time()) - 60
    ledger = EventLedger(load_config(path).events_file)
    ledger.add([(1, "t01", Event("m1", "s1", "fr\x1b[2Jaud", at_utc_s, 41, "cover\nopen", 0))])
    ledger.close()
    assert main(["meter", "m1", "events", "--config", str(path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r" fr\x1b[2Jaud      41 cover\nopen")
