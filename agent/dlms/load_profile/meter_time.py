"""Date-times of DLMS meters (12 bytes) to UTC seconds and back.

A date-time is local time with the deviation of UTC from it: UTC = local +
deviation, -60 for UTC+01:00. Two things differ between meters and are settings:
what holds when the deviation is not specified, and the deviation's sign. A
meter that shows local time without a deviation says in the clock status
whether that is summer time.
"""

from __future__ import annotations

import struct
import time
from datetime import date
from typing import Final

from agent.dlms.errors import AnswerMalformed

_FIELDS: Final = struct.Struct(">4sxBBBxhB")
_UNSPECIFIED_DEVIATION: Final = -0x8000
_NO_STATUS: Final = 0xFF
_DAYS_REMEMBERED: Final = 64
_SUMMER_MIN: Final = 60
_FARTHEST_MIN: Final = 840
"""No zone is farther from UTC (IEC 62056-6-2, 4.1.6.1)."""
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()

INVALID: Final = 0x01
DOUBTFUL: Final = 0x02
DIFFERENT_BASE: Final = 0x04
INVALID_STATUS: Final = 0x08
DAYLIGHT_SAVING: Final = 0x80


class MeterTime:
    """Converts the date-times of one meter class; remembers the days that it has seen."""

    def __init__(self, utc_offset_min: int, *, inverted_deviation: bool = False) -> None:
        self._utc_offset_min = utc_offset_min
        self._sign = -1 if inverted_deviation else 1
        self._days: dict[bytes, int] = {}

    def utc_s(self, octets: bytes) -> int:
        """Seconds since 1970 UTC; raises AnswerMalformed without a whole date and time."""
        if len(octets) != 12:
            raise AnswerMalformed(f"expected a date-time of 12 bytes, came {octets.hex()}")
        day, hour, minute, second, deviation, status = _FIELDS.unpack(octets)
        day_s = self._days.get(day)
        if day_s is None:
            if len(self._days) >= _DAYS_REMEMBERED:
                self._days.clear()
            day_s = self._days[day] = _day_s(day)
        if second == 0xFF:
            second = 0
        if hour > 24 or minute > 59 or second > 60:
            raise AnswerMalformed(f"expected a time of day, came the date-time {octets.hex()}")
        if deviation == _UNSPECIFIED_DEVIATION:
            deviation = -self._utc_offset_min
            if status & DAYLIGHT_SAVING and status != _NO_STATUS:
                deviation -= _SUMMER_MIN
        else:
            if abs(deviation) > _FARTHEST_MIN:
                raise AnswerMalformed(
                    f"expected a deviation of up to {_FARTHEST_MIN} min, came {octets.hex()}"
                )
            deviation *= self._sign
        seconds: int = day_s + hour * 3600 + minute * 60 + second + deviation * 60
        return seconds

    def utc_ms(self, octets: bytes) -> int:
        """As `utc_s`, in ms, with the hundredths where the meter has them."""
        seconds = self.utc_s(octets)
        hundredths = octets[8]
        return seconds * 1000 + (hundredths * 10 if hundredths < 100 else 0)

    def like(self, octets: bytes, utc_s: int) -> bytes:
        """The date-time of an instant in the form of another: same deviation and summer time."""
        raw = int.from_bytes(octets[9:11], "big", signed=True)
        status = octets[11]
        if raw != _UNSPECIFIED_DEVIATION:
            local_s = utc_s - raw * self._sign * 60
        else:
            summer = status & DAYLIGHT_SAVING and status != _NO_STATUS
            local_s = utc_s + (self._utc_offset_min + (_SUMMER_MIN if summer else 0)) * 60
        kept = status if status == _NO_STATUS else status & DAYLIGHT_SAVING
        return _encoded(local_s, raw, kept)

    def octets(self, utc_s: int) -> bytes:
        """The date-time of an instant in the meter's standard time; day of week not specified."""
        local_s = utc_s + self._utc_offset_min * 60
        return _encoded(local_s, -self._utc_offset_min * self._sign, 0)


def untrusted(octets: bytes) -> bool:
    """Whether the clock status says invalid, doubtful or another time base."""
    status = octets[11]
    if status == _NO_STATUS or status & INVALID_STATUS:
        return False
    return bool(status & (INVALID | DOUBTFUL | DIFFERENT_BASE))


def _day_s(octets: bytes) -> int:
    year, month, day = struct.unpack(">HBB", octets)
    try:
        return (date(year, month, day).toordinal() - _EPOCH_ORDINAL) * 86400
    except ValueError as error:
        raise AnswerMalformed(f"expected a whole date, came {octets.hex()} ({error})") from error


def _encoded(local_s: int, deviation: int, status: int) -> bytes:
    local = time.gmtime(local_s)
    return struct.pack(
        ">HBBBBBBBhB",
        local.tm_year,
        local.tm_mon,
        local.tm_mday,
        0xFF,
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        0,
        deviation,
        status,
    )
