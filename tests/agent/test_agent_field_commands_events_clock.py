"""`events` and `clock` at a real serial line: each entry once, the clock as its class allows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_bench import BAUD, Bench, Recording, prepare

from hil.line.pty import PtyLine, served
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.clock import MeterClock
from hil.meters.dlms.meter import DlmsMeter
from wire.clock import SystemClock

HOUR_S = 3_600


@pytest.fixture
def meter() -> DlmsMeter:
    return DlmsMeter(Recording("D0000017"), settable=True, clock=MeterClock(40.0))


@pytest.fixture
def bench(tmp_path: Path, meter: DlmsMeter) -> Iterator[Bench]:
    line = PtyLine(tmp_path / "dlms", DlmsBus({"1/17": meter}, SystemClock()), baud=BAUD)
    with served(line):
        yield prepare(tmp_path)


def allow_setting(bench: Bench, how: str) -> None:
    (bench.folder / "mine.toml").write_text(
        f'like = "idis_residential"\ntitle = "Mine"\n\n[clock]\nset = "{how}"\nedge_s = 0\n'
    )
    bench.edit('model = "idis_residential"\n', 'model = "mine.toml"\n')


def test_entries_of_all_logs_come_once_in_the_order_of_their_time(
    bench: Bench, meter: DlmsMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    for ago in range(40, 0, -1):
        meter.log_event("standard", 10 + ago % 2, now - ago * HOUR_S)
    meter.log_event("fraud", 40, now - 5 * HOUR_S - 60)
    meter.log_event("standard", 11, now - HOUR_S)
    assert bench.say("events", "d17") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "at_utc,at_utc_s,log,code,detail"
    assert len(rows) == 42
    assert [row[:20] for row in rows] == sorted(row[:20] for row in rows)
    assert [row.split(",")[2:4] for row in rows if "fraud" in row] == [["fraud", "40"]]


def test_a_span_and_a_log_are_what_is_asked_for(
    bench: Bench, meter: DlmsMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    now = int(time.time())
    for ago in (50, 30, 10):
        meter.log_event("standard", ago, now - ago * HOUR_S)
        meter.log_event("fraud", ago, now - ago * HOUR_S)
    span = [time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(now - ago * HOUR_S)) for ago in (40, 20)]
    words = ["--from", span[0], "--to", span[1], "--log", "fraud", "--json"]
    assert bench.say("events", "d17", *words) == 0
    (event,) = json.loads(capsys.readouterr().out)
    assert (event["log"], event["code"]) == ("fraud", 30)
    assert event["at_utc_s"] == now - 30 * HOUR_S + 40


def test_a_log_that_the_class_does_not_have_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("events", "d17", "--log", "weather") == 2
    assert "standard, fraud, control, power_quality" in capsys.readouterr().err


def test_a_clock_that_is_off_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.say("clock", "d17", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ahead_ms"] == pytest.approx(40_000, abs=1_500)
    assert told["trusted"] is True
    assert bench.say("clock", "d17") == 0
    assert "s ahead" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["set", "shift"])
def test_a_clock_is_set_where_its_class_allows_it(
    bench: Bench, meter: DlmsMeter, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    allow_setting(bench, how)
    # Away from the nearer edge of the interval: across one no clock is set.
    off_s = 40 if time.time() % 900 < 450 else -40
    meter.clock.set(time.time() + off_s, time.time())
    assert bench.say("clock", "d17", "--set", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ahead_before_ms"] == pytest.approx(off_s * 1_000, abs=1_500)
    assert abs(told["ahead_ms"]) < 1_500


def test_a_clock_is_left_alone_where_its_class_does_not_say_so(
    bench: Bench, meter: DlmsMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("clock", "d17", "--set") == 1
    assert 'clock.set = "never"' in capsys.readouterr().err
    assert meter.clock.set_at == []


def test_a_modbus_meter_has_neither(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("events", "clock"):
        assert bench.say(command, "m3") == 2
        assert "name a DLMS meter" in capsys.readouterr().err
