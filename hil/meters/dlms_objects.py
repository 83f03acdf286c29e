"""What a simulated DLMS meter holds: its objects, and its load profile encoded row by row.

Objects and columns after IDIS package 2 (names: IEC 62056-6-1). The meter
keeps standard time all year: deviation fixed, no daylight saving.
"""

from __future__ import annotations

import calendar
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from agent.dlms import axdr
from agent.dlms.constants import Tag, obis
from hil.meters.password import LLS_PASSWORD
from hil.meters.shown import Recorded, Registers, Shown

PERIOD_S = 900
CLOCK = obis("0.0.1.0.0.255")
SERIAL = obis("0.0.96.1.0.255")
DEVICE_NAME = obis("0.0.42.0.0.255")
STATUS = obis("0.0.96.10.1.255")
LOAD_PROFILE = obis("1.0.99.1.0.255")
_IMPORT = obis("1.0.1.8.0.255")
_EXPORT = obis("1.0.2.8.0.255")
_REACTIVE = obis("1.0.3.8.0.255")
_VOLTAGE = obis("1.0.32.7.0.255")
_CURRENT = obis("1.0.31.7.0.255")
_POWER_IN = obis("1.0.1.7.0.255")
_POWER_OUT = obis("1.0.2.7.0.255")
_MEAN_VOLTAGE = obis("1.0.32.24.0.255")
_MEAN_CURRENT = obis("1.0.31.24.0.255")
_W, _WH, _VARH, _A, _V = 27, 30, 32, 33, 35

SUCCESS, DENIED, UNDEFINED, OTHER_REASON = 0, 3, 4, 250


@dataclass(frozen=True, slots=True)
class Model:
    """What differs between the models on the bench: the name, and how wide energies are."""

    device_name: str
    energy_tag: int


MODELS = {
    "idis_residential": Model("LSC1000000000001", Tag.U32),
    "transformer_check": Model("LSC2000000000001", Tag.U64),
}

_SIZES = {Tag.U16: "H", Tag.U32: "I", Tag.U64: "Q"}
_BITS = {Tag.U16: 16, Tag.U32: 32, Tag.U64: 64}


@dataclass(slots=True)
class DlmsMeter:
    """One meter of the bench: a face (`Shown`), a model and its habits."""

    shown: Shown
    model: str = "idis_residential"
    password: bytes | None = LLS_PASSWORD
    """LLS password; None = the meter asks for none."""
    utc_offset_min: int = 60
    keep_days: int = 35
    status_of: Callable[[int], int] | None = None
    """Status byte of the row that ends at this instant; None = always 0."""
    null_clocks: bool = False
    """Whether a row that follows its predecessor by one period has a null clock."""
    lists: bool = True
    """Whether GET with list is offered."""
    max_pdu: int = 0xFFFF
    """Longest APDU that the meter sends, bytes."""
    longest_info: int = 2030
    window: int = 7
    """Frames that the meter sends in a row at most."""
    client_window: int = 1
    """Frames that the meter takes in a row at most, 1-7."""
    deaf_to_others: bool = False
    """Whether it answers no other client while one is connected."""
    ahead_s: float = 0.0
    """How far the clock object is ahead of true time, seconds; rows are stamped by true time."""
    settable: bool = False
    """Whether SET of the clock's time is offered; it changes `ahead_s`."""

    def set_clock(self, local: bytes, at_utc_s: float) -> bool:
        """Takes a 12-byte date-time at a true instant; False if it is none."""
        try:
            self.ahead_s = instant(local, self.utc_offset_min) - at_utc_s
        except (ValueError, TypeError, struct.error):
            return False
        return True


class Objects:
    """Attributes of one meter at one instant, encoded."""

    def __init__(self, meter: DlmsMeter, at_utc_s: float) -> None:
        self._meter = meter
        self._model = MODELS[meter.model]
        self._at_utc_s = at_utc_s
        self._registers: Registers | None = None

    @property
    def registers_read(self) -> Registers | None:
        """The registers, if any of them was asked for."""
        return self._registers

    def read(self, class_id: int, name: bytes, index: int, selection: bytes) -> tuple[int, bytes]:
        """(data-access result, encoded value) of one attribute."""
        if class_id == 7 and name == LOAD_PROFILE:
            return self._load_profile(index, selection)
        if selection:
            return OTHER_REASON, b""
        if index == 1:
            return SUCCESS, axdr.octets(name)
        value = self._value(class_id, name, index)
        return (UNDEFINED, b"") if value is None else (SUCCESS, value)

    def _value(self, class_id: int, name: bytes, index: int) -> bytes | None:
        if class_id == 3 and index == 3:
            scaler_unit = _SCALER_UNIT.get(name)
            if scaler_unit is None:
                return None
            return axdr.structure(
                axdr.number(Tag.I8, scaler_unit[0]), axdr.number(Tag.ENUM, scaler_unit[1])
            )
        if class_id == 3 and index == 2:
            return self._register(name)
        if class_id == 1 and index == 2:
            if name == SERIAL:
                return axdr.octets(self._meter.shown.serial.encode("ascii"))
            if name == DEVICE_NAME:
                return axdr.octets(self._model.device_name.encode("ascii"))
            if name == STATUS:
                return axdr.number(Tag.U8, 0)
        if class_id == 8 and name == CLOCK:
            if index == 2:
                return axdr.octets(
                    date_time(int(self._at_utc_s + self._meter.ahead_s), self._meter.utc_offset_min)
                )
            if index == 3:
                return axdr.number(Tag.I16, -self._meter.utc_offset_min)
            if index == 4:
                return axdr.number(Tag.U8, 0)
        return None

    def _register(self, name: bytes) -> bytes | None:
        energies = {_IMPORT: "import_wh", _EXPORT: "export_wh", _REACTIVE: "import_varh"}
        if name in energies:
            if self._registers is None:
                self._registers = self._meter.shown.registers(self._at_utc_s)
            return _wrapped(self._model.energy_tag, getattr(self._registers, energies[name]))
        gauges = self._meter.shown.gauges(self._at_utc_s)
        if name == _VOLTAGE:
            return _wrapped(Tag.U16, round(gauges.voltage_v * 10))
        if name == _CURRENT:
            return _wrapped(Tag.U32, round(abs(gauges.current_a) * 100))
        if name == _POWER_IN:
            return _wrapped(Tag.U32, max(0, round(gauges.power_w)))
        if name == _POWER_OUT:
            return _wrapped(Tag.U32, max(0, -round(gauges.power_w)))
        return None

    def _load_profile(self, index: int, selection: bytes) -> tuple[int, bytes]:
        if index == 2:
            rows = self._selected(selection)
            if rows is None:
                return OTHER_REASON, b""
            return SUCCESS, encode_rows(rows, self._meter)
        plain = {
            1: axdr.octets(LOAD_PROFILE),
            3: _capture_objects(),
            4: axdr.number(Tag.U32, PERIOD_S),
            8: axdr.number(Tag.U32, self._meter.keep_days * 86400 // PERIOD_S),
        }
        if index == 7:
            return SUCCESS, axdr.number(Tag.U32, len(self._recorded(0, int(self._at_utc_s))))
        if index in plain and not selection:
            return SUCCESS, plain[index]
        return UNDEFINED, b""

    def _recorded(self, first_utc_s: int, last_utc_s: int) -> Sequence[Recorded]:
        """Rows that the meter still keeps and has already written."""
        now = int(self._at_utc_s)
        oldest = now - now % PERIOD_S - (self._meter.keep_days * 86400 - PERIOD_S)
        first, last = max(first_utc_s, oldest), min(last_utc_s, now)
        return self._meter.shown.recorded(first, last) if first <= last else []

    def _selected(self, selection: bytes) -> Sequence[Recorded] | None:
        """Rows by range (1) or by entry (2), all without selection; None if it is malformed."""
        if not selection:
            return self._recorded(0, int(self._at_utc_s))
        try:
            first, last, columns = self._bounds(selection)
        except (axdr.AxdrError, ValueError, TypeError, struct.error):
            return None
        if columns:
            return None
        if selection[0] == 1:
            return self._recorded(first, last)
        rows = self._recorded(0, int(self._at_utc_s))
        return rows[max(0, first - 1) : last or None]

    def _bounds(self, selection: bytes) -> tuple[int, int, bool]:
        value, _ = axdr.decode(selection, 1)
        if selection[0] == 1:
            _clock, first, last, columns = value
            offset_min = self._meter.utc_offset_min
            return instant(first, offset_min), instant(last, offset_min), bool(columns)
        first, last, first_column, last_column = value
        return first, last, (first_column, last_column) != (1, 0)


def date_time(utc_s: int, utc_offset_min: int) -> bytes:
    """The meter's 12-byte date-time: local standard time, deviation to UTC, status all well."""
    days, second = divmod(utc_s + utc_offset_min * 60, 86400)
    tail = struct.pack(">BhB", 0, -utc_offset_min, 0)
    return _date(days) + bytes([second // 3600, second // 60 % 60, second % 60]) + tail


def instant(octets: bytes, utc_offset_min: int) -> int:
    """UTC of a date-time that a client sent; raises ValueError, TypeError or struct.error."""
    year, month, day, _, hour, minute, second, _, deviation, _ = struct.unpack(
        ">HBBBBBBBhB", octets
    )
    if deviation == -0x8000:
        deviation = -utc_offset_min
    second = 0 if second == 0xFF else second
    utc_s: int = calendar.timegm((year, month, day, hour, minute, second)) + deviation * 60
    return utc_s


@lru_cache(maxsize=512)
def _date(days: int) -> bytes:
    local = time.gmtime(days * 86400)
    return struct.pack(">HBBB", local.tm_year, local.tm_mon, local.tm_mday, (local.tm_wday % 7) + 1)


def encode_rows(rows: Sequence[Recorded], meter: DlmsMeter) -> bytes:
    """The profile's buffer: an array of structures in the order of `_COLUMNS`."""
    model = MODELS[meter.model]
    energy = model.energy_tag
    high = 1 << _BITS[energy]
    values = struct.Struct(">BB" + f"B{_SIZES[energy]}" * 3 + "BHBI").pack
    tail = struct.pack(">BBhB", 0, 0, -meter.utc_offset_min, 0)
    offset_s = meter.utc_offset_min * 60
    status_of = meter.status_of
    parts = [bytes([Tag.ARRAY]) + axdr.length(len(rows))]
    expected = -1
    for row in rows:
        if meter.null_clocks and row.end_utc_s == expected:
            parts.append(b"\x02\x07\x00")
        else:
            days, second = divmod(row.end_utc_s + offset_s, 86400)
            at = bytes((second // 3600, second // 60 % 60))
            parts.append(b"\x02\x07\x09\x0c" + _date(days) + at + tail)
        expected = row.end_utc_s + PERIOD_S
        parts.append(
            values(
                Tag.U8,
                status_of(row.end_utc_s) if status_of else 0,
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


def _wrapped(tag: int, value: int) -> bytes:
    """A counter that begins again at zero beyond its highest value, as the real ones do."""
    return axdr.number(tag, value % (1 << _BITS[tag]))


_SCALER_UNIT = {
    _IMPORT: (0, _WH),
    _EXPORT: (0, _WH),
    _REACTIVE: (0, _VARH),
    _VOLTAGE: (-1, _V),
    _MEAN_VOLTAGE: (-1, _V),
    _CURRENT: (-2, _A),
    _MEAN_CURRENT: (-2, _A),
    _POWER_IN: (0, _W),
    _POWER_OUT: (0, _W),
}

_COLUMNS = (
    (8, CLOCK),
    (1, STATUS),
    (3, _IMPORT),
    (3, _EXPORT),
    (3, _REACTIVE),
    (3, _MEAN_VOLTAGE),
    (3, _MEAN_CURRENT),
)


@lru_cache(maxsize=1)
def _capture_objects() -> bytes:
    return axdr.array(
        axdr.structure(
            axdr.number(Tag.U16, class_id),
            axdr.octets(name),
            axdr.number(Tag.I8, 2),
            axdr.number(Tag.U16, 0),
        )
        for class_id, name in _COLUMNS
    )
