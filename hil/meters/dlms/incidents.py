"""What has happened to the meters of a town: a cover opened here, a sag there, in their logs.

Drawn from serial number and day alone, so that a host that starts again finds
the same entries. Power and clocks stay as they are: rows of the load profile
are those of the town.
"""

from __future__ import annotations

import zlib
from typing import Final

from hil.meters.dlms.event_log import (
    METER_COVER_CLOSED,
    METER_COVER_REMOVED,
    STRONG_DC_FIELD,
    TERMINAL_COVER_CLOSED,
    TERMINAL_COVER_REMOVED,
    VOLTAGE_NORMAL_L1,
    VOLTAGE_SAG_L1,
    VOLTAGE_SWELL_L1,
)
from hil.meters.dlms.meter import DlmsMeter

_DAY_S: Final = 86_400
_DAYS: Final = 60
_ONE_IN: Final = 8
"""Meter days that have an incident."""
_LONGEST_S: Final = 240
_INCIDENTS: Final = (
    ((VOLTAGE_SAG_L1, 0), (VOLTAGE_NORMAL_L1, 12)),
    ((VOLTAGE_SAG_L1, 0), (VOLTAGE_NORMAL_L1, 95)),
    ((VOLTAGE_SWELL_L1, 0), (VOLTAGE_NORMAL_L1, 31)),
    ((TERMINAL_COVER_REMOVED, 0), (TERMINAL_COVER_CLOSED, _LONGEST_S)),
    ((METER_COVER_REMOVED, 0), (METER_COVER_CLOSED, 180)),
    ((STRONG_DC_FIELD, 0),),
)
"""Entries, and how many seconds after the first each of them came."""


def write_incidents(meter: DlmsMeter, until_utc_s: float) -> None:
    """Fills the logs of a meter with the incidents of the whole days before an instant."""
    today = int(until_utc_s) // _DAY_S
    for day in range(today - _DAYS, today):
        drawn = zlib.crc32(f"{meter.shown.serial} {day}".encode())
        if drawn % _ONE_IN:
            continue
        begin_utc_s = day * _DAY_S + drawn // _ONE_IN % (_DAY_S - _LONGEST_S)
        for event, after_s in _INCIDENTS[drawn // 1000 % len(_INCIDENTS)]:
            meter.log_event(*event, begin_utc_s + after_s)
