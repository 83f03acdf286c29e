"""Rows of a simulated load profile, encoded as the meter's model and its quirks have them.

Columns after IDIS package 2; a CT meter captures two quadrants as well.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.clock import Zone, date
from hil.meters.dlms.meter import MODELS, PERIOD_S, DlmsMeter
from hil.meters.dlms.names import (
    CLOCK,
    EXPORT,
    IMPORT,
    MEAN_CURRENT,
    MEAN_VOLTAGE,
    QUADRANTS,
    REACTIVE,
    STATUS,
)
from hil.meters.dlms.selection import Captured
from hil.meters.shown import Recorded

_COLUMNS: Final = (
    (8, CLOCK),
    (1, STATUS),
    (3, IMPORT),
    (3, EXPORT),
    (3, REACTIVE),
    (3, MEAN_VOLTAGE),
    (3, MEAN_CURRENT),
)
_FURTHER: Final[dict[str, Captured]] = {"ct_meter": tuple((3, name) for name in QUADRANTS)}
_NO_ROW: Final = Recorded(0, 0, 0, 0, 0, 0)
"""Says of which types the cells are."""
_SIZES: Final = {Tag.U32: "I", Tag.U64: "Q"}
_BITS: Final = {Tag.U16: 16, Tag.U32: 32, Tag.U64: 64}
_CELL_QUIRKS: Final = frozenset(
    (
        "clock last",
        "null clocks",
        "null values",
        "compact array",
        "status of two bytes",
        "status of four bytes",
        "status as bits",
        "inverted deviation",
        "no deviation",
    )
)


def columns_of(meter: DlmsMeter) -> Captured:
    """Class and name of each captured object, in their order."""
    columns = (*_COLUMNS, *_FURTHER.get(meter.model, ()))
    return columns[1:] + columns[:1] if "clock last" in meter.quirks else columns


def wrapped(tag: int, value: int) -> int:
    """What a counter shows that begins again at zero beyond its highest value."""
    return value % (1 << _BITS[tag])


def quadrants(varh: int) -> tuple[int, int]:
    """How imported reactive energy is shared between the first two quadrants."""
    return varh - varh // 4, varh // 4


def encode(
    rows: Sequence[Recorded], statuses: Sequence[int], meter: DlmsMeter, columns: Captured
) -> bytes:
    """The rows in the order given; `columns` as a client chose them."""
    plain = columns == _COLUMNS and not meter.quirks & _CELL_QUIRKS
    if plain and not meter.daylight_saving:
        return _encode_plain(rows, statuses, meter)
    names = [name for _, name in columns]
    cells = [
        [_CELLS[name](row, status, meter) for name in names]
        for row, status in zip(rows, statuses, strict=True)
    ]
    if "compact array" in meter.quirks:
        shape = bytes(_CELLS[name](_NO_ROW, 0, meter)[0] for name in names)
        contents = (b"".join(cell[1:] for cell in row) for row in cells)
        return axdr.compact_array(b"\x02" + axdr.length(len(names)) + shape, contents)
    shown = [list(row) for row in cells]
    for place, (before, row) in enumerate(pairwise(rows), 1):
        for at, name in enumerate(names):
            if name == CLOCK:
                null = "null clocks" in meter.quirks and _follows(row, before, meter)
            else:
                same = cells[place][at] == cells[place - 1][at]
                null = "null values" in meter.quirks and same and name != STATUS
            if null:
                shown[place][at] = axdr.NULL
    return axdr.array(axdr.structure(*row) for row in shown)


def _follows(row: Recorded, before: Recorded, meter: DlmsMeter) -> bool:
    step_s = -PERIOD_S if "newest first" in meter.quirks else PERIOD_S
    return row.end_utc_s == before.end_utc_s + step_s


def _encode_plain(rows: Sequence[Recorded], statuses: Sequence[int], meter: DlmsMeter) -> bytes:
    """Without any quirk, as quickly as it goes: a town has thousands of meters."""
    energy = MODELS[meter.model].energy_tag
    high = 1 << _BITS[energy]
    values = struct.Struct(">BB" + f"B{_SIZES[energy]}" * 3 + "BHBI").pack
    tail = struct.pack(">BhB", 0, Zone(meter.utc_offset_min).deviation(0), 0)
    offset_s = meter.utc_offset_min * 60
    parts = [bytes([Tag.ARRAY]) + axdr.length(len(rows))]
    for row, status in zip(rows, statuses, strict=True):
        days, second = divmod(row.end_utc_s + offset_s, 86400)
        at = bytes((second // 3600, second // 60 % 60, second % 60))
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


_Cell = Callable[[Recorded, int, DlmsMeter], bytes]


def _energy(of: Callable[[Recorded], int]) -> _Cell:
    def cell(row: Recorded, _status: int, meter: DlmsMeter) -> bytes:
        tag = MODELS[meter.model].energy_tag
        return axdr.number(tag, wrapped(tag, of(row)))

    return cell


def _status(_row: Recorded, status: int, meter: DlmsMeter) -> bytes:
    if "status as bits" in meter.quirks:
        return axdr.bits(f"{status:08b}"[::-1])
    if "status of four bytes" in meter.quirks:
        return axdr.number(Tag.U32, status)
    return axdr.number(Tag.U16 if "status of two bytes" in meter.quirks else Tag.U8, status)


_CELLS: Final[dict[bytes, _Cell]] = {
    CLOCK: lambda row, _, meter: axdr.octets(meter.zone.date_time(row.end_utc_s)),
    STATUS: _status,
    IMPORT: _energy(lambda row: row.import_wh),
    EXPORT: _energy(lambda row: row.export_wh),
    REACTIVE: _energy(lambda row: row.import_varh),
    QUADRANTS[0]: _energy(lambda row: quadrants(row.import_varh)[0]),
    QUADRANTS[1]: _energy(lambda row: quadrants(row.import_varh)[1]),
    MEAN_VOLTAGE: lambda row, *_: axdr.number(Tag.U16, row.voltage_dv & 0xFFFF),
    MEAN_CURRENT: lambda row, *_: axdr.number(Tag.U32, row.current_ca & 0xFFFFFFFF),
}
