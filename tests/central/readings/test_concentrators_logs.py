"""Concentrators' own logs: kept once, and nothing can be cut out, altered or put in unseen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loader_bench import NOW, Bench, unopened

from central.cli import main
from central.readings.device_log import DeviceLogLedger, find_flaws, read_log
from wire.envelope import LOG
from wire.log import NO_PREV, Entry, Piece, encode_log

CHAIN = b"chain001"
WHOLE = [Entry(NOW + k, "fault" if k % 2 else "recovery", f"line l{k}") for k in range(6)]


def pieces(entries: Sequence[Entry], size: int, chain: bytes = CHAIN) -> list[Piece]:
    made, prev = [], NO_PREV
    for at in range(0, len(entries), size):
        made.append(Piece(chain, at + 1, prev, tuple(entries[at : at + size])))
        prev = made[-1].head
    return made


def ship(bench: Bench, *shipped: Piece) -> None:
    for piece in shipped:
        bench.store(bench.device.seal_next(encode_log(piece), content=LOG, schema_id=0))
    bench.loader.step()


def run(bench: Bench, *arguments: str) -> int:
    toml = str(bench.config.data_dir.parent / "central.toml")
    return main(["log", "t01", "--config", toml, *arguments])


def test_a_log_arrives_whole_and_is_shown_oldest_first(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = pieces(WHOLE, 2)
    ship(bench, one, two, two)
    ship(bench, three)
    assert unopened(bench) == 0
    assert run(bench) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in shown] == [f"l{k}" for k in range(6)]
    assert run(bench, "--verify", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"device": "t01", "entries": 6, "flaws": 0}


def test_a_piece_that_comes_late_fills_its_hole(bench: Bench) -> None:
    one, two, three = pieces(WHOLE, 2)
    ship(bench, one, three)
    (flaw,) = find_flaws(bench.config.device_log_file, "t01")
    assert (flaw.kind, flaw.number) == ("missing", 5)
    ship(bench, two)
    assert find_flaws(bench.config.device_log_file) == []


def test_a_cut_or_altered_log_is_an_alarm_in_log_and_status(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, _ = pieces(WHOLE, 2)
    lied = Piece(CHAIN, 3, two.prev, (WHOLE[3], WHOLE[4]))
    ship(bench, one, lied, pieces(WHOLE, 2)[2])
    assert bench.metrics.value("loadscape_loader_device_log_flaws_total", kind="altered") == 1
    assert run(bench, "--verify") == 1
    assert "ALARM: altered: entry 5 does not follow from 4" in capsys.readouterr().out
    toml = str(bench.config.data_dir.parent / "central.toml")
    assert main(["status", "--config", toml]) == 0
    assert "ALARM: the log of t01 is not whole" in capsys.readouterr().out


def test_an_older_image_of_a_card_shows_as_a_fork(bench: Bench) -> None:
    one, two, _ = pieces(WHOLE, 2)
    other = Piece(CHAIN, 3, two.prev, (Entry(NOW + 9, "start", "again"),))
    ship(bench, one, two, other)
    assert [f.kind for f in find_flaws(bench.config.device_log_file)] == ["forked"]
    assert bench.metrics.value("loadscape_loader_device_log_flaws_total", kind="forked") == 1
    assert len(read_log(bench.config.device_log_file, "t01")) == 5


def test_an_entry_altered_in_the_centres_own_file_shows(bench: Bench) -> None:
    ship(bench, *pieces(WHOLE, 3))
    with closing(sqlite3.connect(bench.config.device_log_file)) as database, database:
        database.execute("update entry set detail = 'nothing' where number = 2")
    assert [f.kind for f in find_flaws(bench.config.device_log_file)] == ["altered"]


def test_what_is_no_piece_of_a_log_stays_sealed(bench: Bench) -> None:
    ship(bench)
    bench.store(bench.device.seal_next(b"\x80", content=LOG, schema_id=0))
    bench.loader.step()
    assert unopened(bench) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_pieces_in_any_order_are_whole_unless_one_before_the_last_is_missing(
    tmp_path: Path, data: st.DataObject
) -> None:
    sent = pieces(WHOLE, data.draw(st.integers(1, 3)))
    came = [*data.draw(st.lists(st.sampled_from(sent), max_size=12)), sent[-1]]
    path = Path(mkdtemp(dir=tmp_path)) / "log.db"
    ledger = DeviceLogLedger(path)
    for lsn, piece in enumerate(data.draw(st.permutations(came))):
        assert ledger.add([(lsn, "t01", piece)]) == []
    ledger.close()
    missing = {piece.first for piece in sent} - {piece.first for piece in came}
    assert {flaw.kind for flaw in find_flaws(path)} == ({"missing"} if missing else set())


def test_a_detail_cannot_pass_for_a_line_of_ours(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Entry(NOW, "fault", "\x1b[2Jgone\n2026-11-21 06:00:02 stop \u202eönd")
    ship(bench, Piece(CHAIN, 1, NO_PREV, (entry,)))
    assert run(bench) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"fault            \x1b[2Jgone\n2026-11-21 06:00:02 stop \u202eönd")
