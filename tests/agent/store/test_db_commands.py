"""`loadscape-agent db`: what the database holds, whether that was written; its file made small."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from agent_bench import T0, Central, S
from commands_bench import Bench, prepare
from store_bench import commit, custody_of, fill

from agent.store.export import PIECE_ROWS, Export
from agent.store.migrations import STEPS

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    prepare(folder)
    fill(folder, Central())
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Bench(tmp_path, tmp_path / "agent.toml", tmp_path / "keys")


def findings(bench: Bench, capsys: Captured, *words: str) -> dict[str, dict[str, str | None]]:
    bench.say("db", "check", "--json", *words)
    told = json.loads(capsys.readouterr().out)
    return {finding["what"]: finding for finding in told["findings"]}


def exported(bench: Bench, capsys: Captured, *words: str) -> list[dict[str, object]]:
    assert bench.say("db", "export", "--json", *words) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def harm(bench: Bench, statement: str) -> None:
    database = sqlite3.connect(bench.folder / "data" / "agent.db")
    with database:
        assert database.execute(statement).rowcount == 1
    database.close()


# --- check


def test_check_tells_what_a_sound_database_holds(bench: Bench, capsys: Captured) -> None:
    assert bench.say("db", "check") == 0
    said = capsys.readouterr().out
    assert "192 intervals of 8 meters" in said
    assert "all rows and batches are what was written" in said
    told = findings(bench, capsys)
    assert all(finding["problem"] is None for finding in told.values())
    assert "batches wait for a receipt" in str(told["outbox"]["says"])


def test_check_names_each_thing_that_is_not_what_was_written(
    bench: Bench, capsys: Captured
) -> None:
    harm(bench, f"UPDATE interval SET import_wh = 5 WHERE end_utc_s = {T0 + 2 * S} AND meter = 3")
    harm(bench, "UPDATE event SET detail = 'coffee' WHERE id = 4")
    assert bench.say("db", "check") == 1
    said = capsys.readouterr().out
    assert "2 not what was written" in said
    assert f"interval {T0 + 2 * S}/3: not what was written" in said
    assert "event 4: not what was written" in said


def test_check_of_what_is_no_database_says_so(bench: Bench, capsys: Captured) -> None:
    (bench.folder / "data" / "agent.db").write_bytes(os.urandom(40_000))
    assert bench.say("db", "check") == 1
    assert "not a database" in capsys.readouterr().out


def test_check_of_what_is_not_there_says_so(bench: Bench, capsys: Captured) -> None:
    assert bench.say("db", "check", "--file", str(bench.folder / "nowhere.db")) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_check_sees_a_lost_identity_and_a_ballast_that_was_given_up(
    bench: Bench, capsys: Captured
) -> None:
    (bench.folder / "data" / "identity.json").unlink()
    (bench.folder / "data" / "ballast").unlink(missing_ok=True)
    told = findings(bench, capsys)
    assert "begins a new stream" in str(told["identity"]["problem"])
    assert "given up" in str(told["ballast"]["warning"])


def test_check_looks_into_what_was_put_aside(bench: Bench, capsys: Captured) -> None:
    aside = bench.folder / "data" / "quarantine" / "0001"
    aside.mkdir(parents=True)
    shutil.copy(bench.folder / "data" / "agent.db", aside / "agent.db")
    told = findings(bench, capsys)
    assert "taken over" in str(told["put aside"]["warning"])
    assert bench.say("db", "check", "--file", str(aside / "agent.db")) == 0
    assert "192 intervals" in capsys.readouterr().out


def test_steps_of_a_later_version_and_steps_to_come_are_told(
    bench: Bench, capsys: Captured
) -> None:
    harm(
        bench,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('loadscape-agent', '9999_later', '2030-01-01')",
    )
    assert "9999_later" in str(findings(bench, capsys)["database"]["warning"])
    harm(bench, "DELETE FROM _sqlite_migrations WHERE name = '9999_later'")
    newest = list(STEPS)[-1]
    harm(bench, f"DELETE FROM _sqlite_migrations WHERE name = '{newest}'")
    assert newest in str(findings(bench, capsys)["database"]["warning"])


def test_check_and_export_read_beside_a_running_agent(bench: Bench, capsys: Captured) -> None:
    custody = custody_of(bench.folder, Central())
    commit(custody, 30)
    assert bench.say("db", "check") == 0
    capsys.readouterr()
    assert [row["end_utc_s"] for row in exported(bench, capsys, "m1")][-1] == T0 + 30 * S
    custody.close()


def test_an_export_that_waits_for_its_reader_keeps_no_log_from_being_folded_in(
    bench: Bench,
) -> None:
    custody = custody_of(bench.folder, Central())
    for number in range(30, 290):
        commit(custody, number)
    path = bench.folder / "data" / "agent.db"
    with closing(sqlite3.connect(path)) as database:
        told = Export(database).intervals([], 0, 1 << 40)
        begun = [next(told)]
        commit(custody, 290)
        (busy, in_log, folded_in) = database.execute("PRAGMA wal_checkpoint").fetchone()
        assert (busy, in_log) == (0, folded_in)
        assert len([*begun, *told]) == (24 + 261) * 8 > PIECE_ROWS
    custody.close()


# --- export


def test_intervals_come_as_csv_with_instants_as_people_write_them(
    bench: Bench, capsys: Captured
) -> None:
    assert bench.say("db", "export") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 192
    first = rows[0]
    assert first["end_utc"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(T0))
    assert first["end_utc_s"] == str(T0)
    assert (first["meter"], first["serial"], first["import_wh"]) == ("m0", "A1", "1000000")
    assert first["flags"] == "PROFILE"
    assert first["raw_import_wh"] == ""
    assert first["receipted"] == "True"
    assert rows[-1]["receipted"] == "False"


def test_a_span_of_one_meter_comes_as_objects(bench: Bench, capsys: Captured) -> None:
    span = [
        *("--from", time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(T0 + 3 * S))),
        *("--to", time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(T0 + 5 * S))),
    ]
    rows = exported(bench, capsys, "m2", *span)
    assert [row["end_utc_s"] for row in rows] == [T0 + 3 * S, T0 + 4 * S, T0 + 5 * S]
    assert {row["meter"] for row in rows} == {"m2"}
    assert all(row["export_wh"] == 0 for row in rows)


def test_events_and_the_device_log_are_told_too(bench: Bench, capsys: Captured) -> None:
    events = exported(bench, capsys, "--table", "events")
    assert len(events) == 9
    assert (events[0]["meter"], events[0]["code"]) == ("m1", 3)
    log = exported(bench, capsys, "--table", "log")
    assert [entry["code"] for entry in log] == ["start", "keyset"]
    assert [entry["number"] for entry in log] == [1, 2]


def test_a_damaged_row_is_left_out_and_counted(bench: Bench, capsys: Captured) -> None:
    harm(bench, f"UPDATE interval SET import_wh = 5 WHERE end_utc_s = {T0} AND meter = 1")
    assert bench.say("db", "export") == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 191
    assert "1 left out" in said.err


def test_a_meter_that_nobody_knows_is_named(bench: Bench, capsys: Captured) -> None:
    assert bench.say("db", "export", "m1", "m77") == 2
    assert "holds nothing of m77" in capsys.readouterr().err


# --- vacuum


def test_vacuum_gives_back_what_holds_nothing_and_changes_no_row(
    bench: Bench, capsys: Captured
) -> None:
    harm_many = sqlite3.connect(bench.folder / "data" / "agent.db")
    with harm_many:
        harm_many.execute("CREATE TABLE filler AS SELECT randomblob(500000) AS bytes")
        harm_many.execute("DROP TABLE filler")
    harm_many.close()
    before = exported(bench, capsys)
    assert bench.say("db", "vacuum", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["before_bytes"] - report["after_bytes"] > 400_000
    assert exported(bench, capsys) == before
    assert bench.say("db", "check") == 0


def test_vacuum_refuses_while_the_agent_runs(bench: Bench, capsys: Captured) -> None:
    (bench.folder / "data" / "status.json").write_text(
        json.dumps({"running": True, "pid": os.getpid(), "written_utc_s": time.time()})
    )
    assert bench.say("db", "vacuum") == 2
    assert "stop it first: systemctl stop" in capsys.readouterr().err


# --- as it stands


def test_the_database_reads_with_sqlite_utils_as_it_stands(bench: Bench) -> None:
    command = [sys.executable, "-m", "sqlite_utils", "rows", "agent.db", "reading", "--limit", "1"]
    done = subprocess.run(
        command, cwd=bench.folder / "data", capture_output=True, text=True, check=True
    )
    (row,) = json.loads(done.stdout)
    assert row["meter"] == "m0"
    assert row["import_wh"] == 1_000_000
    assert row["end_utc"] == time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(T0))
