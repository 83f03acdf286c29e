"""One thread per line of meters that send by themselves: listens, closes intervals, never sends.

Each list is a sample; samples become intervals as those of polled meters do.
An edge is finished once every meter that was heard lately has sent something
from behind it, or after a few seconds; what comes later is handed over by
itself. What could not be read, or is nobody's, is counted by its kind, and is
a fault until none came for an interval.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from agent.chores import ClockSeen
from agent.dlms.errors import DlmsError
from agent.dlms.link.push_sources import HeardApdu, PushSource
from agent.dlms.push import PushedReading
from agent.dlms.pushed_meters import PushedMeters
from agent.driver import CounterLimits, MeterSilent, ProfileRow, ReadError, Sample
from agent.health import Counters, Faults
from agent.interval.sampled import SampledMeter
from agent.line.port import PortLost
from agent.poll.thread import CLOCK_OFF_S
from agent.store.event_table import EventRows
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock
from wire.quality import Quality

_STEP_S: Final = 0.2
_REOPEN_S: Final = (0.5, 1.5)
"""First and longest pause between two tries to open a port."""
_EDGE_WAIT_S: Final = 10.0
"""How long an edge waits for lists from behind it, on the agent's clock."""
_LATE_S: Final = 60.0
"""How much later than expected a list may come before its interval is reported missing."""
_SET_BACK_S: Final = 86_400
"""A clock that is set back by more begins its edges anew; by less, they wait for their time."""


class PushedDriver:
    """`SampledDriver` of a meter that cannot be asked: each sample that came is read once.

    A sample that is looked at twice raises MeterSilent, so that an odd one
    waits for the next list to bear it out.
    """

    keeps_profile = False
    tells_serial = False
    """It cannot be asked for its number; a list has it or not."""
    counter_limits = CounterLimits()

    def __init__(self, name: str) -> None:
        self._name = name
        self._came: Sample | None = None

    def take(self, sample: Sample) -> None:
        """What the next `sample` gives."""
        self._came = sample

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        """What came; raises MeterSilent if that was read already."""
        came, self._came = self._came, None
        if came is None:
            raise MeterSilent(f"meter {self._name} sends by itself; its next list is awaited")
        return came

    def serial(self, deadline_s: float = math.inf) -> str | None:
        """Nothing: only a list tells it."""
        return None

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        """Raises MeterSilent: nothing can be asked."""
        raise MeterSilent(f"meter {self._name} sends by itself and cannot be asked")


class PushThread(threading.Thread):
    """Hears the meters of one line until `stop` is set; hands over to the writer."""

    keeps_profiles = False
    round_s = 0.0

    def __init__(
        self,
        name: str,
        source: PushSource,
        pushed: PushedMeters,
        meters: Sequence[tuple[SampledMeter, PushedDriver]],
        *,
        clock: Clock,
        interval_s: int,
        hand_over: Callable[[EdgeRows | list[MeterRows] | EventRows], None],
        counters: Counters,
        faults: Faults,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"line {name}", daemon=True)
        self.line = name
        self._source = source
        self._pushed = pushed
        self._meters = {meter.name: (meter, driver) for meter, driver in meters}
        self._clock = clock
        self._interval_s = interval_s
        self._hand_over = hand_over
        self._counters = counters
        self._faults = faults
        self._stop_event = stop
        self.finished_edge_utc_s = self._newest_edge(clock.now_utc_s())
        """The newest edge that was handed to the writer."""
        self._began_utc_s = clock.now_utc_s()
        self.open = False
        """Whether the port is open."""
        self.moved_s = time.monotonic()
        """When the thread last looked for what came."""
        self.failing: list[str] = []
        """Meters that have sent nothing for an interval."""
        self._rows: list[MeterRows] = []
        """Closed behind the edge that is not finished."""
        self._read = 0
        self._unread: Counter[str] = Counter()
        self._unread_lately: set[str] = set()
        self._seen: dict[str, ClockSeen] = {}

    def state(self) -> dict[str, Any]:
        """How many lists were read, and what came beside them, by kind of error."""
        return {
            "read": self._read,
            "unread": dict(self._unread),
            "damaged_frames": self._source.damaged,
        }

    def progress(self) -> tuple[int, int]:
        """Nothing is recovered from meters that cannot be asked."""
        return 0, 0

    def clocks(self) -> dict[str, ClockSeen]:
        """How the meters' clocks stood in their last lists, by meter."""
        return dict(self._seen)

    # --- the thread

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self._source.close()

    def _serve(self) -> None:
        pause_s = _REOPEN_S[0]
        while not self._stop_event.is_set():
            try:
                self._source.open()
                self.open = True
                self._faults.over(f"line {self.line}")
                pause_s = _REOPEN_S[0]
                while not self._stop_event.is_set():
                    self._listen()
            except PortLost as error:
                if self.open:
                    self._counters.add("ports_lost_total")
                self.open = False
                self._pushed.clear()
                self._faults.report(f"line {self.line}", str(error))
                self._stop_event.wait(pause_s * random.uniform(0.7, 1.0))
                self._finish_edge_if_due()
                pause_s = min(2 * pause_s, _REOPEN_S[1])

    def _listen(self) -> None:
        for heard in self._source.hear(time.monotonic() + _STEP_S):
            try:
                self._take(heard)
            except DlmsError as error:
                self._count_unread(error)
        self._finish_edge_if_due()

    def _take(self, heard: HeardApdu) -> None:
        if isinstance(heard.apdu, DlmsError):
            raise heard.apdu
        found = self._pushed.hear(heard.sender, heard.address, heard.apdu)
        if found is None:
            return
        pushed, reading = found
        meter, driver = self._meters[pushed.name]
        driver.take(self._sample(pushed.name, reading))
        self._read += 1
        self._counters.add("pushes_total")
        try:
            closed = meter.read()
        except ReadError:
            # Odd beside the one before it: the next list shows which of them is right.
            return
        if self._newest_edge(self._clock.now_utc_s()) > self.finished_edge_utc_s:
            self._rows.extend(closed)
        elif closed:
            self._hand_over(closed)

    def _sample(self, name: str, reading: PushedReading) -> Sample:
        """By the meter's clock where that is right: lists come late, and never early."""
        now_utc_s = self._clock.now_utc_s()
        sample = replace(reading.sample(round(now_utc_s * 1000)), flags=0)
        if reading.at_utc_s is None:
            return sample
        ahead_s = reading.at_utc_s - now_utc_s
        untrusted = bool(reading.flags & Quality.CLOCK_UNTRUSTED)
        self._seen[name] = ClockSeen(now_utc_s, ahead_s, untrusted)
        key = f"meter {name} clock"
        if untrusted or abs(ahead_s) > CLOCK_OFF_S:
            self._faults.report(
                key,
                f"its lists say {ahead_s:+.0f} s beside the agent's clock, expected at most "
                f"{CLOCK_OFF_S:.0f} s, and no doubt of its own; have its clock set. Until then "
                "its lists count from when they come",
            )
            return sample
        self._faults.over(key)
        return replace(sample, at_utc_ms=reading.at_utc_s * 1000)

    def _count_unread(self, error: DlmsError) -> None:
        kind = type(error).__name__
        self._unread[kind] += 1
        self._unread_lately.add(kind)
        self._counters.add("pushes_unread_total")
        self._faults.report(f"{kind} on line {self.line}", str(error))

    # --- edges

    def _newest_edge(self, utc_s: float) -> int:
        return int(utc_s // self._interval_s) * self._interval_s

    def _finish_edge_if_due(self) -> None:
        self.moved_s = time.monotonic()
        now_utc_s = self._clock.now_utc_s()
        edge = self._newest_edge(now_utc_s)
        if edge < self.finished_edge_utc_s - _SET_BACK_S:
            self.finished_edge_utc_s = edge
        if edge <= self.finished_edge_utc_s:
            return
        lately = edge - self._interval_s
        last = [meter.last_sample_utc_s for meter, _ in self._meters.values()]
        if now_utc_s < edge + _EDGE_WAIT_S and any(lately <= at < edge for at in last):
            return
        rows, self._rows = self._rows, []
        for meter, _ in self._meters.values():
            rows.extend(meter.expire(now_utc_s - _LATE_S))
        self._hand_over(EdgeRows(self.line, edge, rows))
        self.finished_edge_utc_s = edge
        self._judge(edge)

    def _judge(self, edge_utc_s: int) -> None:
        """What is wrong at an edge: who was silent, and what was heard that nobody can read."""
        silent = []
        for name, (meter, _) in self._meters.items():
            key = f"meter {name}"
            since_utc_s = max(meter.last_sample_utc_s, self._began_utc_s)
            if since_utc_s >= edge_utc_s - self._interval_s:
                self._faults.over(key)
                continue
            silent.append(name)
            self._faults.report(
                key,
                f"expected a list within {self._interval_s // 60} min, none of it came; check its "
                "wiring and push setup, and what status counts as unread",
            )
        self.failing = silent
        for kind in set(self._unread) - self._unread_lately:
            self._faults.over(f"{kind} on line {self.line}")
        self._unread_lately = set()
