"""What `check`, `status` and /metrics say of lines, at a bench of real serial lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands_bench import UNITS, Bench, Running, dlms_line, modbus_line, prepare

from agent.commands import check
from agent.config import load_config
from agent.run import Agent
from hil.line.pty import PtyLine, served
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock


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


def slow(bench: Bench, baud: int) -> None:
    bench.edit('protocol = "modbus"\nbaud = 115200', f'protocol = "modbus"\nbaud = {baud}')


def test_check_shows_who_takes_how_much_of_a_modbus_line(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("check") == 0
    said = capsys.readouterr().out
    assert "ok    budget modbus-1" in said
    assert "3 meters take" in said
    assert "1 x eastron_sdm630: 1 read" in said
    assert "budget dlms-1" not in said
    assert bench.say("check", "--json") == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (budget,) = [finding["budget"] for finding in findings if finding["budget"]]
    assert budget["fits"]
    assert {share["meter"] for share in budget["shares"]} == {"m3", "m5", "m9"}


def test_check_calls_an_overfull_line_wrong_and_says_what_to_change(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    slow(bench, 2400)
    assert bench.say("check") == 1
    said = capsys.readouterr().out
    assert "wrong budget modbus-1" in said
    assert f"agent.toml:{bench.line_of('sample_s')}: [agent] sample_s: 3 meters take" in said
    assert "set sample_s = " in said
    assert "9600 Bd, which every model here can" in said


def test_check_warns_of_a_numbered_port_that_has_a_name_that_stays(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id = "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0"
    monkeypatch.setattr("agent.line.names.stable_name", lambda path: by_id)
    bench.edit(f'port = "{bench.folder}/modbus"', 'port = "/dev/ttyUSB7"')
    bench.say("check", "--json")
    findings = json.loads(capsys.readouterr().out)["findings"]
    (warning,) = [finding["warning"] for finding in findings if finding["warning"]]
    assert f'write port = "{by_id}"' in warning
    place = bench.line_of('port = "/dev/ttyUSB7"')
    assert f"agent.toml:{place}: [line] port" in warning


def test_a_warning_alone_is_nothing_wrong(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = check.Finding("line x", warning="mind the name")
    monkeypatch.setattr(check, "check", lambda config: iter([warned]))
    assert bench.say("check") == 0
    assert "warn  line x           mind the name" in capsys.readouterr().out


def test_status_tells_how_busy_a_line_is_and_how_its_cycle_compares(
    bench: Bench, start: Callable[[Bench], Running], capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(bench)

    def line() -> dict[str, object]:
        lines = running.agent.state()["lines"]
        return next((entry for entry in lines if entry["name"] == "modbus-1"), {})

    running.until(lambda: line().get("cycle_ratio") is not None, 30)
    running.until(lambda: "meter m9" in running.agent.faults.present(), 30)
    status = bench.folder / "data" / "status.json"
    running.until(lambda: json.loads(status.read_text())["lines"][0]["cycle_ratio"] is not None, 10)
    shown = json.loads(status.read_text())
    assert set(shown["meters"]) == {*(f"m{unit}" for unit in UNITS), "m9"}
    assert shown["meters"]["m3"]["reads"] == 1
    assert shown["meters"]["m3"]["turnaround_ms"] is not None
    assert shown["meters"]["m9"]["turnaround_ms"] is None
    assert 0 < shown["lines"][0]["busy_share"] <= 1
    assert "meters" not in running.agent.state()
    bench.say("status")
    said = capsys.readouterr().out
    assert "modbus-1: port open, 2 of 3 meters answer; not: m9, busy " in said
    assert "one sample of each meter takes" in said


def test_a_line_too_slow_for_sample_s_says_so_and_counts_missed_samples(
    tmp_path: Path, start: Callable[[Bench], Running], capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    slow(bench, 1200)
    meters = {unit: ModbusMeter(model, Steady()) for unit, model in UNITS.items()}
    there = PtyLine(tmp_path / "modbus", ModbusBus(meters, SystemClock()), baud=1200)
    with served(there, dlms_line(tmp_path)):
        running = start(bench)
        status = bench.folder / "data" / "status.json"

        def overloaded() -> bool:
            if not status.exists():
                return False
            line = json.loads(status.read_text())["lines"][0]
            return bool(line["cycle_share"] > 1 and line["cycle_ratio"] and line["missed_samples"])

        running.until(overloaded, 30)
        bench.say("status")
        running.agent.stop()
        running.thread.join()
    assert "too slow for sample_s: see check" in capsys.readouterr().out
