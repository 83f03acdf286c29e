"""A simulated meter's load profile: rows stamped by the meter's clock, encoded as its model has it.

Columns after IDIS package 2. A meter whose clock was always right shows the
rows of its face; any other writes one whenever its clock strikes a quarter.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.clock import date
from hil.meters.dlms.meter import MODELS, PERIOD_S, DlmsMeter
from hil.meters.dlms.names import (
    CLOCK,
    EXPORT,
    IMPORT,
    LOAD_PROFILE,
    MEAN_CURRENT,
    MEAN_VOLTAGE,
    REACTIVE,
    STATUS,
)
from hil.meters.dlms.results import OTHER_REASON, SUCCESS, UNDEFINED
from hil.meters.dlms.selection import Entries, Malformed, Range, capture_objects, parse
from hil.meters.shown import Recorded

COLUMNS: Final = (
    (8, CLOCK),
    (1, STATUS),
    (3, IMPORT),
    (3, EXPORT),
    (3, REACTIVE),
    (3, MEAN_VOLTAGE),
    (3, MEAN_CURRENT),
)
_ALL: Final = tuple(range(len(COLUMNS)))
_ADJUSTED_S: Final = 9.0
"""A clock set by more marks the row in which that was."""
_POWER_DOWN_BIT, _ADJUSTED_BIT = 0x80, 0x20
_SIZES: Final = {Tag.U16: "H", Tag.U32: "I", Tag.U64: "Q"}
_BITS: Final = {Tag.U16: 16, Tag.U32: 32, Tag.U64: 64}
_CELL_QUIRKS: Final = frozenset(
    (
        "null clocks",
        "null values",
        "compact array",
        "deltas",
        "status of two bytes",
        "status as bits",
        "inverted deviation",
        "no deviation",
    )
)


def wrapped(tag: int, value: int) -> int:
    """What a counter shows that begins again at zero beyond its highest value."""
    return value % (1 << _BITS[tag])


class LoadProfile:
    """The profile of one meter at one true instant."""

    def __init__(self, meter: DlmsMeter, at_utc_s: float) -> None:
        self._meter = meter
        self._at_utc_s = at_utc_s

    def attribute(self, index: int, selection: bytes) -> tuple[int, bytes]:
        """(data-access result, encoded value)."""
        if index == 2:
            found = self._selected(selection)
            if found is None:
                return OTHER_REASON, b""
            return SUCCESS, self._encoded(*found)
        plain = {
            1: axdr.octets(LOAD_PROFILE),
            3: capture_objects(COLUMNS),
            4: axdr.number(Tag.U32, PERIOD_S),
            8: axdr.number(Tag.U32, self._meter.keep_days * 86400 // PERIOD_S),
        }
        if index == 7:
            return SUCCESS, axdr.number(Tag.U32, len(self.rows()))
        if index in plain and not selection:
            return SUCCESS, plain[index]
        return UNDEFINED, b""

    def rows(self, first_s: int = 0, last_s: int | None = None) -> list[Recorded]:
        """Rows with stamps in [first, last] that the meter still keeps, in the order written."""
        meter, clock = self._meter, self._meter.clock
        now_s = math.floor(clock.shown_s(self._at_utc_s))
        oldest_s = now_s - now_s % PERIOD_S - (meter.keep_days * 86400 - PERIOD_S)
        first_s = max(first_s, oldest_s)
        if clock.is_right and not meter.outages:
            last_s = now_s if last_s is None else min(last_s, now_s)
            return list(meter.shown.recorded(first_s, last_s)) if first_s <= last_s else []
        # Beyond what it shows now: a clock that was set back has struck later quarters.
        last_s = now_s + 7 * 86400 if last_s is None else last_s
        strikes = clock.strikes(first_s, last_s, PERIOD_S, self._at_utc_s)
        return [self._row(stamp, at) for stamp, at in strikes if not self._without_power(at)]

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

    def _selected(self, selection: bytes) -> tuple[list[Recorded], tuple[int, ...]] | None:
        """Rows and columns; None if the selection is malformed or not offered."""
        quirks = self._meter.quirks
        if not selection:
            return self._ordered(self.rows()), _ALL
        try:
            wanted = parse(selection, self._meter.zone, COLUMNS)
        except Malformed:
            return None
        if isinstance(wanted, Entries):
            if "entry refused" in quirks:
                return None
            rows = self._ordered(self.rows())
            return rows[max(0, wanted.first - 1) : wanted.last or None], wanted.columns
        if "range refused" in quirks:
            return None
        return self._ordered(self._in_range(wanted)), wanted.columns

    def _in_range(self, wanted: Range) -> list[Recorded]:
        quirks, first_s, last_s = self._meter.quirks, wanted.first_s, wanted.last_s
        if "range empty" in quirks:
            return []
        if "range ignored" in quirks:
            return self.rows()
        if "whole hours" in quirks:
            first_s, last_s = first_s + -first_s % 3600, last_s - last_s % 3600
        return self.rows(first_s + ("start excluded" in quirks), last_s)

    def _ordered(self, rows: list[Recorded]) -> list[Recorded]:
        return rows[::-1] if "newest first" in self._meter.quirks else rows

    def _encoded(self, rows: Sequence[Recorded], columns: tuple[int, ...]) -> bytes:
        if columns == _ALL and not self._meter.quirks & _CELL_QUIRKS:
            return encode_rows(rows, self._meter, self._statuses(rows))
        return self._encoded_by_cell(rows, columns)

    def _statuses(self, rows: Sequence[Recorded]) -> list[int]:
        meter = self._meter
        if meter.status_of is not None:
            return [meter.status_of(row.end_utc_s) for row in rows]
        if not meter.outages and not meter.clock.set_at:
            return [0] * len(rows)
        return [self._status(row.end_utc_s) for row in rows]

    def _status(self, stamp_s: int) -> int:
        shown_s = self._meter.clock.shown_s
        status = 0
        for _, until_utc_s in self._meter.outages:
            # The row whose interval saw the power come back.
            if stamp_s - PERIOD_S <= shown_s(until_utc_s) < stamp_s:
                status |= _POWER_DOWN_BIT
        for at_utc_s, by_s in self._meter.clock.set_at:
            begun = stamp_s - PERIOD_S <= shown_s(at_utc_s) < stamp_s
            if begun and abs(by_s) > _ADJUSTED_S:
                status |= _ADJUSTED_BIT
        return status

    def _encoded_by_cell(self, rows: Sequence[Recorded], columns: tuple[int, ...]) -> bytes:
        quirks = self._meter.quirks
        table = [
            self._cells(row, status) for row, status in zip(rows, self._statuses(rows), strict=True)
        ]
        if "deltas" in quirks:
            self._make_deltas(rows, table)
        wanted = [[cells[column] for column in columns] for cells in table]
        if "compact array" in quirks:
            shape = b"\x02" + axdr.length(len(columns))
            shape += bytes(cell[0] for cell in wanted[0]) if wanted else b""
            return axdr.compact_array(
                shape, (b"".join(cell[1:] for cell in cells) for cells in wanted)
            )
        shown = [list(cells) for cells in wanted]
        for place, (before, row) in enumerate(pairwise(rows), 1):
            for at, column in enumerate(columns):
                follows = row.end_utc_s == before.end_utc_s + PERIOD_S
                null_clock = column == 0 and follows and "null clocks" in quirks
                same = column > 1 and wanted[place][at] == wanted[place - 1][at]
                if null_clock or (same and "null values" in quirks):
                    shown[place][at] = axdr.NULL
        return axdr.array(axdr.structure(*cells) for cells in shown)

    def _cells(self, row: Recorded, status: int) -> list[bytes]:
        energy = MODELS[self._meter.model].energy_tag
        return [
            axdr.octets(self._meter.zone.date_time(row.end_utc_s)),
            self._status_cell(status),
            axdr.number(energy, wrapped(energy, row.import_wh)),
            axdr.number(energy, wrapped(energy, row.export_wh)),
            axdr.number(energy, wrapped(energy, row.import_varh)),
            axdr.number(Tag.U16, row.voltage_dv & 0xFFFF),
            axdr.number(Tag.U32, row.current_ca & 0xFFFFFFFF),
        ]

    def _status_cell(self, status: int) -> bytes:
        if "status of two bytes" in self._meter.quirks:
            return axdr.number(Tag.U16, status)
        if "status as bits" in self._meter.quirks:
            return axdr.bits(f"{status:08b}")
        return axdr.number(Tag.U8, status)

    def _make_deltas(self, rows: Sequence[Recorded], table: list[list[bytes]]) -> None:
        """Energies since the row written before each; the first row ever has its counter."""
        written = self.rows()
        before = {row: earlier for earlier, row in pairwise(written)}
        energy = MODELS[self._meter.model].energy_tag
        for row, cells in zip(rows, table, strict=True):
            earlier = before.get(row)
            for column, name in ((2, "import_wh"), (3, "export_wh"), (4, "import_varh")):
                counted = getattr(row, name) - (getattr(earlier, name) if earlier else 0)
                cells[column] = axdr.number(energy, wrapped(energy, counted))


def encode_rows(rows: Sequence[Recorded], meter: DlmsMeter, statuses: Sequence[int]) -> bytes:
    """The buffer without any quirk, as quickly as it goes: a town has thousands of meters."""
    energy = MODELS[meter.model].energy_tag
    high = 1 << _BITS[energy]
    values = struct.Struct(">BB" + f"B{_SIZES[energy]}" * 3 + "BHBI").pack
    tail = struct.pack(">BBhB", 0, 0, meter.zone.deviation, 0)
    offset_s = meter.utc_offset_min * 60
    parts = [bytes([Tag.ARRAY]) + axdr.length(len(rows))]
    for row, status in zip(rows, statuses, strict=True):
        days, second = divmod(row.end_utc_s + offset_s, 86400)
        at = bytes((second // 3600, second // 60 % 60))
        parts.append(b"\x02\x07\x09\x0c" + date(days) + at + tail)
        parts.append(
            values(
                Tag.U8,
                status,
                energy,
                row.import_wh % high,
                energy,
                row.export_wh % high,
                energy,
                row.import_varh % high,
                Tag.U16,
                row.voltage_dv & 0xFFFF,
                Tag.U32,
                row.current_ca & 0xFFFFFFFF,
            )
        )
    return b"".join(parts)
