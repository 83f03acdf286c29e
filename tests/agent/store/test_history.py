"""History stays on the device for as long as the settings say, and no longer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agent_bench import T0, Central, S, SetClock
from store_bench import commit, custody_of

DAY_S = 86_400
KEPT_S = (7 + 1) * DAY_S
"""The bench's `history_days` and a day."""


def intervals(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "data" / "agent.db")) as database:
        return int(database.execute("SELECT count(*) FROM interval").fetchone()[0])


def test_history_counts_from_the_receipt_so_that_a_forged_one_deletes_nothing_at_once(
    tmp_path: Path,
) -> None:
    central, clock = Central(), SetClock(T0 + 100 * DAY_S)
    custody = custody_of(tmp_path, central, clock=clock)
    for number in range(4):
        commit(custody, number)
    for _, sealed in custody.sealed_after(custody.view().stream, 0, 9):
        central.take(sealed)
    custody.honour(replace(central.receipt(), committed_at_utc_s=int(clock.utc_s)))
    assert custody.view().waiting == 0
    clock.utc_s += KEPT_S - 3600
    for _ in range(3):
        custody.prune()
    assert intervals(tmp_path) == 4 * 8
    clock.utc_s += 3 * 3600
    custody.prune()
    assert intervals(tmp_path) == 0
    custody.close()


def test_what_has_no_receipt_stays_however_old_it_is(tmp_path: Path) -> None:
    central, clock = Central(), SetClock(T0 + S)
    custody = custody_of(tmp_path, central, clock=clock)
    commit(custody, 0)
    clock.utc_s += 300 * DAY_S
    custody.prune()
    assert intervals(tmp_path) == 8
    assert custody.view().waiting == 1
    custody.close()
