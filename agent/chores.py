"""What a meter with a load profile is asked when nothing is missing: its clock, its event logs.

The clock is read once a day and, where the meter's class allows it, set at
most once a day, never near an interval's edge. Each event log is read on from
where the last read ended; how far that is goes to the store with the entries,
so that an entry is told once however often the agent starts. A chore that
fails is put off; it never says anything about the meter's other reads.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.driver import ClockReading, MeterEvent, MeterRefused, ProfileDriver, ReadError
from agent.store.event_table import EventRows, LogMark, fingerprint
from wire.events import Event, EventsError, check_event, cut_detail
from wire.quality import Quality

log = logging.getLogger("loadscape.agent")

CLOCK_EVERY_S = 86_400
LOG_EVERY_S = 3600
_SPREAD_S = 3600
"""The chores of a start are spread over so long, each meter at an instant of its own."""
_PUT_OFF_S = 3600
"""A chore that failed is tried again after this time."""
_EDGE_S = 60
"""No clock is set so near to an interval's edge."""
_WORTH_SETTING_MS = 2000
"""A read is no more exact than that; the meter's class may ask for more."""
_CLOCK_JUMPED_MS = 60_000
"""Row stamps that differ by more from what the clock showed: it is read again at once."""
_DRIFT_OVER_S = 6 * 3600
"""A drift is told from reads so far apart: each is as exact as a second."""
_CLOCK_SET_BACK_S = 3600
"""A meter's clock may be set back by so much: entries that follow have earlier stamps."""
MOST_ENTRIES = 256
"""Of one log that are handed over together, oldest first; after so many there may be more."""

CLOCK = "clock"
SET_CLOCK = "set clock"
AGENT_LOG = "agent control"
"""The log under which the agent's own acts are told, beside the meter's logs."""
CLOCK_SET = 1
"""Code of the event that says so; the detail has `was_ahead_ms`."""
CLOCK_SET_UNSURE = 2
"""The meter was told to set its clock, and what came of it is not known."""


@dataclass(frozen=True, slots=True)
class ClockSeen:
    """How a meter's clock stood when it was read last."""

    at_utc_s: float
    ahead_s: float
    untrusted: bool
    drift_s_per_day: float | None = None
    """How much further ahead it gets; None until two reads of it tell."""


class Chores:
    """The chores of one meter. Used by its line's thread; `clock` may be read by any."""

    def __init__(
        self,
        name: str,
        driver: ProfileDriver,
        *,
        interval_s: int,
        now_utc_s: float,
        marks: Mapping[tuple[str, str], LogMark],
        since_utc_s: int,
    ) -> None:
        """`marks` says by serial number and log how far it was read; others begin at `since`."""
        self._name = name
        self._driver = driver
        self._interval_s = interval_s
        self._marks = dict(marks)
        self._since_utc_s = since_utc_s
        self._first_look_s = int(now_utc_s) - since_utc_s
        first_utc_s = now_utc_s + zlib.crc32(name.encode()) % _SPREAD_S
        self._due_utc_s = dict.fromkeys([CLOCK, *driver.event_logs], first_utc_s)
        own = (mark.at_utc_s for (_, name), mark in marks.items() if name == AGENT_LOG)
        self._set_utc_s: float = max(own, default=-CLOCK_EVERY_S)
        self._untold: list[EventRows] = []
        self._refused: set[str] = set()
        """What was refused and said so in the log, once."""
        self.clock: ClockSeen | None = None

    def due(self, now_utc_s: float) -> str | None:
        """The chore that has waited the longest; None while none is due."""
        # What is due so much later was planned by a clock that has been set back since.
        latest_utc_s = now_utc_s + CLOCK_EVERY_S
        waiting = [
            (due, what)
            for what, due in self._due_utc_s.items()
            if due <= now_utc_s or due > latest_utc_s
        ]
        if not waiting:
            return None
        _, what = min(waiting)
        # Not even a try near an edge: it waits for the middle of an interval.
        return None if what == SET_CLOCK and self._near_edge(now_utc_s) else what

    def saw_rows(self, flags: Iterable[int], now_utc_s: float) -> None:
        """Rows of the profile came: do they say that the clock is not where it was?"""
        bounds, seen = self._driver.clock_bounds, self.clock
        if seen is None or 0 <= now_utc_s - seen.at_utc_s < _PUT_OFF_S:
            return
        ahead_ms = seen.ahead_s * 1000
        jumped = bounds is not None and not (
            bounds.least_ms - _CLOCK_JUMPED_MS <= ahead_ms <= bounds.most_ms + _CLOCK_JUMPED_MS
        )
        doubted = not seen.untrusted and any(flag & Quality.CLOCK_UNTRUSTED for flag in flags)
        if jumped or doubted:
            self._due_utc_s[CLOCK] = min(now_utc_s, self._due_utc_s[CLOCK])

    def do(self, what: str, now_utc_s: float) -> list[EventRows]:
        """What it brought for the store; raises ReadError, then it is put off.

        What the meter refuses is not asked again before tomorrow, and is no error.
        """
        self._due_utc_s[what] = now_utc_s + _PUT_OFF_S
        untold, self._untold = self._untold, []
        return untold + self._do(what, now_utc_s)

    def _do(self, what: str, now_utc_s: float) -> list[EventRows]:
        try:
            if what == CLOCK:
                self._see(self._driver.read_clock(), now_utc_s)
                return []
            if what == SET_CLOCK:
                return [self._set_clock(now_utc_s)]
            return self._read_log(what, now_utc_s)
        except MeterRefused as error:
            # Setting is forbidden, or a log is not there: a choice, not a fault.
            if what == SET_CLOCK:
                del self._due_utc_s[what]
            else:
                self._due_utc_s[what] = now_utc_s + CLOCK_EVERY_S
            if what not in self._refused:
                self._refused.add(what)
                log.info("%s of meter %s is refused: %s", what, self._name, error)
            return []
        except ReadError:
            if what == SET_CLOCK:
                # Whether it was set is not known; it is not tried again before tomorrow.
                del self._due_utc_s[what]
                self._untold.append(self._own_act(CLOCK_SET_UNSURE, "", int(now_utc_s)))
                self._due_utc_s[CLOCK] = now_utc_s
            raise

    # --- the clock

    def _see(self, reading: ClockReading, now_utc_s: float) -> None:
        untrusted = bool(reading.flags & Quality.CLOCK_UNTRUSTED)
        at_utc_s, ahead_s = reading.at_utc_ms / 1000, reading.ahead_ms / 1000
        before, drift = self.clock, None
        if before is not None and before.at_utc_s > self._set_utc_s:
            over_s = at_utc_s - before.at_utc_s
            drift = before.drift_s_per_day
            if over_s >= _DRIFT_OVER_S:
                drift = (ahead_s - before.ahead_s) * CLOCK_EVERY_S / over_s
        self.clock = ClockSeen(at_utc_s, ahead_s, untrusted, drift)
        self._due_utc_s[CLOCK] = now_utc_s + CLOCK_EVERY_S
        rested = not 0 <= now_utc_s - self._set_utc_s < CLOCK_EVERY_S
        if rested and abs(reading.ahead_ms) >= _WORTH_SETTING_MS:
            self._due_utc_s[SET_CLOCK] = now_utc_s

    def _set_clock(self, now_utc_s: float) -> EventRows:
        self._set_utc_s = now_utc_s
        before = self._driver.set_clock()
        del self._due_utc_s[SET_CLOCK]
        # How it stands now shows at once, not tomorrow.
        self._due_utc_s[CLOCK] = now_utc_s
        return self._own_act(CLOCK_SET, f"was_ahead_ms={before.ahead_ms}", before.at_utc_ms // 1000)

    def _own_act(self, code: int, detail: str, at_utc_s: int) -> EventRows:
        serial = self._driver.serial or ""
        event = Event(self._name, serial, AGENT_LOG, at_utc_s, code, detail, 0)
        return EventRows([event], self._name, serial, AGENT_LOG, LogMark(at_utc_s))

    def _near_edge(self, now_utc_s: float) -> bool:
        since_s = now_utc_s % self._interval_s
        return min(since_s, self._interval_s - since_s) < _EDGE_S

    # --- event logs

    def _read_log(self, name: str, now_utc_s: float) -> list[EventRows]:
        serial = self._driver.serial or ""
        since_utc_s = min(self._since_utc_s, int(now_utc_s) - self._first_look_s)
        mark = self._marks.get((serial, name), LogMark(since_utc_s))
        events = self._events_since(name, serial, mark)
        if (self._driver.serial or "") != serial:
            # Another meter than the mark speaks of: the next try begins at its own.
            if not serial:
                self._due_utc_s[name] = now_utc_s
            return []
        fresh = [event for event in events if fingerprint(event) not in mark.seen]
        many = len(fresh) >= MOST_ENTRIES
        self._due_utc_s[name] = now_utc_s if many else now_utc_s + LOG_EVERY_S
        told = []
        for first in range(0, len(fresh), MOST_ENTRIES):
            piece = fresh[first : first + MOST_ENTRIES]
            mark = _moved_on(mark, piece, events, now_utc_s)
            told.append(EventRows(piece, self._name, serial, name, mark))
            self._marks[serial, name] = mark
        return told

    def _events_since(self, name: str, serial: str, mark: LogMark) -> list[Event]:
        """What the log holds from the mark on, up to something new or the present."""
        entries: list[MeterEvent] = []
        after_utc_s = mark.at_utc_s
        while True:
            found = self._driver.events(name, after_utc_s)
            entries += (entry for entry in found if entry.at_utc_s >= after_utc_s)
            events = list(self._carried(_numbered(self._name, serial, name, entries)))
            newest_utc_s = max((entry.at_utc_s for entry in found), default=after_utc_s)
            fresh = any(fingerprint(event) not in mark.seen for event in events)
            if fresh or newest_utc_s <= after_utc_s:
                return events
            after_utc_s = newest_utc_s + 1

    def _carried(self, events: Iterable[Event]) -> Iterator[Event]:
        """Without those that no batch can hold; that there are some is said once."""
        for event in events:
            try:
                check_event(event)
            except EventsError as error:
                if event.log not in self._refused:
                    self._refused.add(event.log)
                    log.warning("an entry of the log %s is left out: %s", event.log, error)
                continue
            yield event


def _moved_on(
    mark: LogMark, told: Sequence[Event], events: Iterable[Event], now_utc_s: float
) -> LogMark:
    """The mark after some more of the log's `events` have been told."""
    # Never up to now: an entry stamped by a clock that is ahead, or set back later, must not
    # hide those that follow.
    upto_utc_s = min(told[-1].at_utc_s, int(now_utc_s)) - _CLOCK_SET_BACK_S
    at_utc_s = max(mark.at_utc_s, upto_utc_s)
    told_before = {*map(fingerprint, told), *mark.seen}
    still = (fingerprint(event) for event in events if event.at_utc_s >= at_utc_s)
    return LogMark(at_utc_s, frozenset(still) & told_before)


def _numbered(meter: str, serial: str, name: str, entries: Iterable[MeterEvent]) -> Iterator[Event]:
    """The entries as events in order of time; those that agree in all are counted."""
    seen: Counter[tuple[int, int, str]] = Counter()
    for entry in sorted(entries, key=lambda entry: entry.at_utc_s):
        key = entry.at_utc_s, entry.code, cut_detail(entry.detail)
        yield Event(meter, serial, name, *key, seen[key])
        seen[key] += 1
