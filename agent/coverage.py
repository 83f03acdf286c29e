"""Which interval ends of one meter are known, which are asked again, and what it fails on.

Bookkeeping of `agent/recovery.py`: no meter is asked here, and no clock. Ends
are UTC s, on the interval's edges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LOOK_AGAIN_S = 86_400
"""After so long, what the meter did not have is asked for again in any case."""
_LOOK_AGAIN_SOONEST_S = 3600
"""However often the meter goes away and comes back."""
_BRIDGED = 8
"""A row that is known costs less than a request of its own for those beyond it."""
_MOST_POSITIONS = 1 << 17
"""Ends remembered, three years of quarters: a clock that is far off must cost no memory."""
_FAILURES_IN_DOUBT = 2
"""A slice that fails once was disturbed; one that fails so often in a row may be at fault."""
_STRIKES = 3
"""So often must the meter answer other reads while an end fails."""
_UNHINDERED = 256
"""No slice is longer."""


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
        """An end is known now; one before the window, or years after it, is ignored."""
        position = end_utc_s // self._interval_s - self._base
        if 0 <= position < _MOST_POSITIONS:
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

    def slide(self, since_utc_s: int, earliest_utc_s: int) -> list[int]:
        """Begin the window later.

        Returns the ends that leave it unknown, oldest first, none before `earliest_utc_s`.
        """
        base = since_utc_s // self._interval_s
        left = base - self._base
        if left <= 0:
            return []
        first = max(0, -(-earliest_utc_s // self._interval_s) - self._base)
        unknown = [
            (self._base + position) * self._interval_s
            for position in range(first, left)
            if not self._bits >> position & 1
        ]
        self._bits >>= left
        self._base = base
        return unknown

    def rewind(self, since_utc_s: int, last_end_utc_s: int) -> None:
        """The clock was set back: nothing after `last_end_utc_s` can be known.

        The window begins at `since_utc_s`, if that is earlier.
        """
        more = max(0, self._base - since_utc_s // self._interval_s)
        self._base -= more
        # A shift by years would leave nothing below the cut, at the cost of its bits.
        self._bits = self._bits << more if more < _MOST_POSITIONS else 0
        count = max(0, last_end_utc_s // self._interval_s - self._base + 1)
        self._bits &= (1 << count) - 1


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
        """The newest run of ends to be asked again, few known ones between them; `most` long."""
        if not self._asked:
            return None
        last = first = self._asked[-1]
        earliest = last - (most - 1) * self._interval_s
        for end in self._asked[-2 : -most - 1 : -1]:
            if end < max(earliest, first - _BRIDGED * self._interval_s):
                break
            first = end
        return Gap(first, last)

    def answered(self, gap: Gap) -> None:
        """The meter has been asked for all of this."""
        self._asked = [
            end for end in self._asked if not gap.first_end_utc_s <= end <= gap.last_end_utc_s
        ]

    def rewind(self, last_end_utc_s: int) -> None:
        """The clock was set back: what ends later was reported by mistake."""
        self._lacking = {end for end in self._lacking if end <= last_end_utc_s}
        self._asked = [end for end in self._asked if end <= last_end_utc_s]


class Obstacle:
    """What a meter fails to answer: halved until one end is left, and that is given up.

    Only while the meter answers other reads: a meter that is away has no
    obstacle. So a row that cannot be read keeps nothing older from coming.
    """

    def __init__(self) -> None:
        self._gap: Gap | None = None
        self._failures = 0
        self._strikes = 0
        self._successes = 0
        self.most: int | None = None
        """Most ends of a slice; None where nothing is in the way."""

    @property
    def suspect_utc_s(self) -> int | None:
        """The end that may be at fault: another read must tell whether the meter is there."""
        in_doubt = self.most == 1 and self._failures >= _FAILURES_IN_DOUBT
        return self._gap.last_end_utc_s if self._gap is not None and in_doubt else None

    def failed(self, gap: Gap, ends: int) -> None:
        """A slice of so many ends was not answered, or not as it should be."""
        self._successes = 0
        if self.suspect_utc_s is not None and gap != self._gap:
            return
        if self._gap is None or gap.last_end_utc_s != self._gap.last_end_utc_s:
            self._failures = self._strikes = 0
        self._gap = gap
        self._failures += 1
        if self._failures >= _FAILURES_IN_DOUBT and self.most != 1:
            self.most = max(1, ends // 2)
            self._failures = 0

    def answered(self, gap: Gap) -> int | None:
        """A slice was answered; returns the end that is given up with that."""
        suspect = self.suspect_utc_s
        if suspect is not None and not gap.first_end_utc_s <= suspect <= gap.last_end_utc_s:
            self._failures = 0
            self._strikes += 1
            if self._strikes < _STRIKES:
                return None
            self._gap, self._strikes, self._successes = None, 0, 0
            return suspect
        self._gap, self._failures, self._strikes = None, 0, 0
        # The half beside the one that was answered is the one that fails: it stays as short.
        self._successes += 1
        if self.most is not None and self._successes >= 2:
            longer = 2 * self.most
            self.most, self._successes = longer if longer < _UNHINDERED else None, 0
        return None
