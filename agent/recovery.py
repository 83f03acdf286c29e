"""Meters that keep a load profile: which intervals are missing here, and how they come.

The newest interval after an edge and last week's after a first start take the
same path: the newest run of ends that the store does not have is read by
range, a bounded slice at a time. An interval that the meter answers for but
did not record becomes a NO_DATA row; so does one that grows older than the
recovery window unread. Nothing is ever invented.

NO_DATA is not the last word: as far back as the store's history goes, such
intervals are asked for again after a restart, after the meter was away, and
once a day, behind all that is missing. Only what the meter then has is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.driver import ProfileDriver, ProfileRow
from agent.store.outline import Recalled
from agent.store.rows import MeterEpoch, MeterRows, Values, no_data
from wire.channels import PROFILE_SCHEMA
from wire.quality import Quality

_NO_DATA = no_data(PROFILE_SCHEMA.id)
_ALL_CHANNELS = (1 << len(PROFILE_SCHEMA.channels)) - 1
_FLAGS_BIT = 1 << (len(PROFILE_SCHEMA.channels) - 1)
_RETRY_SHARE = 0.1
"""A row that the meter has not written yet is asked for again after this share of an interval."""
_LOOK_AGAIN_S = 86_400
"""After so long, what the meter did not have is asked for again in any case."""
_LOOK_AGAIN_SOONEST_S = 3600
"""However often the meter goes away and comes back."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of interval ends that are not known here, both included, UTC s."""

    first_end_utc_s: int
    last_end_utc_s: int


class Coverage:
    """Which interval ends of one meter are known; one bit each."""

    def __init__(self, interval_s: int, since_utc_s: int, known: Iterable[int] = ()) -> None:
        self._interval_s = interval_s
        self._base = since_utc_s // interval_s
        self._bits = 0
        for end in known:
            self.add(end)

    def add(self, end_utc_s: int) -> None:
        """An end is known now; one before the window is ignored."""
        position = end_utc_s // self._interval_s - self._base
        if position >= 0:
            self._bits |= 1 << position

    def __contains__(self, end_utc_s: int) -> bool:
        position = end_utc_s // self._interval_s - self._base
        return position < 0 or bool(self._bits >> position & 1)

    def newest_gap(self, last_end_utc_s: int, most: int) -> Gap | None:
        """The newest run of unknown ends up to `last_end_utc_s`, at most `most` long."""
        count = last_end_utc_s // self._interval_s - self._base + 1
        if count <= 0:
            return None
        unknown = ~self._bits & ((1 << count) - 1)
        if not unknown:
            return None
        last = unknown.bit_length() - 1
        known_below = self._bits & ((1 << last) - 1)
        first = max(known_below.bit_length(), last - most + 1)
        return Gap((self._base + first) * self._interval_s, (self._base + last) * self._interval_s)

    def count(self, last_end_utc_s: int) -> tuple[int, int]:
        """(known, expected) ends from the window's beginning up to `last_end_utc_s`."""
        count = max(0, last_end_utc_s // self._interval_s - self._base + 1)
        return (self._bits & ((1 << count) - 1)).bit_count(), count

    def slide(self, since_utc_s: int) -> list[int]:
        """Begin the window later; returns the ends that leave it unknown, oldest first."""
        base = since_utc_s // self._interval_s
        left = base - self._base
        if left <= 0:
            return []
        unknown = [
            (self._base + position) * self._interval_s
            for position in range(left)
            if not self._bits >> position & 1
        ]
        self._bits >>= left
        self._base = base
        return unknown


class SecondLook:
    """Interval ends that are reported missing, and when the meter is asked for them again."""

    def __init__(self, interval_s: int, ends_utc_s: Iterable[int]) -> None:
        self._interval_s = interval_s
        self._lacking = set(ends_utc_s)
        self._asked: list[int] = []
        """Still to be asked in this look, ascending."""
        self._looked_utc_s = float("-inf")
        self._came_back = False

    def __contains__(self, end_utc_s: int) -> bool:
        return end_utc_s in self._lacking

    def reported(self, ends_utc_s: Iterable[int]) -> None:
        """These have been reported missing."""
        self._lacking.update(ends_utc_s)

    def found(self, end_utc_s: int) -> None:
        """The meter had it after all."""
        self._lacking.discard(end_utc_s)

    def came_back(self) -> None:
        """The meter answers after it did not."""
        self._came_back = True

    def begin(self, now_utc_s: float, first_end_utc_s: int) -> None:
        """Look again if it is time; what ends before `first_end_utc_s` is given up."""
        self._lacking = {end for end in self._lacking if end >= first_end_utc_s}
        wait_s = _LOOK_AGAIN_SOONEST_S if self._came_back else _LOOK_AGAIN_S
        # A clock that was set back does not put the next look off.
        if 0 <= now_utc_s - self._looked_utc_s < wait_s:
            return
        self._looked_utc_s = now_utc_s
        self._came_back = False
        self._asked = sorted(self._lacking)

    def gap(self, most: int) -> Gap | None:
        """The newest run of ends to be asked again, at most `most` long."""
        if not self._asked:
            return None
        last = first = self._asked[-1]
        for end in self._asked[-2 : -most - 1 : -1]:
            if end != first - self._interval_s:
                break
            first = end
        return Gap(first, last)

    def answered(self, gap: Gap) -> None:
        """The meter has been asked for all of this."""
        while self._asked and self._asked[-1] >= gap.first_end_utc_s:
            self._asked.pop()


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
        self._channels = recalled.channels
        since = self._window_begin(now_utc_s)
        self._coverage = Coverage(interval_s, since, recalled.ends_utc_s)
        self._newest_known = max(recalled.ends_utc_s, default=0)
        self._not_before = recalled.exchanged_after_utc_s
        self._retry_utc_s = float("-inf")
        self._unreported = self._outage(since) if recalled.ends_utc_s else range(0)
        """Ends of an outage that began before the window; reported at the first edge."""
        lacking = [end for end in recalled.missing_utc_s if end > self._not_before]
        self._second_look = SecondLook(interval_s, [*lacking, *self._unreported])
        self._second_look.begin(now_utc_s, self._history_begin(now_utc_s))
        self._away = False
        self._epoch = self._new_epoch()

    @property
    def driver(self) -> ProfileDriver:
        """Reads the meter."""
        return self._driver

    def gap(self, now_utc_s: float, most: int) -> Gap | None:
        """The newest run of missing ends; None when there is nothing to ask for now."""
        last = int(now_utc_s // self._interval_s) * self._interval_s
        if now_utc_s < self._retry_utc_s:
            last -= self._interval_s
        return self._coverage.newest_gap(last, most) or self._second_look.gap(most)

    def progress(self, now_utc_s: float) -> tuple[int, int]:
        """(known, expected) intervals of the recovery window."""
        return self._coverage.count(int(now_utc_s // self._interval_s) * self._interval_s)

    def expire(self, now_utc_s: float) -> list[MeterRows]:
        """Slide the recovery window; what leaves it unread is reported missing."""
        ends = self._coverage.slide(self._window_begin(now_utc_s))
        self._second_look.reported(ends)
        ends = [end for end in self._unreported if end in self._second_look] + ends
        self._unreported = range(0)
        self._second_look.begin(now_utc_s, self._history_begin(now_utc_s))
        return [MeterRows(self._epoch, [(end, _NO_DATA) for end in ends])] if ends else []

    def read(self, gap: Gap, now_utc_s: float) -> list[MeterRows]:
        """Ask the meter for a gap; raises ReadError or PortLost, then nothing has changed."""
        away, self._away = self._away, True
        rows = self._driver.profile(gap.first_end_utc_s, gap.last_end_utc_s)
        self._away = False
        if away:
            self._second_look.came_back()
        serial = self._driver.serial or ""
        exchanged = bool(self._serial) and serial != self._serial
        if exchanged:
            # What lies before the old meter's last interval is the new meter's former life.
            self._not_before = self._newest_known
            self._second_look = SecondLook(self._interval_s, ())
        found = {
            row.end_utc_s: row
            for row in rows
            if row.end_utc_s > self._not_before and row.end_utc_s % self._interval_s == 0
        }
        if serial != self._serial or not self._channels:
            self._serial = serial
            self._channels = _channels(rows) if exchanged else self._channels | _channels(rows)
            self._epoch = self._new_epoch()
        closed = self._close(gap, found, now_utc_s)
        if exchanged:
            _mark_exchange(closed)
        return [MeterRows(self._epoch, closed)] if closed else []

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
            values = _values(found[end]) if end in found else _NO_DATA
            if values is not _NO_DATA:
                closed.append((end, values))
                self._second_look.found(end)
            elif again:
                continue
            elif end in found or end < newest_found or end <= settled:
                closed.append((end, _NO_DATA))
                if end > self._not_before:
                    self._second_look.reported([end])
            else:
                self._retry_utc_s = now_utc_s + _RETRY_SHARE * self._interval_s
                continue
            self._coverage.add(end)
            self._newest_known = max(self._newest_known, end)
        self._second_look.answered(gap)
        return closed

    def _new_epoch(self) -> MeterEpoch:
        return MeterEpoch(
            self.name, self._serial, PROFILE_SCHEMA.id, self._channels or _ALL_CHANNELS
        )

    def _window_begin(self, now_utc_s: float) -> int:
        newest = int(now_utc_s // self._interval_s) * self._interval_s
        return newest - self._recover_s + self._interval_s

    def _history_begin(self, now_utc_s: float) -> int:
        return int(now_utc_s) - self._history_s

    def _outage(self, until_utc_s: int) -> range:
        """Ends between the newest one known and the window, as far back as history goes."""
        earliest = until_utc_s - self._history_s + self._recover_s
        first = max(self._newest_known + self._interval_s, earliest)
        return range(first, until_utc_s, self._interval_s)


def _values(row: ProfileRow) -> Values:
    if row.import_wh is None:
        return _NO_DATA
    flags = row.flags | Quality.PROFILE.value
    if row.voltage_dv is None and row.current_ca is None:
        flags |= Quality.NO_GAUGES.value
    return (
        row.import_wh,
        row.export_wh or 0,
        row.import_varh or 0,
        row.voltage_dv or 0,
        row.current_ca or 0,
        flags,
    )


def _channels(rows: Iterable[ProfileRow]) -> int:
    """Which of the schema's channels the rows have."""
    mask = 0
    for row in rows:
        values = (row.import_wh, row.export_wh, row.import_varh, row.voltage_dv, row.current_ca)
        mask |= sum(1 << bit for bit, value in enumerate(values) if value is not None)
    return mask | _FLAGS_BIT if mask else 0


def _mark_exchange(closed: list[tuple[int, Values]]) -> None:
    for position, (end, values) in enumerate(closed):
        if not values[-1] & Quality.NO_DATA:
            closed[position] = (end, (*values[:-1], values[-1] | Quality.METER_EXCHANGED))
            return
