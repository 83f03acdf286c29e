"""`loadscape-agent` at a bench of two real serial lines, with keys that central made."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands_bench import (
    BAUD,
    DLMS_SERIALS,
    UNITS,
    Bench,
    Running,
    dlms_line,
    modbus_line,
    prepare,
)

from agent.config import load_config
from agent.run import Agent
from agent.status_file import read_status
from central.keys.authority import init_authority
from hil.line.pty import served
from hil.meters.steady import Steady


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = prepare(tmp_path)
    with served(modbus_line(tmp_path), dlms_line(tmp_path)):
        yield bench


@pytest.fixture
def start() -> Iterator[Callable[[Bench], Running]]:
    with ExitStack() as stack:

        def begin(bench: Bench) -> Running:
            agent = Agent(load_config(bench.config))
            thread = threading.Thread(target=agent.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(agent.stop)
            return Running(agent, thread)

        yield begin


# --- check


def test_a_sound_configuration_is_summed_up(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("check") == 0
    said = capsys.readouterr().out
    assert "6 meters on 2 lines: 1 eastron_sdm120, 1 eastron_sdm230, 1 eastron_sdm630" in said
    assert "127.0.0.1:1 as demo-t07" in said
    assert f"modbus, {BAUD} Bd 8N1, 3 meters" in said
    assert "keyset 1, sealing until" in said
    assert "demo-t07, holds until" in said
    assert "(30 days)" in said
    assert said.endswith("all is sound\n")
    assert bench.say("check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


@pytest.mark.parametrize(
    ("before", "after", "at", "said"),
    [
        ("sample_s", "sampel_s", "sampel_s", "[agent] sampel_s: is no key of this table; remove"),
        ('line = "dlms-1"', 'line = "dlms-7"', 'line = "dlms-7"', "there are: dlms-1, modbus-1"),
        ("unit = 5", "unit = 3", 'unit = 3\n\n[[meter]]\nid = "m9"', "give each its own"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_with_2_and_the_place(
    bench: Bench, capsys: pytest.CaptureFixture[str], before: str, after: str, at: str, said: str
) -> None:
    bench.edit(before, after)
    assert bench.say("check") == 2
    error = capsys.readouterr().err
    assert f"agent.toml:{bench.line_of(at)}: " in error
    assert said in error


def _other_root(bench: Bench) -> None:
    place = init_authority(
        bench.folder / "strangers", "demo", broker_hosts=["x"], now_utc_s=time.time()
    )
    (bench.keys / "keyset.cose").write_bytes(place.keyset.read_bytes())


def _other_device(bench: Bench) -> None:
    for name in ("tls.crt", "tls.key"):
        (bench.keys / name).write_bytes((bench.folder / "other" / name).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "at", "said"),
    [
        (
            lambda b: b.edit("eastron_sdm120", "eastron_sdm121"),
            'model = "eastron_sdm121"',
            ("[meter] model: meter m5", "eastron_sdm120, eastron_sdm230", "correct the name"),
        ),
        (
            lambda b: b.edit("idis_residential", "idis_residental"),
            'model = "idis_residental"',
            ("[meter] model: meter d17", "known are: ct_meter, ct_meter_gmac, idis_residential"),
        ),
        (
            lambda b: (b.keys / "sign.key").unlink(),
            "sign_key_file",
            ("[keys] sign_key_file", "cannot be read (No such file or directory)", "copy the"),
        ),
        (
            lambda b: (b.keys / "sign.key").chmod(0o644),
            "sign_key_file",
            ("mode 644 lets others read", "chmod 600"),
        ),
        (
            lambda b: (b.keys / "tls.key").chmod(0o640),
            "key_file",
            ("[broker] key_file", "mode 640 lets others read", "chmod 600"),
        ),
        (
            lambda b: (b.folder / "lls").chmod(0o644),
            "password_file",
            ("[meter] password_file", "mode 644", "chmod 600"),
        ),
        (_other_root, "keyset_file", ("[keys] keyset_file", "keyset.cose", "bundle anew")),
        (
            lambda b: b.edit("/modbus", "/mudbus"),
            'port = "/',
            ("[line] port", "mudbus: expected a free serial port", "check the cable"),
        ),
        (
            _other_device,
            "cert_file",
            ("is the certificate of 'demo-t08', this device is 'demo-t07'", "bundle"),
        ),
        (
            lambda b: (b.keys / "tls.crt").write_bytes(
                (b.folder / "other" / "tls.crt").read_bytes()
            ),
            "cert_file",
            ("expected a certificate and its key", "from one bundle"),
        ),
    ],
)
def test_a_fault_of_keys_ports_or_models_ends_with_1_place_and_remedy(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Bench], None],
    at: str,
    said: tuple[str, ...],
) -> None:
    spoil(bench)
    assert bench.say("check") == 1
    out = capsys.readouterr().out
    wrong = [line for line in out.splitlines() if line.startswith("wrong")]
    assert any(f"agent.toml:{bench.line_of(at)}: " in line for line in wrong), out
    for words in said:
        assert any(words in line for line in wrong), out


# --- read


def test_every_kind_of_meter_shows_registers_gauges_serial_and_instant(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for meter, serial in (("m3", "not told by the meter"), ("d17", "D0000017")):
        assert bench.say("read", meter) == 0
        said = capsys.readouterr().out
        assert serial in said
        for value in (r"kWh", "kvarh", "230.4 V", "5.00 A", " UTC"):
            assert value in said, said
        assert "12,345.6" in said


def test_json_names_meter_model_and_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.say("read", "--json", "d20") == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["meter"], read["model"], read["line"]) == ("d20", "idis_residential", "dlms-1")
    assert read["sample"]["import_wh"] == Steady().import_wh
    assert read["sample"]["serial"] == "D0000020"


@pytest.mark.parametrize(("meter", "address"), [("m9", "unit 9"), ("d30", "1/30")])
def test_a_silent_meter_is_an_error_within_the_deadline(
    bench: Bench, capsys: pytest.CaptureFixture[str], meter: str, address: str
) -> None:
    began_s = time.monotonic()
    assert bench.say("read", meter) == 1
    assert time.monotonic() - began_s < 6
    error = capsys.readouterr().err
    assert f"meter {meter}: " in error
    assert address in error
    assert "check wiring" in error


def test_a_port_that_another_program_holds_names_that_program(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = (
        "import serial, sys; s = serial.Serial(sys.argv[1], exclusive=True); "
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(bench.folder / "modbus")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert bench.say("read", "m3") == 1
        error = capsys.readouterr().err
        assert f"held by process {other.pid} (" in error
        assert "stop that program" in error
        assert bench.say("check") == 1
    finally:
        other.communicate()


# --- scan


def test_a_modbus_scan_finds_all_units_and_their_models(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("scan", "--addresses", "2-6", "modbus-1") == 0
    said = capsys.readouterr()
    assert "asking 5 addresses on modbus-1: 2-6" in said.err
    found = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert set(found) == {"3", "5"}
    for unit, model in UNITS.items():
        assert model in found[str(unit)]


def test_a_dlms_scan_finds_all_servers_without_knowing_their_model(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("scan", "--json", "--addresses", "16-21", "dlms-1") == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert {answer["address"]: answer["serial"] for answer in found} == DLMS_SERIALS
    for answer in found:
        assert "idis_residential" in answer["models"]


def test_a_scan_without_the_password_still_tells_who_is_there(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.config.write_text(bench.config.read_text().replace('password_file = "lls"\n', ""))
    assert bench.say("scan", "--addresses", "17", "dlms-1") == 0
    said = capsys.readouterr().out
    assert "serial D0000017" in said
    assert "password" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scan", "dlms-9"), "lines are: modbus-1, dlms-1"),
        (("scan", "modbus-1", "--addresses", "1-300"), "a modbus line has addresses 1-247"),
        (("scan", "dlms-1", "--model", "idis"), "idis_residential, "),
        (("read", "d71"), "did you mean d17"),
    ],
)
def test_a_command_that_cannot_be_used_says_what_can(
    bench: Bench, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert bench.say(*words) == 2
    assert said in capsys.readouterr().err


def test_a_line_on_which_nobody_answers_is_said_to_be_so(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("scan", "--addresses", "40-41", "dlms-1") == 1
    assert "no answer on dlms-1; check wiring" in capsys.readouterr().out


# --- status, metrics, a port that vanishes


def test_status_of_an_agent_that_never_ran_runs_and_has_stopped(
    bench: Bench,
    start: Callable[[Bench], Running],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.say("status", "--json") == 3
    assert json.loads(capsys.readouterr().out)["ever_ran"] is False
    running = start(bench)
    running.until(lambda: running.count("reads_total") > 3)
    running.until(
        lambda: "meter m9" in (read_status(bench.folder / "data") or {}).get("faults", {})
    )
    assert bench.say("status") == 1  # the broker is away and unit 9 is silent
    said = capsys.readouterr().out
    assert "demo-t07: running" in said
    assert "2 of 3 meters answer; not: m9" in said
    assert "UTC, trusted" in said
    assert "receipt     none yet" in said
    assert "fault       meter m9: " in said
    assert "check wiring" in said
    running.agent.stop()
    running.thread.join()
    assert bench.say("status") == 3
    assert "demo-t07: not running" in capsys.readouterr().out


def test_an_agent_that_was_killed_is_not_said_to_run(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [sys.executable, "-m", "agent.cli", "run", "--config", str(bench.config)]
    killed = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 15
    while not (bench.folder / "data" / "status.json").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)  # nothing announces that a file is there
    assert bench.say("check") == 0
    assert "in use by the running agent" in capsys.readouterr().out
    killed.kill()
    killed.wait()
    assert bench.say("status") == 3
    assert "not running; this is what it said last" in capsys.readouterr().out


def test_metrics_have_help_type_and_units(bench: Bench, start: Callable[[Bench], Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bench.edit("sample_s = 1", f"sample_s = 1\nmetrics_port = {port}")
    running = start(bench)
    # Status and labelled metrics are written together, every two seconds.
    running.until(lambda: "meter_turnaround_seconds{" in running.agent.counters.prometheus())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    names = [line.split()[0].partition("{")[0] for line in lines]
    assert "loadscape_agent_outbox_batches" in names
    assert any(
        line.startswith('loadscape_agent_line_cycle_share{line="modbus-1"} ') for line in lines
    )
    assert any(
        line.startswith('loadscape_agent_meter_turnaround_seconds{meter="m3"} ') for line in lines
    )
    for name in names:
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} " in text
        assert not name.endswith("_s")


def test_a_port_that_comes_back_is_read_again_and_logged_once(
    tmp_path: Path,
    start: Callable[[Bench], Running],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "loadscape.agent")
    bench = prepare(tmp_path)
    with served(dlms_line(tmp_path)):
        with served(modbus_line(tmp_path)):
            running = start(bench)
            running.until(lambda: running.count("reads_total") > 8)
        running.until(lambda: not running.is_open("modbus-1"))
        assert running.count("ports_lost_total") == 1
        running.thread.join(2.5)  # long enough for several tries in vain
        running.until(lambda: not (read_status(tmp_path / "data") or {})["lines"][0]["open"])
        bench.say("status")
        said = capsys.readouterr().out
        assert "modbus-1: port closed, none of 3 meters is asked, busy" in said
        read = running.count("reads_total")
        with served(modbus_line(tmp_path)):
            running.until(lambda: running.is_open("modbus-1"), 6)
            running.until(lambda: running.count("reads_total") > read + 2, 6)
            assert running.count("ports_lost_total") == 1
            running.agent.stop()
            running.thread.join()
    of_line = [r.message for r in caplog.records if r.message.startswith("line modbus-1")]
    assert len(of_line) == 2, of_line
    assert "the port is closed, plug the adapter in again" in of_line[0]
    assert of_line[1].startswith("line modbus-1: over")
