"""A simulated meter's clock: off, drifting, and set now and then; its date-times in 12 bytes.

A meter keeps standard time all year, or goes over to summer time as Europe
does (directive 2000/84/EC), by its own clock.
"""

from __future__ import annotations

import calendar
import math
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_UNSPECIFIED: Final = -0x8000
_SUMMER_MIN: Final = 60
_SUMMER_STATUS: Final = 0x80
"""Bit 7 of the clock status: daylight saving active (IEC 62056-6-2, 4.1.6.1)."""
_NO_STATUS: Final = 0xFF


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From a true instant on the clock is `ahead_s` ahead, and more with its drift."""

    from_utc_s: float
    ahead_s: float


class MeterClock:
    """What the meter's clock showed and shows, by true time (UTC seconds)."""

    def __init__(
        self, ahead_s: float = 0.0, drift_ppm: float = 0.0, since_utc_s: float | None = None
    ) -> None:
        """`ahead_s` at `since_utc_s`; `drift_ppm` microseconds a second from then on, and before.

        Raises ValueError for a drift without an instant at which it was so far ahead.
        """
        if drift_ppm and since_utc_s is None:
            raise ValueError("a clock that drifts needs since_utc_s: when it was ahead_s ahead")
        self._drift = drift_ppm / 1e6
        self._stretches = [_Stretch(since_utc_s or 0.0, ahead_s)]
        self.set_at: list[tuple[float, float]] = []
        """True instants at which it was set, and by how much, seconds."""

    @property
    def is_right(self) -> bool:
        """Whether it was always right."""
        return not self._drift and len(self._stretches) == 1 and not self._stretches[0].ahead_s

    def shown_s(self, at_utc_s: float) -> float:
        """What the clock shows at a true instant, as UTC seconds of its own."""
        stretch = next(
            (one for one in reversed(self._stretches) if one.from_utc_s <= at_utc_s),
            self._stretches[0],
        )
        return at_utc_s + self._ahead_s(stretch, at_utc_s)

    def set(self, shown_s: float, at_utc_s: float) -> None:
        """From the true instant on it shows `shown_s`."""
        self.set_at.append((at_utc_s, shown_s - self.shown_s(at_utc_s)))
        self._stretches.append(_Stretch(at_utc_s, shown_s - at_utc_s))

    def strikes(
        self, first_s: int, last_s: int, period_s: int, until_utc_s: float
    ) -> Iterator[tuple[int, float]]:
        """(shown, true instant) whenever the clock shows a multiple of `period_s`.

        Shown within [first_s, last_s], up to a true instant, in the order in
        which it happens: a clock that was set back strikes the same twice.
        """
        ends = [one.from_utc_s for one in self._stretches[1:]] + [math.inf]
        for place, (stretch, end_utc_s) in enumerate(zip(self._stretches, ends, strict=True)):
            begin_utc_s = -math.inf if place == 0 else stretch.from_utc_s
            shown_s = first_s + -first_s % period_s
            if place:
                since = self.shown_s(begin_utc_s)
                shown_s = max(shown_s, math.ceil(since / period_s) * period_s)
            while shown_s <= last_s:
                at_utc_s = self._true_s(stretch, shown_s)
                if at_utc_s >= end_utc_s or at_utc_s > until_utc_s:
                    break
                yield shown_s, at_utc_s
                shown_s += period_s

    def _ahead_s(self, stretch: _Stretch, at_utc_s: float) -> float:
        return stretch.ahead_s + self._drift * (at_utc_s - stretch.from_utc_s)

    def _true_s(self, stretch: _Stretch, shown_s: float) -> float:
        offset_s = stretch.ahead_s - self._drift * stretch.from_utc_s
        return (shown_s - offset_s) / (1 + self._drift)


@dataclass(frozen=True, slots=True)
class Zone:
    """How the meter writes its time: local time, and what it says of the deviation from UTC."""

    utc_offset_min: int
    """Of standard time."""
    quirks: frozenset[str] = frozenset()
    daylight_saving: bool = False

    def summer(self, shown_s: float) -> bool:
        """Whether it keeps summer time when its clock shows this instant."""
        return self.daylight_saving and _in_summer(math.floor(shown_s) // 3600)

    def offset_min(self, shown_s: float) -> int:
        """Minutes by which its local time is ahead of UTC."""
        return self.utc_offset_min + (_SUMMER_MIN if self.summer(shown_s) else 0)

    def deviation(self, shown_s: float) -> int:
        """Minutes as they stand in a date-time."""
        if "no deviation" in self.quirks:
            return _UNSPECIFIED
        return self.offset_min(shown_s) * (1 if "inverted deviation" in self.quirks else -1)

    def status(self, shown_s: float) -> int:
        """Clock status: all well, or summer time."""
        return _SUMMER_STATUS if self.summer(shown_s) else 0

    def date_time(self, shown_s: float) -> bytes:
        """The 12 bytes of an instant, seconds whole."""
        days, second = divmod(math.floor(shown_s) + self.offset_min(shown_s) * 60, 86400)
        tail = struct.pack(">BhB", 0, self.deviation(shown_s), self.status(shown_s))
        return date(days) + bytes([second // 3600, second // 60 % 60, second % 60]) + tail

    def instant(self, octets: bytes) -> int:
        """UTC of a date-time from a client; raises ValueError, TypeError or struct.error."""
        year, month, day, _, hour, minute, second, _, deviation, status = struct.unpack(
            ">HBBBBBBBhB", octets
        )
        if deviation == _UNSPECIFIED:
            summer = status & _SUMMER_STATUS and status != _NO_STATUS
            deviation = -self.utc_offset_min - (_SUMMER_MIN if summer else 0)
        elif "inverted deviation" in self.quirks:
            deviation = -deviation
        second = 0 if second == 0xFF else second
        utc_s: int = calendar.timegm((year, month, day, hour, minute, second)) + deviation * 60
        return utc_s


@lru_cache(maxsize=4096)
def _in_summer(utc_hours: int) -> bool:
    """From 01:00 UTC of the last Sunday in March to that of the last Sunday in October."""
    year = time.gmtime(utc_hours * 3600).tm_year
    return _last_sunday_utc_h(year, 3) <= utc_hours < _last_sunday_utc_h(year, 10)


def _last_sunday_utc_h(year: int, month: int) -> int:
    last_utc_s = calendar.timegm((year, month, 31, 1, 0, 0))
    return last_utc_s // 3600 - (time.gmtime(last_utc_s).tm_wday + 1) % 7 * 24


@lru_cache(maxsize=512)
def date(days: int) -> bytes:
    """The first five bytes of a date-time, by days since 1970."""
    local = time.gmtime(days * 86400)
    return struct.pack(">HBBB", local.tm_year, local.tm_mon, local.tm_mday, (local.tm_wday % 7) + 1)
