"""Every day borrows a fitting day of 2016, and wall clocks are followed through clock changes."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from hil.town.seasons import (
    SOURCE_FIRST_DAY,
    date_of,
    local_quarters,
    source_day,
    utc_day,
    within_source,
)

BERLIN = ZoneInfo("Europe/Berlin")


@given(st.dates(dt.date(2020, 1, 1), dt.date(2060, 12, 31)))
def test_the_source_day_has_the_weekday_and_the_season(day: dt.date) -> None:
    borrowed = SOURCE_FIRST_DAY + dt.timedelta(days=source_day(day))
    assert borrowed.year == 2016
    assert borrowed.weekday() == day.weekday()
    apart = abs((borrowed - dt.date(2016, day.month, day.day)).days)
    assert apart <= 3 or (apart <= 6 and day.month in (1, 12))


@given(st.integers(0, 365))
def test_a_day_of_2016_stands_for_itself(position: int) -> None:
    assert source_day(SOURCE_FIRST_DAY + dt.timedelta(days=position)) == position


@given(st.integers(-100, 500))
def test_weeks_beyond_the_year_stay_on_their_weekday(position: int) -> None:
    assert 0 <= within_source(position) <= 365
    assert (within_source(position) - position) % 7 == 0


def test_the_day_of_the_spring_change_skips_an_hour_of_the_wall_clock() -> None:
    day = utc_day(dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC).timestamp())
    local = [q for d, q in local_quarters(day, BERLIN) if date_of(d) == dt.date(2026, 3, 29)]
    assert 8 not in local
    assert 12 in local


def test_the_day_of_the_autumn_change_has_an_hour_twice() -> None:
    day = utc_day(dt.datetime(2026, 10, 25, 12, tzinfo=dt.UTC).timestamp())
    local = [q for d, q in local_quarters(day, BERLIN) if date_of(d) == dt.date(2026, 10, 25)]
    assert local.count(8) == 2
