"""What a database of the store holds, and whether it is what was written; read only.

For people beside the agent, who may look while it runs: nothing is changed, and
the agent's own look through its store is not put off by it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.store.connection import StoreDamaged
from agent.store.epoch_table import EpochTable
from agent.store.migrations import STEPS, steps_done
from agent.store.room import UNCUT
from agent.store.salvage import UNREADABLE
from agent.store.scrub import check_identity, flaws

_COUNTED = ("interval", "event", "log_entry", "batch")


@dataclass(slots=True)
class Survey:
    """What was found; `flaws` names each thing that is not what was written."""

    bytes: int = 0
    free_share: float = 0.0
    """Of the database's pages, those that hold nothing."""
    rows: dict[str, int] = field(default_factory=dict)
    meters: int = 0
    span_utc_s: tuple[int, int] | None = None
    """First and last interval's end."""
    waiting: int = 0
    """Batches without a receipt."""
    oldest_waiting_utc_s: int | None = None
    """The last interval of the oldest of them."""
    uncut: int = 0
    """Intervals that no batch holds yet."""
    lost: int = 0
    """Times that something without a receipt had to make room, as the device log has it."""
    steps_to_come: list[str] = field(default_factory=list)
    steps_unknown: list[str] = field(default_factory=list)
    """Of a later version than this."""
    flaws: list[str] = field(default_factory=list)


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing; raises sqlite3.Error when it is asked."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        yield database


def look_through(path: Path, seen: Callable[[], None] = lambda: None) -> Survey:
    """Everything in the database, `seen` called after each piece."""
    survey = Survey(bytes=path.stat().st_size)
    try:
        with read_only(path) as database:
            _count(database, survey)
            check_identity(database)
            for found in flaws(database, EpochTable(database)):
                survey.flaws.extend(found)
                seen()
    except (StoreDamaged, *UNREADABLE) as error:
        survey.flaws.append(str(error))
    return survey


def _count(database: sqlite3.Connection, survey: Survey) -> None:
    def one(query: str) -> Any:
        return database.execute(query).fetchone()[0]

    pages, free = one("PRAGMA page_count"), one("PRAGMA freelist_count")
    survey.free_share = free / pages if pages else 0.0
    done = steps_done(database)
    survey.steps_to_come = [name for name in STEPS if name not in done]
    survey.steps_unknown = sorted(done - set(STEPS))
    if survey.steps_to_come:
        return
    survey.rows = {name: one(f"SELECT count(*) FROM {name}") for name in _COUNTED}
    survey.meters = one("SELECT count(*) FROM meter")
    first, last = database.execute("SELECT min(end_utc_s), max(end_utc_s) FROM interval").fetchone()
    survey.span_utc_s = None if first is None else (first, last)
    survey.waiting, survey.oldest_waiting_utc_s = database.execute(
        "SELECT count(*), min(last_end_utc_s) FROM batch WHERE sealed IS NOT NULL"
    ).fetchone()
    survey.uncut = one(f"SELECT count(*) FROM interval WHERE batch = {UNCUT}")
    survey.lost = one("SELECT count(*) FROM log_entry WHERE code = 'lost'")
