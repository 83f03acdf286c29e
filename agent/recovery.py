"""Meters that keep a load profile: which intervals are missing here, and how they come.

The newest interval after an edge and last week's after a first start take the
same path: the newest run of ends that the store does not have is read by
range, a bounded slice at a time. An interval that the meter answers for but
did not record becomes a NO_DATA row; so does one that grows older than the
recovery window unread. Nothing is ever invented.

NO_DATA is not the last word: as far back as the store's history goes, such
intervals are asked for again after a restart, after the meter was away, and
once a day, behind all that is missing. Only what the meter then has is said.

An end that the meter cannot answer for, though it answers for others, is NO_DATA
too: it keeps nothing older from coming.
"""

from __future__ import annotations

import logging

from agent.coverage import Coverage, Gap, Obstacle, SecondLook
from agent.driver import ProfileDriver, ProfileRow, ReadError
from agent.interval.counters import COUNTERS, MOST_COUNTER
from agent.store.outline import Recalled
from agent.store.rows import MeterEpoch, MeterRows, Values, no_data
from wire.channels import PROFILE_SCHEMA
from wire.quality import Quality

__all__ = ["Coverage", "Gap", "ProfileMeter"]

log = logging.getLogger("loadscape.agent")

_NO_DATA = no_data(PROFILE_SCHEMA.id)
_LACKS = Quality.NO_DATA.value
_RETRY_SHARE = 0.1
"""A row that the meter has not written yet is asked for again after this share of an interval."""
_GAUGES = ("voltage_dv", "current_ca")
_LIMITS = {
    **dict.fromkeys(COUNTERS, (0, MOST_COUNTER)),
    **dict.fromkeys(_GAUGES, (-(1 << 31), 1 << 31)),
}
"""From where up to where, exclusive, a meter's values can lie; in the schema's order."""


class ProfileMeter:
    """One meter that keeps a profile. Used by its line's thread; `progress` by any."""

    def __init__(
        self,
        name: str,
        driver: ProfileDriver,
        *,
        interval_s: int,
        recover_s: int,
        now_utc_s: float,
        recalled: Recalled | None,
        history_s: int = 0,
    ) -> None:
        """`recalled` goes back `history_s`: so far the meter is asked again for what it lacked."""
        self.name = name
        self._driver = driver
        self._interval_s = interval_s
        self._recover_s = max(recover_s, 2 * interval_s)
        self._history_s = max(history_s, self._recover_s)
        recalled = recalled or Recalled()
        self._serial = recalled.serial
        since = self._window_begin(now_utc_s)
        newest = self._newest_end(now_utc_s)
        # Reported by a clock that was ahead: nobody can know by now that they are missing.
        too_early = {end for end in recalled.missing_utc_s if end > newest}
        known = [end for end in recalled.ends_utc_s if end not in too_early]
        self._coverage = Coverage(interval_s, since, known)
        self._newest_known = max(known, default=0)
        self._not_before = recalled.exchanged_after_utc_s
        self._exchange_unmarked = False
        self._retry_utc_s = float("-inf")
        self._newest_asked = newest
        self._unreported = self._holes(known, since) if known else set()
        """Ends before the window that were never read nor reported; reported at the first edge."""
        lacking = {*recalled.missing_utc_s, *self._unreported} - too_early
        self._second_look = SecondLook(
            interval_s, [end for end in lacking if end > self._not_before]
        )
        self._second_look.begin(now_utc_s, self._history_begin(now_utc_s))
        self._obstacle = Obstacle()
        self._away = False
        self._mute = False
        """Whether intervals were reported missing and none has come yet."""
        self._given = False
        self._epoch = self._new_epoch()

    @property
    def driver(self) -> ProfileDriver:
        """Reads the meter."""
        return self._driver

    def gap(self, now_utc_s: float, most: int) -> Gap | None:
        """The newest run of missing ends; None when there is nothing to ask for now."""
        last = self._newest_end(now_utc_s)
        if last < self._newest_asked - self._interval_s:
            self._rewind(last, now_utc_s)
        self._newest_asked = last
        if now_utc_s < self._retry_utc_s:
            last -= self._interval_s
        most = min(most, self._obstacle.most or most)
        gap = self._coverage.newest_gap(last, most) or self._second_look.gap(most)
        suspect = self._obstacle.suspect_utc_s
        if gap is None or gap.last_end_utc_s != suspect or not self._newest_known:
            return gap
        # Is it the end or the meter? One that it had must come again.
        return Gap(self._newest_known, self._newest_known)

    def progress(self, now_utc_s: float) -> tuple[int, int]:
        """(known, expected) intervals of the recovery window."""
        return self._coverage.count(self._newest_end(now_utc_s))

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        """Slide the recovery window; what leaves it unread is reported missing."""
        history_begin = self._history_begin(now_utc_s)
        # Bounded, as a clock that was years behind may have been set.
        earliest = history_begin - self._recover_s
        ends = self._coverage.slide(self._window_begin(now_utc_s), earliest)
        self._second_look.reported(ends)
        ends = sorted(self._unreported) + ends
        self._unreported = set()
        self._second_look.begin(now_utc_s, history_begin)
        return [MeterRows(self._epoch, [(end, _NO_DATA) for end in ends])] if ends else []

    def read(self, gap: Gap, now_utc_s: float) -> list[MeterRows]:
        """Ask the meter for a gap; raises ReadError or PortLost, then nothing has changed."""
        away, self._away = self._away, True
        try:
            rows = self._driver.profile(gap.first_end_utc_s, gap.last_end_utc_s)
        except ReadError:
            ends = (gap.last_end_utc_s - gap.first_end_utc_s) // self._interval_s + 1
            self._obstacle.failed(gap, ends)
            raise
        self._away = False
        if away and self._obstacle.suspect_utc_s is None:
            self._second_look.came_back()
        if self._see_serial(self._driver.serial or ""):
            self._exchange_unmarked = True
            # What lies before the old meter's last interval is the new meter's former life.
            self._not_before = self._newest_known
            self._second_look = SecondLook(self._interval_s, ())
        found = {
            row.end_utc_s: row
            for row in rows
            if row.end_utc_s > self._not_before and row.end_utc_s % self._interval_s == 0
        }
        closed = self._close(gap, found, now_utc_s)
        if self._mute and self._given:
            # A meter that tells energies alone has counters, also of before, once one is certain.
            self._mute = False
            self._second_look.came_back()
        if self._exchange_unmarked and gap.first_end_utc_s <= self._not_before + self._interval_s:
            self._exchange_unmarked = False
            _mark_exchange(closed)
        closed += self._give_up(self._obstacle.answered(gap), now_utc_s)
        return [MeterRows(self._epoch, closed)] if closed else []

    def _see_serial(self, serial: str) -> bool:
        """Whether the meter was exchanged."""
        before, self._serial = self._serial, serial
        if serial != before:
            self._epoch = self._new_epoch()
        return bool(before) and serial != before

    def _close(
        self, gap: Gap, found: dict[int, ProfileRow], now_utc_s: float
    ) -> list[tuple[int, Values]]:
        newest_found = max(found, default=0)
        settled = now_utc_s - self._interval_s
        closed: list[tuple[int, Values]] = []
        for end in range(gap.first_end_utc_s, gap.last_end_utc_s + 1, self._interval_s):
            again = end in self._second_look
            if end in self._coverage and not again:
                continue
            values = _values(found[end], self._driver.quantities) if end in found else _NO_DATA
            if not values[-1] & _LACKS:
                self._given = True
                closed.append((end, values))
                self._second_look.found(end)
                self._unreported.discard(end)
                self._now_known(end)
            elif again:
                self._now_known(end)
            elif end in found or end < newest_found or end <= settled:
                closed.append((end, values))
                self._reported(end)
            else:
                self._retry_utc_s = now_utc_s + _RETRY_SHARE * self._interval_s
        self._second_look.answered(gap)
        return closed

    def _give_up(self, end: int | None, now_utc_s: float) -> list[tuple[int, Values]]:
        """Report an end that the meter cannot answer for, unless it may still be writing it."""
        if end is None or end > now_utc_s - self._interval_s:
            return []
        self._second_look.answered(Gap(end, end))
        if end in self._coverage:
            return []
        log.info("meter %s answers, but not for the interval that ended %d", self.name, end)
        self._reported(end)
        return [(end, _NO_DATA)]

    def _reported(self, end: int) -> None:
        self._mute = self._mute or not self._given
        if end > self._not_before:
            self._second_look.reported([end])
        self._now_known(end)

    def _now_known(self, end: int) -> None:
        self._coverage.add(end)
        self._newest_known = max(self._newest_known, end)

    def _rewind(self, last_end_utc_s: int, now_utc_s: float) -> None:
        """The agent's clock was set back: what it said of later intervals was a mistake."""
        self._coverage.rewind(self._window_begin(now_utc_s), last_end_utc_s)
        self._second_look.rewind(last_end_utc_s)
        self._newest_known = min(self._newest_known, last_end_utc_s)
        self._not_before = min(self._not_before, last_end_utc_s)
        self._retry_utc_s = float("-inf")

    def _new_epoch(self) -> MeterEpoch:
        return MeterEpoch(
            self.name, self._serial, PROFILE_SCHEMA.id, _channels(self._driver.quantities)
        )

    def _newest_end(self, now_utc_s: float) -> int:
        return int(now_utc_s // self._interval_s) * self._interval_s

    def _window_begin(self, now_utc_s: float) -> int:
        return self._newest_end(now_utc_s) - self._recover_s + self._interval_s

    def _history_begin(self, now_utc_s: float) -> int:
        return int(now_utc_s) - self._history_s

    def _holes(self, known: list[int], until_utc_s: int) -> set[int]:
        """Ends before the window that nothing is known of, as far back as history goes."""
        earliest = until_utc_s - self._history_s + self._recover_s
        first = max(min(known), earliest)
        return set(range(first, until_utc_s, self._interval_s)).difference(known)


def _values(row: ProfileRow, has: frozenset[str]) -> Values:
    """A row as the schema has it; NO_DATA where it lacks a counter that its meter has."""
    flags = row.flags
    values: list[int | None] = []
    for name, (lowest, limit) in _LIMITS.items():
        value = getattr(row, name) if name in has else 0
        if value is not None and not lowest <= value < limit:
            value, flags = None, flags | Quality.OUT_OF_RANGE.value
        values.append(value)
    counters, gauges = values[: len(COUNTERS)], values[len(COUNTERS) :]
    if None in counters:
        return (*_NO_DATA[:-1], flags | _LACKS)
    if None in gauges or has.isdisjoint(_GAUGES):
        flags |= Quality.NO_GAUGES.value
    return (*(value or 0 for value in values), flags | Quality.PROFILE.value)


def last_registers(recalled: Recalled | None) -> tuple[int, dict[str, int]] | None:
    """End and counters of the newest interval with data of the present meter; None without one."""
    if recalled is None or recalled.last_true is None or recalled.data_serial != recalled.serial:
        return None
    if recalled.schema_id != PROFILE_SCHEMA.id or not recalled.serial:
        return None
    end, values = recalled.last_true
    return end, dict(zip(COUNTERS, values, strict=False))


def _channels(has: frozenset[str]) -> int:
    """Which of the schema's channels rows with these quantities have."""
    names = [channel.name for channel in PROFILE_SCHEMA.channels]
    return sum(1 << bit for bit, name in enumerate(names) if name in has or name == "flags")


def _mark_exchange(closed: list[tuple[int, Values]]) -> None:
    for position, (end, values) in enumerate(closed):
        if not values[-1] & _LACKS:
            closed[position] = (end, (*values[:-1], values[-1] | Quality.METER_EXCHANGED))
            return
