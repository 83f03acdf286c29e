"""`profile` at a real serial line: the rows of a span, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from commands_bench import dlms_line, modbus_line, prepare

from agent.cli import main
from hil.line.pty import served


def test_a_profile_is_printed_as_csv_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    words = ["--config", str(bench.config), "profile", "d17"]
    with served(dlms_line(tmp_path)):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert main([*words, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
    assert lines[0] == (
        "end_utc,end_utc_s,import_wh,export_wh,import_varh,voltage_dv,current_ca,flags"
    )
    assert lines[-1] == (
        f"{rows[-1]['end_utc']},{rows[-1]['end_utc_s']},12345678,45678,234567,2304,500,PROFILE"
    )
    assert len(lines) - 1 == len(rows) == 96
    assert rows[0]["flags"] == ["PROFILE"]
    assert all(row["end_utc_s"] % 900 == 0 for row in rows)


def test_a_span_has_the_rows_whose_end_lies_in_it_whatever_the_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86_400))
    span = ["--from", f"{day}T01:00+01:00", "--to", f"{day}T23:59:59", "--csv"]
    with served(dlms_line(tmp_path)):
        assert bench.say("profile", "d17", *span) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row[:20] for row in (rows[0], rows[-1])] == [f"{day}T00:00:00Z", f"{day}T23:45:00Z"]
    assert len(rows) == 96


@pytest.mark.parametrize("meter", ["d30", "m3"])
def test_a_meter_that_is_silent_or_keeps_no_profile_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], meter: str
) -> None:
    bench = prepare(tmp_path)
    with served(modbus_line(tmp_path), dlms_line(tmp_path)):
        assert bench.say("profile", meter) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"meter {meter}" in said.err


def test_an_instant_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        prepare(tmp_path).say("profile", "d17", "--from", "yesterday")
    assert "expected ISO 8601" in capsys.readouterr().err


def test_a_span_that_ends_before_it_begins_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    span = ["--from", "2026-03-28T12:00+01:00", "--to", "2026-03-28T10:59Z"]
    assert main(["--config", str(bench.config), "profile", "d17", *span]) == 2
    assert "exchange them" in capsys.readouterr().err
