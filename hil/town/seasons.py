"""Which day of 2016 a calendar day borrows its weather and its customers' habits from.

The load shapes hold the year 2016. A day takes the source day of the same
weekday nearest in the year, in local town time, so that a Sunday in November
looks like a Sunday in November and the quarter hours follow the clocks people
live by, summer time included.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

QUARTERS_A_DAY = 96
QUARTER_S = 900
SOURCE_DAYS = 366
SOURCE_FIRST_DAY = dt.date(2016, 1, 1)
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


def source_day(day: dt.date) -> int:
    """Position in 2016 (0..365) of the day that stands for `day`; exact for 2016 itself."""
    alike = dt.date(2016, day.month, day.day)
    position = (alike - SOURCE_FIRST_DAY).days
    ahead = (day.weekday() - alike.weekday() + 3) % 7 - 3
    return within_source(position + ahead)


def within_source(position: int) -> int:
    """The position itself, or the same weekday some weeks inside when it lies outside the year."""
    while position < 0:
        position += 7
    while position >= SOURCE_DAYS:
        position -= 7
    return position


def utc_day(at_utc_s: float) -> int:
    """Days since 1970-01-01 of the UTC day that holds the instant."""
    return int(at_utc_s // 86_400)


def date_of(day: int) -> dt.date:
    """The calendar date of a day counted since 1970-01-01."""
    return dt.date.fromordinal(_EPOCH_DAY + day)


def local_quarters(day: int, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Local day and quarter 0..95 by the wall clock, for each quarter of a UTC day."""
    quarters = []
    for hour in range(24):
        at = dt.datetime.fromtimestamp(day * 86_400 + hour * 3600, dt.UTC).astimezone(zone)
        local_day = at.date().toordinal() - _EPOCH_DAY
        for quarter in range(4):
            quarters.append((local_day, at.hour * 4 + at.minute // 15 + quarter))
    return quarters
