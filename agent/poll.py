"""One thread per serial line: whom to ask next, so that every interval closes in time.

What is most urgent comes first: samples close before and after each edge of
the meters without a profile; the newest row of the meters with one; gauges
between the quarters; then, in what time is left, a bounded slice of what is
still missing. A meter that fails leaves this order at once: it is asked again
soon, then less and less often, in a small share of the line's time, so that it
costs its neighbours nothing. Serial deadlines are on real time; what is due
when is on the agent's clock, whose speed may change at any moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.driver import ReadError
from agent.health import Counters, Faults
from agent.interval import SampledMeter
from agent.line.port import PortLost
from agent.recovery import ProfileMeter
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock

_STEP_S = 0.2
"""Longest sleep: the clock's speed may have changed after it."""
_PROBE_SHARE = 0.1
"""Share of the line's time that failing meters may take."""
_PROBE_S = (0.5, 60.0)
_REOPEN_S = (0.5, 5.0)
"""First and longest pause between two tries to open a port; a failed try costs little."""
_SLICE_S = 1.0
"""Real time that one slice of recovery should take."""
_SLICE_ENDS = (4, 192)
_LIVE_ENDS = 16
"""Most ends of one meter that are read in the round after an edge."""
_LEAD = 1.15
_SAMPLE_SPACING_S = 1.0
"""Gauges of one meter are sampled no faster than this in real time, however fast the clock runs."""
_SMOOTHING = 0.2


@dataclass(slots=True)
class _Turn:
    """How one meter stands with its line."""

    meter: SampledMeter | ProfileMeter
    read_s: float = 0.05
    """Smoothed real time of one read."""
    failures: int = 0
    probe_at_s: float = 0.0
    sampled_at_s: float = float("-inf")
    end_s: float = 0.005
    """Smoothed real time per interval end of a slice, association included."""


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
        hand_over: Callable[[EdgeRows | list[MeterRows]], None],
        counters: Counters,
        faults: Faults,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"line {name}", daemon=True)
        self.line = name
        self._turns = [_Turn(meter) for meter in meters]
        self._sampled = [turn for turn in self._turns if isinstance(turn.meter, SampledMeter)]
        self._kept = [turn for turn in self._turns if isinstance(turn.meter, ProfileMeter)]
        self._open_port = open_port
        self._close_port = close_port
        self._clock = clock
        self._interval_s = interval_s
        self._sample_s = sample_s
        self._hand_over = hand_over
        self._counters = counters
        self._faults = faults
        self._stop_event = stop
        self._edge = self._newest_edge()
        self.finished_edge_utc_s = self._edge
        """The newest edge whose round is over and handed to the writer."""
        self.round_s = 0.0
        """Real time that the last round after an edge took, s."""
        self._bracketed = 0
        self._probe_free_s = 0.0
        self.open = False
        """Whether the port is open."""

    @property
    def failing(self) -> list[str]:
        """Meters that did not answer the last time."""
        return [turn.meter.name for turn in self._turns if turn.failures]

    def progress(self) -> tuple[int, int]:
        """(known, expected) intervals of the recovery window, over the meters with a profile."""
        now_utc_s = self._clock.now_utc_s()
        known = expected = 0
        for turn in self._kept:
            assert isinstance(turn.meter, ProfileMeter)
            meter_known, meter_expected = turn.meter.progress(now_utc_s)
            known += meter_known
            expected += meter_expected
        return known, expected

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
                if self.open:
                    self._counters.add("ports_lost_total")
                self.open = False
                self._faults.report(f"line {self.line}", str(error))
                self._wait_without_port(pause_s * random.uniform(0.7, 1.0))
                pause_s = min(2 * pause_s, _REOPEN_S[1])

    def _wait_without_port(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and not self._stop_event.wait(_STEP_S):
            edge = self._newest_edge()
            if edge > self._edge:
                self._edge = edge
                self._finish_edge(edge, [])

    def _do_next(self) -> None:
        """The most urgent job, or a short sleep if there is none."""
        edge = self._newest_edge()
        if edge > self._edge:
            self._round(edge)
            return
        left_s = self._clock.real_s_until(edge + self._interval_s)
        if self._bracket_if_due(left_s) or self._sample_gauges():
            return
        if self._probe(left_s) or self._recover(left_s):
            return
        self._sleep(left_s)

    def _sleep(self, left_s: float) -> None:
        until_s = min(_STEP_S, left_s)
        if self._healthy(self._sampled) and self._bracketed <= self._edge:
            until_s = min(until_s, left_s - self._lead_s())
        self._stop_event.wait(max(0.001, until_s))

    # --- edges

    def _round(self, edge: int) -> None:
        """Everything that belongs to the edge that has just passed."""
        # A round that took several intervals left several ends to be read by range.
        began_s = time.monotonic()
        passed = (edge - self._edge) // self._interval_s
        most = max(_LIVE_ENDS, 2 * passed)
        self._edge = edge
        rows: list[MeterRows] = []
        for turn in self._healthy(self._sampled):
            self._read_sample(turn, rows)
        for turn in self._healthy(self._kept):
            if self._stop_event.is_set():
                break
            self._read_gap(turn, rows, most)
            self._bracket_if_due(self._clock.real_s_until(edge + self._interval_s), rows)
        self.round_s = time.monotonic() - began_s
        self._finish_edge(edge, rows)

    def _finish_edge(self, edge: int, rows: list[MeterRows]) -> None:
        now_utc_s = self._clock.now_utc_s()
        for turn in self._turns:
            rows.extend(turn.meter.expire(now_utc_s))
        self._hand_over(EdgeRows(self.line, edge, rows))
        self.finished_edge_utc_s = edge

    def _bracket_if_due(self, left_s: float, rows: list[MeterRows] | None = None) -> bool:
        """Sample every meter as late before the next edge as the line allows."""
        edge = self._newest_edge() + self._interval_s
        turns = self._healthy(self._sampled)
        if self._bracketed >= edge or not turns or left_s > self._lead_s():
            return False
        self._bracketed = edge
        closed: list[MeterRows] = []
        for turn in turns:
            self._read_sample(turn, closed)
        if rows is not None:
            rows.extend(closed)
        elif closed:
            self._hand_over(closed)
        return True

    def _lead_s(self) -> float:
        reads_s = sum(turn.read_s for turn in self._sampled if not turn.failures)
        return _LEAD * reads_s + 0.02

    # --- between the edges

    def _sample_gauges(self) -> bool:
        turns = self._healthy(self._sampled)
        if not turns:
            return False
        turn = min(turns, key=lambda candidate: candidate.sampled_at_s)
        assert isinstance(turn.meter, SampledMeter)
        due = self._clock.now_utc_s() >= turn.meter.last_sample_utc_s + self._sample_s
        if not due or time.monotonic() < turn.sampled_at_s + _SAMPLE_SPACING_S:
            return False
        rows: list[MeterRows] = []
        self._read_sample(turn, rows)
        if rows:
            self._hand_over(rows)
        return True

    def _recover(self, left_s: float) -> bool:
        """Read one slice of the meter whose missing intervals are the newest."""
        now_utc_s = self._clock.now_utc_s()
        best: tuple[int, _Turn] | None = None
        for turn in self._healthy(self._kept):
            assert isinstance(turn.meter, ProfileMeter)
            gap = turn.meter.gap(now_utc_s, 1)
            if gap is not None and (best is None or gap.last_end_utc_s > best[0]):
                best = (gap.last_end_utc_s, turn)
        if best is None:
            return False
        room_s = left_s - (self._lead_s() if self._sampled else 0.0)
        most = int(min(room_s, _SLICE_S) / max(best[1].end_s, 1e-4))
        if most < _SLICE_ENDS[0]:
            return False
        rows: list[MeterRows] = []
        self._read_gap(best[1], rows, min(most, _SLICE_ENDS[1]))
        if rows:
            self._hand_over(rows)
        return True

    def _probe(self, left_s: float) -> bool:
        """Ask one failing meter again, if the line's time for such meters allows."""
        began_s = time.monotonic()
        failing = [turn for turn in self._turns if turn.failures and turn.probe_at_s <= began_s]
        if not failing or began_s < self._probe_free_s:
            return False
        turn = min(failing, key=lambda candidate: candidate.probe_at_s)
        room_s = left_s - (self._lead_s() if self._healthy(self._sampled) else 0.0)
        if room_s < min(turn.read_s, self._real_interval_s() / 4):
            return False
        rows: list[MeterRows] = []
        if isinstance(turn.meter, SampledMeter):
            self._read_sample(turn, rows)
        else:
            self._read_gap(turn, rows)
        now_s = time.monotonic()
        if turn.failures:
            self._probe_free_s = now_s + (now_s - began_s) * (1 / _PROBE_SHARE - 1)
        if rows:
            self._hand_over(rows)
        return True

    # --- one read

    def _read_sample(self, turn: _Turn, rows: list[MeterRows]) -> None:
        assert isinstance(turn.meter, SampledMeter)
        began_s = time.monotonic()
        turn.sampled_at_s = began_s
        try:
            closed = turn.meter.read(self._clock.now_utc_s())
        except ReadError as error:
            self._failed(turn, began_s, error)
            return
        self._answered(turn, began_s)
        rows.extend(closed)

    def _read_gap(self, turn: _Turn, rows: list[MeterRows], most: int = _SLICE_ENDS[1]) -> None:
        assert isinstance(turn.meter, ProfileMeter)
        now_utc_s = self._clock.now_utc_s()
        gap = turn.meter.gap(now_utc_s, most)
        if gap is None:
            self._sign_of_life(turn)
            return
        began_s = time.monotonic()
        try:
            closed = turn.meter.read(gap, now_utc_s)
        except ReadError as error:
            self._failed(turn, began_s, error)
            return
        self._answered(turn, began_s)
        ends = (gap.last_end_utc_s - gap.first_end_utc_s) // self._interval_s + 1
        if ends >= 16:
            taken_s = (time.monotonic() - began_s) / ends
            turn.end_s += _SMOOTHING * (taken_s - turn.end_s)
        rows.extend(closed)

    def _sign_of_life(self, turn: _Turn) -> None:
        """A failing meter of which nothing is missing: it may join the order again."""
        if turn.failures:
            turn.failures = 0
            self._faults.over(f"meter {turn.meter.name}")

    def _answered(self, turn: _Turn, began_s: float) -> None:
        turn.read_s += _SMOOTHING * (time.monotonic() - began_s - turn.read_s)
        self._counters.add("reads_total")
        if turn.failures:
            turn.failures = 0
            self._faults.over(f"meter {turn.meter.name}")

    def _failed(self, turn: _Turn, began_s: float, error: ReadError) -> None:
        now_s = time.monotonic()
        turn.failures += 1
        pause_s = min(_PROBE_S[1], _PROBE_S[0] * 2 ** min(turn.failures - 1, 10))
        turn.probe_at_s = now_s + pause_s * random.uniform(0.7, 1.0)
        self._counters.add("read_errors_total")
        if turn.failures == 2:
            self._faults.report(f"meter {turn.meter.name}", str(error))

    # --- small things

    def _healthy(self, turns: Sequence[_Turn]) -> list[_Turn]:
        return [turn for turn in turns if not turn.failures]

    def _newest_edge(self) -> int:
        return int(self._clock.now_utc_s() // self._interval_s) * self._interval_s

    def _real_interval_s(self) -> float:
        now_utc_s = self._clock.now_utc_s()
        return self._clock.real_s_until(now_utc_s + self._interval_s)
