"""A simulated meter's load profile: rows stamped by the meter's clock, selected as a client asks.

A meter whose clock was always right shows the rows of its face; any other
writes one whenever its clock strikes a quarter and it has power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import itemgetter
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.meter import PERIOD_S, DlmsMeter
from hil.meters.dlms.names import LOAD_PROFILE
from hil.meters.dlms.profile_rows import columns_of, encode
from hil.meters.dlms.results import DENIED, OTHER_REASON, SUCCESS, UNDEFINED
from hil.meters.dlms.selection import (
    Captured,
    Malformed,
    Range,
    capture_objects,
    parse,
    sort_method,
)
from hil.meters.shown import Recorded

_CAPTURE: Final = 2
_ADJUSTED_S: Final = 9.0
"""A clock set by more marks the row in which that was."""
POWER_DOWN_BIT, ADJUSTED_BIT, SUMMER_BIT = 0x80, 0x20, 0x08
"""Of the status byte (IDIS; MetCom MCS301 manual)."""
_FARTHEST_AHEAD_S: Final = 7 * 86400
"""A clock that was set back has struck quarters so far beyond what it shows now."""


class LoadProfile:
    """The profile of one meter at one true instant."""

    def __init__(self, meter: DlmsMeter, at_utc_s: float) -> None:
        self._meter = meter
        self._at_utc_s = at_utc_s

    def attribute(self, index: int, selection: bytes) -> tuple[int, bytes]:
        """(data-access result, encoded value)."""
        columns = columns_of(self._meter)
        if index == 2:
            return self._buffer(selection, columns)
        plain = {
            1: axdr.octets(LOAD_PROFILE),
            3: capture_objects(columns),
            4: axdr.number(Tag.U32, PERIOD_S),
            5: sort_method(self._meter.quirks),
            8: axdr.number(Tag.U32, self._meter.keep_days * 86400 // PERIOD_S),
        }
        if index == 7:
            return SUCCESS, axdr.number(Tag.U32, len(self.rows()))
        if index in plain and not selection:
            return SUCCESS, plain[index]
        return UNDEFINED, b""

    def rows(self, first_s: int = 0, last_s: int | None = None) -> list[Recorded]:
        """Rows with stamps in [first, last] that the meter still keeps, in the order written.

        Energies are counters here, whatever the meter's columns hold.
        """
        meter, clock = self._meter, self._meter.clock
        now_s = math.floor(clock.shown_s(self._at_utc_s))
        oldest_s = now_s - now_s % PERIOD_S - (meter.keep_days * 86400 - PERIOD_S)
        first_s = max(first_s, oldest_s)
        if clock.is_right and not meter.outages and not meter.captured_at:
            last_s = now_s if last_s is None else min(last_s, now_s)
            return list(meter.shown.recorded(first_s, last_s)) if first_s <= last_s else []
        last_s = now_s + _FARTHEST_AHEAD_S if last_s is None else last_s
        written = list(clock.strikes(first_s, last_s, PERIOD_S, self._at_utc_s))
        for at_utc_s in meter.captured_at:
            stamp_s = math.floor(clock.shown_s(at_utc_s))
            if first_s <= stamp_s <= last_s:
                written.append((stamp_s, at_utc_s))
        written.sort(key=itemgetter(1))
        return [self._row(stamp, at) for stamp, at in written if not self._without_power(at)]

    def act(self, method: int) -> int:
        """The action result of a method: capture writes a row now."""
        if method != _CAPTURE:
            return DENIED
        self._meter.captured_at.append(self._at_utc_s)
        return SUCCESS

    def status(self, stamp_s: int) -> int:
        """Status byte of the row with this stamp; the interval is (stamp - period, stamp]."""
        meter, shown_s = self._meter, self._meter.clock.shown_s
        if meter.status_of is not None:
            return meter.status_of(stamp_s)
        begin_s = stamp_s - PERIOD_S
        status = SUMMER_BIT if meter.zone.summer(stamp_s) else 0
        if any(shown_s(on) < stamp_s and shown_s(off) > begin_s for on, off in meter.outages):
            status |= POWER_DOWN_BIT
        for at_utc_s, by_s in meter.clock.set_at:
            if begin_s <= shown_s(at_utc_s) < stamp_s and abs(by_s) > _ADJUSTED_S:
                status |= ADJUSTED_BIT
        return status

    def _statuses(self, rows: Sequence[Recorded]) -> list[int]:
        meter = self._meter
        if meter.status_of or meter.outages or meter.clock.set_at or meter.daylight_saving:
            return [self.status(row.end_utc_s) for row in rows]
        return [0] * len(rows)

    def _row(self, stamp_s: int, at_utc_s: float) -> Recorded:
        registers = self._meter.shown.registers(at_utc_s)
        gauges = self._meter.shown.gauges(at_utc_s)
        return Recorded(
            stamp_s,
            registers.import_wh,
            registers.export_wh,
            registers.import_varh,
            round(gauges.voltage_v * 10),
            round(abs(gauges.current_a) * 100),
        )

    def _without_power(self, at_utc_s: float) -> bool:
        return any(first <= at_utc_s < last for first, last in self._meter.outages)

    def _buffer(self, selection: bytes, columns: Captured) -> tuple[int, bytes]:
        try:
            wanted = parse(selection, self._meter.zone, columns, self._meter.quirks)
        except Malformed:
            return OTHER_REASON, b""
        if isinstance(wanted, Range):
            rows = self._ordered(self.rows(*wanted.bounds(self._meter.quirks)))
        else:
            rows = wanted.of(self._ordered(self.rows()))
        chosen = tuple(columns[place] for place in wanted.columns)
        statuses = self._statuses(rows)
        if "deltas" in self._meter.quirks:
            rows = self._deltas(rows)
        return SUCCESS, encode(rows, statuses, self._meter, chosen)

    def _ordered(self, rows: list[Recorded]) -> list[Recorded]:
        return rows[::-1] if "newest first" in self._meter.quirks else rows

    def _deltas(self, rows: Sequence[Recorded]) -> list[Recorded]:
        """Energies since the row written before each; the first row ever has its counter."""
        before = {row: earlier for earlier, row in pairwise(self.rows())}
        return [_less(row, before.get(row)) for row in rows]


def _less(row: Recorded, earlier: Recorded | None) -> Recorded:
    if earlier is None:
        return row
    return replace(
        row,
        import_wh=row.import_wh - earlier.import_wh,
        export_wh=row.export_wh - earlier.export_wh,
        import_varh=row.import_varh - earlier.import_varh,
    )
