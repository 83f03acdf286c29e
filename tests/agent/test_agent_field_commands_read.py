"""`read` and `trace` at real serial lines: every register with its bytes, every frame judged."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from commands_bench import BAUD, Bench, dlms_line, modbus_line, prepare

from agent.commands.read import register_lines
from agent.commands.trace import decoded
from agent.modbus.frame import Frame
from agent.modbus.profile import ShownRegister
from hil.line import faults
from hil.line.pty import PtyLine, served
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Gauges, Recorded, Registers
from hil.meters.steady import Steady
from wire.clock import SystemClock


@dataclass
class Counting:
    """A face whose imported energy is a kilowatt-hour more at every look."""

    serial: str = "1000077"
    looks: int = field(default=0)

    def registers(self, at_utc_s: float) -> Registers:
        self.looks += 1
        return Registers(self.looks * 1000, 0, 0)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(230.0, 1.0, 230.0, 50.0)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        return ()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = prepare(tmp_path)
    with served(modbus_line(tmp_path), dlms_line(tmp_path)):
        yield bench


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Bench]:
    """Unit 3 counts on at every look."""
    bench = prepare(tmp_path)
    meters = {3: ModbusMeter("eastron_sdm630", Counting())}
    with served(PtyLine(tmp_path / "modbus", ModbusBus(meters, SystemClock()), baud=BAUD)):
        yield bench


def start(bench: Bench, *words: str) -> subprocess.Popen[str]:
    """The command as a process of its own, so that Ctrl-C can reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli", *words, "--config", str(bench.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], wanted: str, times: int) -> list[str]:
    """The process's lines up to the one in which `wanted` stands for the n-th time."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        times -= wanted in line
        if times == 0:
            return lines
    raise AssertionError(f"{wanted!r} did not come: {lines}")


# --- read


def test_each_register_stands_beside_the_bytes_that_the_meter_sent(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("read", "m3") == 0
    said = capsys.readouterr().out
    assert re.search(r"^voltage_l1 +0 4366 6666 +230\.400 V$", said, re.M)
    assert re.search(r"^active_energy_import +72 4640 e6b6 +12,345\.678 kWh$", said, re.M)
    registers, sample = said.split("what the agent makes of it:")
    assert "energy imported    12,345.678 kWh" in sample
    assert registers.index("meter ") < registers.index("register ")


def test_the_registers_are_told_as_json_in_base_units(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("read", "m3", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    by_name = {register["name"]: register for register in said["registers"]}
    assert by_name["voltage_l1"]["raw"] == "43666666"
    assert by_name["voltage_l1"]["value"] == pytest.approx(230.4, abs=1e-4)
    assert by_name["active_energy_import"]["unit"] == "Wh"
    assert said["sample"]["import_wh"] == Steady().import_wh
    assert all(register["note"] == "" for register in said["registers"])


def test_a_register_without_a_value_says_why_and_keeps_its_bytes() -> None:
    known = ShownRegister("voltage_l1", 0, b"\x09\x00", Fraction(2304, 10), "V", "")
    marked = ShownRegister("export", 2, b"\xff\xff\xff\xff", None, "Wh", "no value")
    unread = ShownRegister("frequency", 70, b"", None, "Hz", "not read")
    _, first, second, third = register_lines((known, marked, unread))
    assert re.fullmatch(r"voltage_l1 +0 0900 +230\.400 V", first)
    assert re.fullmatch(r"export +2 ffff ffff +- kWh +no value", second)
    assert re.fullmatch(r"frequency +70 +- Hz +not read", third)
    _, *again = register_lines((known, marked, unread), (known, marked, unread))
    assert not any("+" in line for line in again)


def test_a_dlms_meter_is_read_as_before(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.say("read", "d17") == 0
    said = capsys.readouterr().out
    assert "serial             D0000017" in said
    assert "energy imported    12,345.678 kWh" in said
    assert "raw" not in said


def test_a_watch_shows_what_has_changed_and_ends_well_by_ctrl_c(counting: Bench) -> None:
    process = start(counting, "read", "m3", "--watch", "0.1")
    lines = until(process, "energy imported", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    rows = [line for line in lines if line.startswith("active_energy_import ")]
    shown = [re.search(r"([\d.]+) kWh(?: +(\+[\d.]+))?$", row) for row in rows]
    energies = [(float(row[1]), row[2]) for row in shown if row]
    assert len(energies) == 3
    assert energies[0][1] is None
    for (before, _), (after, change) in itertools.pairwise(energies):
        assert float(change) == pytest.approx(after - before, abs=0.001)
        assert float(change) >= 1


def test_a_watch_as_json_is_one_object_per_line(counting: Bench) -> None:
    process = start(counting, "read", "m3", "--watch", "0.1", "--json")
    lines = until(process, '"sample"', 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0
    energies = [json.loads(line)["sample"]["import_wh"] for line in lines]
    assert energies == sorted(set(energies))


def test_a_watch_goes_on_when_the_meter_does_not_answer(bench: Bench) -> None:
    process = start(bench, "read", "m9", "--watch", "0.1")
    assert process.stderr is not None
    for _ in range(2):
        assert "check wiring" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_a_watch_needs_seconds_above_zero(
    bench: Bench, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.say("read", "m3", f"--watch={seconds}")
    assert ended.value.code == 2
    assert "expected seconds above 0" in capsys.readouterr().err


# --- trace


def test_a_trace_shows_frames_with_time_direction_and_verdict(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("trace", "m3", "--seconds", "1") == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^ +\d+\.\d -> unit 3 function 4 \d+ registers from 0 +request +03 04 00 00 ", said, re.M
    )
    assert re.search(
        r"^ +\d+\.\d <- unit 3 function 4 \d+ registers +answer +03 04 .* 43 66 66 66 ", said, re.M
    )
    assert re.search(r"^ +\d+  heard: answer$", said, re.M)
    assert re.search(r"^meter m3: read \d+ times, failed 0 times$", said, re.M)


def test_a_trace_of_a_line_tells_the_silent_meter_from_the_others(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("trace", "modbus-1", "--json", "--seconds", "1.8") == 0
    said = capsys.readouterr()
    *frames, summary = [json.loads(line) for line in said.out.splitlines()]
    assert {frame["unit"] for frame in frames if frame["direction"] == "sent"} == {3, 5, 9}
    assert {frame["unit"] for frame in frames if frame["verdict"] == "answer"} == {3, 5}
    silent = [frame for frame in frames if frame["verdict"] == "silence"]
    assert silent
    assert all(frame["hex"] == "" for frame in silent)
    times_ms = [frame["ms"] for frame in frames]
    assert times_ms == sorted(times_ms)
    assert summary["counts"]["heard: silence"] == len(silent)
    assert summary["meters"]["m3"]["read"] > 0
    assert summary["meters"]["m9"] == {"read": 0, "failed": summary["meters"]["m9"]["failed"]}
    assert "meter m9: " in said.err


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (faults.bad_crc, "bad_crc"),
        (faults.other_unit, "other_unit"),
        (faults.other_function, "other_function"),
        (faults.more_registers, "other_count"),
        (faults.echo, "echo"),
        (faults.before(b"\x00\x00\xff"), "noise"),
        (faults.exception(6), "exception 6 (device busy)"),
        (faults.late(0.6), "late"),
    ],
)
def test_a_trace_names_what_was_wrong_with_a_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: faults.Fault, verdict: str
) -> None:
    bench = prepare(tmp_path)
    meters = {3: ModbusMeter("eastron_sdm630", Steady("21000003"))}
    # Every second answer is well, so that the meter is read in the end.
    line = faults.Faulty(ModbusBus(meters, SystemClock()), itertools.cycle((fault, faults.well)))
    with served(PtyLine(tmp_path / "modbus", line, baud=BAUD)):
        bench.say("trace", "m3", "--json", "--seconds", "2")
    *frames, summary = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert verdict in {frame["verdict"] for frame in frames if frame["direction"] == "heard"}
    assert summary["counts"][f"heard: {verdict}"] >= 1


def test_a_trace_of_a_meter_that_never_answers_ends_with_1(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("trace", "m9", "--seconds", "0.5") == 1
    assert "read 0 times" in capsys.readouterr().out


def test_ctrl_c_ends_a_trace_with_its_counts(bench: Bench) -> None:
    process = start(bench, "trace", "m3", "--seconds", "600")
    until(process, " answer ", 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "heard: answer" in out


def test_a_reader_that_has_seen_enough_ends_a_watch_without_complaint(bench: Bench) -> None:
    process = start(bench, "read", "m3", "--watch", "0.1")
    until(process, "energy imported", 1)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize("target", ["m4711", "line-9"])
def test_a_trace_of_nothing_that_is_configured_names_the_lines(
    bench: Bench, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert bench.say("trace", target) == 2
    assert "lines are: modbus-1, dlms-1" in capsys.readouterr().err


def test_a_port_that_is_not_there_ends_a_trace_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path).say("trace", "m3") == 1
    assert "check the cable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            Frame(0, "sent", bytes.fromhex("0304000000027029"), "request"),
            {"unit": 3, "function": 4, "address": 0, "registers": 2},
        ),
        (
            Frame(0, "heard", bytes.fromhex("0384026301"), "exception 2 (illegal data address)"),
            {"unit": 3, "function": 4, "exception": 2},
        ),
        (
            Frame(0, "heard", bytes.fromhex("05040443666666abcd"), "other_unit"),
            {"unit": 5, "function": 4, "registers": 2},
        ),
        (Frame(0, "heard", b"\x00\xff\x13", "noise"), {}),
        (Frame(0, "heard", b"", "silence"), {}),
        (Frame(0, "heard", b"\x05", "bad_crc"), {}),
        (Frame(0, "sent", b"\x7e\xa0", "raw"), {}),
    ],
)
def test_only_bytes_that_begin_like_a_frame_are_decoded(
    frame: Frame, expected: dict[str, int]
) -> None:
    assert decoded(frame) == expected
