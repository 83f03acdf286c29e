"""One thread per serial line: does what the schedule says, hands over what that closes.

The schedule decides whom to ask next and until when (`agent/poll/schedule.py`);
here are the port, the clock and the sleep. Serial deadlines are on real time;
what is due when is on the agent's clock, whose speed may change at any moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from agent.chores import Chores, ClockSeen
from agent.driver import ReadError
from agent.health import Counters, Faults
from agent.interval.sampled import SampledMeter
from agent.line.port import PortLost
from agent.poll.load import LineLoad
from agent.poll.schedule import Ask, Finish, Known, MeterOnLine, Now, Rest, Schedule
from agent.recovery import ProfileMeter
from agent.store.event_table import EventRows
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock
from wire.quality import Quality

_STEP_S = 0.2
"""Longest sleep: the clock's speed may have changed after it."""
_REOPEN_S = (0.5, 1.5)
"""First and longest pause between two tries to open a port; a failed try costs little."""
_FAILURES_TO_REPORT = 2
CLOCK_OFF_S = 30.0
"""A meter's clock that is off by more is a fault."""


class LineThread(threading.Thread):
    """Reads the meters of one line until `stop` is set; hands over to the writer."""

    def __init__(
        self,
        name: str,
        meters: Sequence[SampledMeter | ProfileMeter],
        *,
        open_port: Callable[[], None],
        close_port: Callable[[], None],
        clock: Clock,
        interval_s: int,
        sample_s: int,
        hand_over: Callable[[EdgeRows | list[MeterRows] | EventRows], None],
        counters: Counters,
        faults: Faults,
        stop: threading.Event,
        known: Mapping[str, Known] | None = None,
        learned: Callable[[str], None] | None = None,
        chores: Mapping[str, Chores] | None = None,
    ) -> None:
        """`known` says by the meters' names what their reads cost, where that is known.

        `chores` are by the meters' names too, of those that keep a profile.
        `learned` is told the name of every meter that was asked, in this thread.
        """
        super().__init__(name=f"line {name}", daemon=True)
        self.line = name
        self._meters = meters
        self._open_port = open_port
        self._close_port = close_port
        self._clock = clock
        self._interval_s = interval_s
        self._hand_over = hand_over
        self._counters = counters
        self._faults = faults
        self._stop_event = stop
        self._learned = learned
        self._chores = dict(chores or {})
        self.schedule = Schedule(
            [
                (known or {}).get(meter.name) or MeterOnLine(isinstance(meter, ProfileMeter))
                for meter in meters
            ],
            interval_s=interval_s,
            sample_s=sample_s,
            now_utc_s=clock.now_utc_s(),
        )
        self.load = LineLoad(time.monotonic())
        self._rows: list[MeterRows] = []
        """What the present round has closed; handed over together."""
        self.finished_edge_utc_s = self.schedule.edge_utc_s
        """The newest edge whose round is over and handed to the writer."""
        self.open = False
        """Whether the port is open."""
        self.moved_s = time.monotonic()
        """When the thread last went on to its next step."""

    @property
    def failing(self) -> list[str]:
        """Meters that did not answer the last time."""
        return [self._meters[index].name for index in self.schedule.failing]

    @property
    def round_s(self) -> float:
        """Real time that the last round after an edge took, s."""
        return self.schedule.round_s

    @property
    def keeps_profiles(self) -> bool:
        """Whether its meters are asked for load profiles."""
        return any(isinstance(meter, ProfileMeter) for meter in self._meters)

    def cycle_share(self) -> float:
        """Share of the sampling cycle that reading each meter once takes; above 1: too slow."""
        return self.schedule.cycle_share(self._now())

    def progress(self) -> tuple[int, int]:
        """(known, expected) intervals of the recovery window, over the meters with a profile."""
        now_utc_s = self._clock.now_utc_s()
        known = expected = 0
        for meter in self._meters:
            if isinstance(meter, ProfileMeter):
                meter_known, meter_expected = meter.progress(now_utc_s)
                known += meter_known
                expected += meter_expected
        return known, expected

    def clocks(self) -> dict[str, ClockSeen]:
        """How the meters' clocks stood when they were read last, by meter."""
        seen = ((name, chores.clock) for name, chores in self._chores.items())
        return {name: clock for name, clock in seen if clock is not None}

    # --- the thread

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self._close_port()

    def _serve(self) -> None:
        pause_s = _REOPEN_S[0]
        while not self._stop_event.is_set():
            try:
                self._open_port()
                self.open = True
                self._faults.over(f"line {self.line}")
                pause_s = _REOPEN_S[0]
                while not self._stop_event.is_set():
                    self._do_next()
            except PortLost as error:
                self._without_port(error)
                self._wait_without_port(pause_s * random.uniform(0.7, 1.0))
                pause_s = min(2 * pause_s, _REOPEN_S[1])

    def _without_port(self, error: PortLost) -> None:
        if self.open:
            self._counters.add("ports_lost_total")
        self.open = False
        self._faults.report(f"line {self.line}", str(error))
        edge = self.schedule.port_lost()
        if edge is not None:
            self._finish_edge(edge)

    def _wait_without_port(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            self.moved_s = time.monotonic()
            if self._stop_event.wait(min(_STEP_S, left_s)):
                return
            edge = self.schedule.edge_without_port(self._now())
            if edge is not None:
                self._finish_edge(edge)

    def _do_next(self) -> None:
        """The most urgent job, or a short sleep if there is none."""
        self.moved_s = time.monotonic()
        step = self.schedule.next(self._now(), self._newest_missing, self._chore_due)
        if isinstance(step, Rest):
            self._stop_event.wait(max(0.0, step.until_s - time.monotonic()))
        elif isinstance(step, Finish):
            self._finish_edge(step.edge_utc_s)
        elif step.why == "chore":
            self._do_chore(step)
        else:
            self._ask(step)

    def _finish_edge(self, edge: int) -> None:
        rows, self._rows = self._rows, []
        now_utc_s = self._clock.now_utc_s()
        for meter in self._meters:
            rows.extend(meter.expire(now_utc_s))
        self._hand_over(EdgeRows(self.line, edge, rows))
        self.finished_edge_utc_s = edge

    # --- one read

    def _ask(self, ask: Ask) -> None:
        meter = self._meters[ask.index]
        began = self._now()
        ends = 0
        try:
            if isinstance(meter, ProfileMeter):
                gap = meter.gap(began.utc_s, ask.most)
                if gap is None:
                    self.schedule.passed_over(ask)
                    self._faults.over(f"meter {meter.name}")
                    return
                closed = meter.read(gap, began.utc_s)
                ends = _with_data(closed)
            elif ask.why == "name":
                closed = meter.identify(ask.until_s)
            else:
                closed = meter.read(ask.until_s)
        except ReadError as error:
            self._failed(ask, meter.name, began, error)
            return
        finally:
            if self._learned is not None:
                self._learned(meter.name)
        if meter.name in self._chores:
            flags = [values[-1] for group in closed for _, values in group.rows]
            self._chores[meter.name].saw_rows(flags, began.utc_s)
        nameless = isinstance(meter, SampledMeter) and meter.nameless
        self._answered(ask, meter.name, began, ends, nameless=nameless)
        if self.schedule.in_round:
            self._rows.extend(closed)
        elif closed:
            self._hand_over(closed)

    def _answered(self, ask: Ask, name: str, began: Now, ends: int, *, nameless: bool) -> None:
        ended = self._now()
        self.schedule.answered(ask, began, ended, ends, nameless=nameless)
        self.load.read(began.real_s, ended.real_s)
        self._counters.add("reads_total")
        self._faults.over(f"meter {name}")

    def _failed(self, ask: Ask, name: str, began: Now, error: ReadError) -> None:
        ended = self._now()
        failures = self.schedule.failed(ask, began, ended)
        self.load.read(began.real_s, ended.real_s)
        self._counters.add("read_errors_total")
        if failures == _FAILURES_TO_REPORT:
            self._faults.report(f"meter {name}", str(error))

    # --- one chore

    def _do_chore(self, ask: Ask) -> None:
        name = self._meters[ask.index].name
        chores = self._chores[name]
        began = self._now()
        what = chores.due(began.utc_s)
        if what is None:
            return
        try:
            told = chores.do(what, began.utc_s)
        except ReadError as error:
            self._counters.add("chore_errors_total")
            self._faults.report(f"{what} of meter {name}", str(error))
            told = []
        else:
            self._faults.over(f"{what} of meter {name}")
        finally:
            ended = self._now()
            self.schedule.chore_ended(ask, ended)
            self.load.read(began.real_s, ended.real_s)
        for rows in told:
            self._hand_over(rows)
        if chores.clock is not None:
            self._judge_clock(name, chores.clock)

    def _judge_clock(self, name: str, clock: ClockSeen) -> None:
        key = f"meter {name} clock"
        if abs(clock.ahead_s) <= CLOCK_OFF_S:
            self._faults.over(key)
            return
        side = "ahead" if clock.ahead_s > 0 else "behind"
        self._faults.report(
            key,
            f"its clock is {abs(clock.ahead_s):.0f} s {side}, expected at most "
            f"{CLOCK_OFF_S:.0f} s; let the agent set it ([clock] set in the meter class) or "
            "have it set by hand",
        )

    # --- small things

    def _chore_due(self, index: int) -> bool:
        chores = self._chores.get(self._meters[index].name)
        return chores is not None and chores.due(self._clock.now_utc_s()) is not None

    def _newest_missing(self, index: int) -> int | None:
        meter = self._meters[index]
        assert isinstance(meter, ProfileMeter)
        gap = meter.gap(self._clock.now_utc_s(), 1)
        return None if gap is None else gap.last_end_utc_s

    def _now(self) -> Now:
        utc_s = self._clock.now_utc_s()
        edge = (int(utc_s // self._interval_s) + 1) * self._interval_s
        # A fast clock may have passed the edge between the two looks at it.
        left_s = max(0.0, self._clock.real_s_until(edge))
        return Now(time.monotonic(), utc_s, left_s / (edge - utc_s))


def _with_data(groups: list[MeterRows]) -> int:
    """Intervals that came; what the meter does not have tells nothing about the time of a slice."""
    return sum(not values[-1] & Quality.NO_DATA for group in groups for _, values in group.rows)
