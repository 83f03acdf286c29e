"""The attributes and methods of one simulated meter at one true instant, encoded."""

from __future__ import annotations

import math
import struct
from itertools import pairwise

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms import security_setup
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import MODELS, PERIOD_S, DlmsMeter
from hil.meters.dlms.names import (
    CLOCK,
    COUNTER,
    CURRENT_RATIO,
    CUSTOMER_TEXT,
    DEVICE_NAME,
    LOAD_PROFILE,
    LOGS,
    MAX_DEMAND,
    RELAY,
    SECURITY_SETUP,
    SERIAL,
    STATUS,
    VOLTAGE_RATIO,
    event_code,
)
from hil.meters.dlms.registers import REGISTERS, Seen
from hil.meters.dlms.results import DENIED, OTHER_REASON, SUCCESS, TYPE_UNMATCHED, UNDEFINED
from hil.meters.shown import Registers

_ADJUSTS_TO_S = {1: 900, 2: PERIOD_S, 3: 60}
"""Methods adjust_to_quarter, adjust_to_measuring_period and adjust_to_minute, and their grids."""
_SHIFT_TIME = 6
_LONGEST_SHIFT_S = 900


class Objects:
    """What the objects of `meter` say and do; the registers are looked at once."""

    def __init__(self, meter: DlmsMeter, at_utc_s: float) -> None:
        self._meter = meter
        self._model = MODELS[meter.model]
        self.at_utc_s = at_utc_s
        self._seen = Seen(meter, at_utc_s)
        self._logs = {name: meter.logs[log] for log, name in LOGS.items()}

    @property
    def registers_read(self) -> Registers | None:
        """The registers, if any of them was asked for."""
        return self._seen.counters

    def read(self, class_id: int, name: bytes, index: int, selection: bytes) -> tuple[int, bytes]:
        """(data-access result, encoded value) of one attribute."""
        if class_id == 7 and name == LOAD_PROFILE:
            return LoadProfile(self._meter, self.at_utc_s).attribute(index, selection)
        if class_id == 7 and name in self._logs:
            log, zone = self._logs[name], self._meter.zone
            return log.attribute(name, index, selection, zone, self._meter.quirks)
        if selection:
            return OTHER_REASON, b""
        if index == 1:
            return SUCCESS, axdr.octets(name)
        value = self._value(class_id, name, index)
        return (UNDEFINED, b"") if value is None else (SUCCESS, value)

    def write(self, class_id: int, name: bytes, index: int, value: bytes) -> int:
        """The data-access result of a SET."""
        if (class_id, name, index) == (1, CUSTOMER_TEXT, 2):
            text, _ = axdr.decode(value)
            if not isinstance(text, bytes):
                return TYPE_UNMATCHED
            self._meter.customer_text = text
            return SUCCESS
        if (class_id, name, index) != (8, CLOCK, 2):
            return DENIED
        octets, _ = axdr.decode(value)
        try:
            shown_s = self._meter.zone.instant(octets)
        except (ValueError, TypeError, struct.error):
            return TYPE_UNMATCHED
        self._meter.set_clock(shown_s, self.at_utc_s)
        return SUCCESS

    def act(self, class_id: int, name: bytes, method: int, parameters: bytes) -> tuple[int, bytes]:
        """(action result, encoded return value) of a method; raises AxdrError."""
        security = self._meter.security
        if not self._meter.settable:
            return DENIED, b""
        if (class_id, name) == (8, CLOCK):
            return self._adjust_clock(method, parameters), b""
        if (class_id, name) == (7, LOAD_PROFILE):
            return LoadProfile(self._meter, self.at_utc_s).act(method), b""
        if (class_id, name) == (64, SECURITY_SETUP) and security is not None:
            return security_setup.act(security, method, parameters)
        return UNDEFINED, b""

    def _adjust_clock(self, method: int, parameters: bytes) -> int:
        shown_s = self._meter.clock.shown_s(self.at_utc_s)
        value = axdr.decode(parameters)[0] if parameters else None
        if method == _SHIFT_TIME:
            if not isinstance(value, int) or abs(value) > _LONGEST_SHIFT_S:
                return TYPE_UNMATCHED
            self._meter.set_clock(shown_s + value, self.at_utc_s)
            return SUCCESS
        grid_s = _ADJUSTS_TO_S.get(method)
        if grid_s is None:
            return DENIED
        self._meter.set_clock(round(shown_s / grid_s) * grid_s, self.at_utc_s)
        return SUCCESS

    def _value(self, class_id: int, name: bytes, index: int) -> bytes | None:
        if class_id == 3:
            register = REGISTERS[self._meter.model].get(name)
            return None if register is None else register.attribute(index, self._seen)
        if class_id == 4 and name == MAX_DEMAND and self._model.ratios is not None:
            return self._max_demand(index)
        if class_id == 64 and name == SECURITY_SETUP and self._meter.security is not None:
            return security_setup.attribute(self._meter.security, index)
        if class_id == 70 and name == RELAY:
            return {2: axdr.number(Tag.BOOLEAN, True), 3: axdr.number(Tag.ENUM, 1)}.get(index)
        if class_id == 1 and index == 2:
            return self._data(name)
        if class_id == 8 and name == CLOCK:
            return self._clock(index)
        return None

    def _data(self, name: bytes) -> bytes | None:
        meter = self._meter
        texts = {
            SERIAL: lambda: meter.shown.serial.encode("ascii"),
            DEVICE_NAME: lambda: self._model.device_name.encode("ascii"),
            CUSTOMER_TEXT: lambda: meter.customer_text,
        }
        if name in texts:
            return axdr.octets(texts[name]())
        if name == STATUS:
            return axdr.number(Tag.U8, 0)
        if name == COUNTER and meter.security is not None:
            return axdr.number(Tag.U32, max(0, meter.security.heard))
        if self._model.ratios is not None and name in (CURRENT_RATIO, VOLTAGE_RATIO):
            return axdr.number(Tag.U16, self._model.ratios[name == VOLTAGE_RATIO])
        for log in self._logs:
            if name == event_code(log):
                entries = self._logs[log].entries
                return axdr.number(Tag.U8, entries[-1][1] if entries else 0)
        return None

    def _clock(self, index: int) -> bytes | None:
        zone = self._meter.zone
        if index == 2:
            return axdr.octets(zone.date_time(self._meter.clock.shown_s(self.at_utc_s)))
        if index == 3:
            return axdr.number(Tag.I16, -zone.utc_offset_min)
        if index == 4:
            return axdr.number(Tag.U8, zone.status(self._meter.clock.shown_s(self.at_utc_s)))
        return axdr.number(Tag.BOOLEAN, zone.daylight_saving) if index == 8 else None

    def _max_demand(self, index: int) -> bytes | None:
        """The highest mean power of a quarter since the profile's midnight, and when that ended."""
        profile = LoadProfile(self._meter, self.at_utc_s)
        now_s = math.floor(self._meter.clock.shown_s(self.at_utc_s))
        rows = profile.rows(now_s - (now_s + self._meter.utc_offset_min * 60) % 86400)
        demands = [
            ((row.import_wh - before.import_wh) * 3600 // PERIOD_S, row.end_utc_s)
            for before, row in pairwise(rows)
        ]
        power_w, at_s = max(demands, default=(0, now_s))
        if index == 5:
            return axdr.octets(self._meter.zone.date_time(at_s))
        return {
            2: axdr.number(Tag.U32, power_w),
            3: axdr.structure(axdr.number(Tag.I8, 0), axdr.number(Tag.ENUM, 27)),
            4: axdr.number(Tag.U8, 0),
        }.get(index)
