"""A line's thread with meters that keep a profile: what a slice takes, and clocks that are set."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.driver import ProfileRow, Sample
from agent.health import Counters, Faults
from agent.poll.thread import LineThread
from agent.recovery import ProfileMeter
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import SharedClock, set_shared_clock

INTERVAL_S = 900
EDGE = 1_767_225_600


@dataclass
class Keeping:
    """A meter whose memory ends at `newest_utc_s`; each row takes its time on the line."""

    newest_utc_s: int
    row_s: float = 0.0
    serial: str = "A1"
    keeps_profile: bool = True
    quantities: frozenset[str] = frozenset({"import_wh"})
    asked: list[tuple[int, int]] = field(default_factory=list)
    """(newest end asked for, rows that came)"""

    def sample(self) -> Sample:
        raise NotImplementedError

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        ends = range(first_end_utc_s, min(last_end_utc_s, self.newest_utc_s) + 1, INTERVAL_S)
        self.asked.append((last_end_utc_s, len(ends)))
        time.sleep(self.row_s * len(ends))
        return [ProfileRow(end, import_wh=end) for end in ends]


@contextmanager
def running(driver: Keeping, clock: SharedClock) -> Iterator[queue.Queue[object]]:
    handed: queue.Queue[object] = queue.Queue()
    stop = threading.Event()
    meter = ProfileMeter(
        "m1",
        driver,  # type: ignore[arg-type]
        interval_s=INTERVAL_S,
        recover_s=30 * 86_400,
        now_utc_s=clock.now_utc_s(),
        recalled=None,
    )
    thread = LineThread(
        "a",
        [meter],
        open_port=lambda: None,
        close_port=lambda: None,
        clock=clock,
        interval_s=INTERVAL_S,
        sample_s=60,
        hand_over=handed.put,
        counters=Counters(),
        faults=Faults(),
        stop=stop,
    )
    thread.start()
    try:
        yield handed
    finally:
        stop.set()
        thread.join()


def until(true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def clock_at(folder: Path, utc_s: float) -> SharedClock:
    set_shared_clock(folder / "clock.json", utc_s, 1.0)
    return SharedClock(folder / "clock.json")


def test_slices_that_brought_nothing_make_the_next_one_no_longer(tmp_path: Path) -> None:
    driver = Keeping(EDGE - 1000 * INTERVAL_S, row_s=0.05)
    with running(driver, clock_at(tmp_path, EDGE + 300.0)):
        until(lambda: any(rows for _, rows in driver.asked))
    assert sum(rows == 0 for _, rows in driver.asked) >= 6
    assert max(rows for _, rows in driver.asked) * driver.row_s < 3.0


def test_a_round_after_the_clock_was_set_by_weeks_reads_no_backlog(tmp_path: Path) -> None:
    driver = Keeping(EDGE)
    clock = clock_at(tmp_path, EDGE - 20 * 86_400 + 899.0)
    with running(driver, clock):
        until(lambda: len(driver.asked) > 3)
        set_shared_clock(tmp_path / "clock.json", EDGE + 1.0, 1.0)
        until(lambda: any(last == EDGE for last, _ in driver.asked))
        (rows,) = {rows for last, rows in driver.asked if last == EDGE}
    assert rows <= 16


def test_edges_come_anew_once_a_clock_that_was_days_ahead_is_set(tmp_path: Path) -> None:
    driver = Keeping(EDGE + INTERVAL_S)
    clock = clock_at(tmp_path, EDGE + 10 * 86_400 + 450.0)
    with running(driver, clock) as handed:
        until(lambda: len(driver.asked) > 20)
        set_shared_clock(tmp_path / "clock.json", EDGE + INTERVAL_S - 0.5, 1.0)
        edges: list[EdgeRows] = []

        def has_edge() -> bool:
            while not handed.empty():
                given = handed.get()
                edges.extend([given] if isinstance(given, EdgeRows) else [])
            return bool(edges)

        until(has_edge)
    assert edges[0].end_utc_s == EDGE + INTERVAL_S
    groups: list[MeterRows] = edges[0].rows
    assert EDGE + INTERVAL_S in {end for group in groups for end, _ in group.rows}
