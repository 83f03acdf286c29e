"""A meter behind a `Carrier`, without link or ciphering: what its objects say is set by the test.

Written apart from the client and from the bench's server; it knows GET (one
attribute or a list), SET and ACTION, and the habits by which meters differ.
"""

from __future__ import annotations

import calendar
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.dlms import axdr
from agent.dlms.constants import obis
from agent.dlms.errors import AnswerTooLarge

PERIOD_S = 900
PROFILE = obis("1.0.99.1.0.255")
CLOCK = obis("0.0.1.0.0.255")
SERIAL = obis("0.0.96.1.0.255")
STATUS = (1, obis("0.0.96.10.1.255"))
IMPORT, EXPORT, REACTIVE = ((3, obis(f"1.0.{n}.8.0.255")) for n in (1, 2, 3))
VOLTAGE, CURRENT = (3, obis("1.0.32.24.0.255")), (3, obis("1.0.31.24.0.255"))
COLUMNS = ((8, CLOCK), STATUS, IMPORT, EXPORT, REACTIVE, VOLTAGE, CURRENT)
_CONFORMANCE = bytes.fromhex("00021d")
"""GET, SET, ACTION, selective access, lists."""
_REFUSED, _UNDEFINED = b"\x01\xfa", b"\x01\x04"


@dataclass(slots=True)
class Row:
    """One row as it was written: stamp, status (encoded or a number), the columns after them."""

    stamp_utc_s: int
    values: Sequence[int | None]
    status: bytes | int | None = 0


@dataclass(slots=True)
class PlainMeter:
    """Implements `agent.dlms.link.carrier.Carrier`; ask `carrier` for one that counts links."""

    clock: object
    rows: list[Row] = field(default_factory=list)
    habits: frozenset[str] = frozenset()
    serial: str = "P1"
    columns: Sequence[tuple[int, bytes]] = COLUMNS
    period_s: int = PERIOD_S
    ahead_s: float = 0.0
    deviation_min: int = -60
    summer: bool = False
    scalers: dict[bytes, tuple[int, int]] = field(
        default_factory=lambda: {
            IMPORT[1]: (0, 30),
            EXPORT[1]: (0, 30),
            REACTIVE[1]: (0, 32),
            VOLTAGE[1]: (-1, 35),
            CURRENT[1]: (-2, 33),
            obis("1.0.32.7.0.255"): (-1, 35),
            obis("1.0.31.7.0.255"): (-2, 33),
        }
    )
    registers: dict[bytes, int] = field(default_factory=dict)
    logs: dict[bytes, tuple[list[bytes], list[tuple[int, bytes]]]] = field(default_factory=dict)
    """Buffer name -> encoded capture objects, (stamp, encoded entry)."""
    counter: int | None = None
    asked: list[str] = field(default_factory=list)
    """What was read or done, such as `range`, `entry`, `columns`, `set`, `shift`."""
    links: int = 0
    longest_answer: int = 1 << 20
    most_entries: int = 1 << 20
    """Rows or entries; an answer with more of them is too large for the client."""

    def open(self) -> None:
        self.links += 1

    def close(self) -> None:
        pass

    def more(self, what: str) -> bytes:
        raise AssertionError("nothing follows")

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        kind = apdu[0]
        if kind == 0x60:
            body = bytes.fromhex("a109060760857405080101a203020100a305a103020100")
            initiate = bytes.fromhex("0800065f1f0400") + _CONFORMANCE + b"\x10\x00\x00\x07"
            body += b"\xbe" + bytes([len(initiate) + 2]) + b"\x04" + bytes([len(initiate)])
            return b"\x61" + bytes([len(body) + len(initiate)]) + body + initiate
        if kind == 0xC0 and apdu[1] == 1:
            value, _ = self._get(apdu, 3)
            return bytes([0xC4, 1, apdu[2]]) + value
        if kind == 0xC0 and apdu[1] == 3:
            answer, at = b"", 4
            for _ in range(apdu[3]):
                value, at = self._get(apdu, at)
                answer += value
            return bytes([0xC4, 3, apdu[2], apdu[3]]) + answer
        if kind == 0xC1 and apdu[1] == 1:
            return bytes([0xC5, 1, apdu[2], self._set(apdu[3:12], apdu[13:])])
        assert (kind, apdu[1]) == (0xC3, 1)
        assert apdu[3:12] == b"\x00\x08" + CLOCK + b"\x06"
        self.asked.append("shift")
        self.ahead_s += axdr.decode(apdu, 13)[0]
        return bytes([0xC7, 1, apdu[2], 0, 0])

    def _set(self, attribute: bytes, value: bytes) -> int:
        assert attribute == b"\x00\x08" + CLOCK + b"\x02"
        self.asked.append("set")
        if "deaf" not in self.habits:
            octets = axdr.decode(value)[0]
            assert octets[9:11] == struct.pack(">h", self.deviation_min)
            self.ahead_s = self.utc_s(octets) - self.clock.now_utc_s()
        return 0

    def _get(self, apdu: bytes, at: int) -> tuple[bytes, int]:
        class_id, name = int.from_bytes(apdu[at : at + 2], "big"), apdu[at + 2 : at + 8]
        index, selects, end = apdu[at + 8], apdu[at + 9], at + 10
        selection = b""
        if selects:
            _, end = axdr.decode(apdu, at + 11)
            selection = apdu[at + 10 : end]
        value = self._value(class_id, name, index, selection)
        return (_UNDEFINED if value is None else value), end

    def _value(self, class_id: int, name: bytes, index: int, selection: bytes) -> bytes | None:
        if class_id == 7 and name in self.logs:
            objects, entries = self.logs[name]
            if index == 3:
                return b"\x00" + axdr.array(objects)
            if index == 7:
                return b"\x00" + axdr.number(6, len(entries))
            return self._log(entries, selection)
        if class_id == 7 and name == PROFILE:
            return self._profile(index, selection)
        if name == SERIAL:
            return b"\x00" + axdr.octets(self.serial.encode())
        if name == CLOCK and index == 2:
            self.asked.append("clock")
            return b"\x00" + axdr.octets(self.octets(self.clock.now_utc_s() + self.ahead_s))
        if class_id == 3 and index == 3 and name in self.scalers:
            self.asked.append("scaler")
            scaler, unit = self.scalers[name]
            return b"\x00" + axdr.structure(axdr.number(15, scaler), axdr.number(22, unit))
        if class_id == 3 and index == 2 and name in self.registers:
            return b"\x00" + axdr.number(21, self.registers[name])
        if class_id == 1 and self.counter is not None:
            self.asked.append("counter")
            return b"\x00" + axdr.number(6, self.counter)
        return None

    def _log(self, entries: Sequence[tuple[int, bytes]], selection: bytes) -> bytes:
        value, _ = axdr.decode(selection, 1)
        if selection[0] == 2:
            self.asked.append("log entry")
            if "newest first" in self.habits:
                entries = entries[::-1]
            refused = "no entry" in self.habits
            chosen = [entry for _, entry in entries[value[0] - 1 : value[1] or None]]
        else:
            self.asked.append("log")
            first, last = (self.utc_s(octets) for octets in value[1:3])
            refused = "range refused" in self.habits
            if "range empty" in self.habits:
                first = last
            chosen = [entry for stamp, entry in entries if first < stamp < last]
        if len(chosen) > self.most_entries:
            raise AnswerTooLarge("too much")
        return _REFUSED if refused else b"\x00" + axdr.array(chosen)

    def _profile(self, index: int, selection: bytes) -> bytes | None:
        if index == 2:
            return self._buffer(selection)
        if index == 3:
            self.asked.append("columns")
            return b"\x00" + axdr.array(capture(*column) for column in self.columns)
        if index == 4:
            return b"\x00" + axdr.number(6, self.period_s)
        return b"\x00" + axdr.number(6, len(self.rows)) if index == 7 else None

    def _buffer(self, selection: bytes) -> bytes:
        value, _ = axdr.decode(selection, 1)
        if selection[0] == 2:
            self.asked.append("entry")
            first, last, *_ = value
            if "no entry" in self.habits:
                return _REFUSED
            return b"\x00" + self._fitting(self._ordered(self.rows)[first - 1 : last or None])
        self.asked.append("range")
        first, last = self._bound(value[1]), self._bound(value[2])
        if "range refused" in self.habits:
            return _REFUSED
        if "range empty" in self.habits:
            first = last + 1
        if "whole hours" in self.habits:
            first, last = first + -first % 3600, last - last % 3600
        if "exclusive" in self.habits:
            first, last = first + 1, last - 1
        found = [row for row in self.rows if first <= row.stamp_utc_s <= last]
        whole = "ignores range" in self.habits
        return b"\x00" + self._fitting(self._ordered(self.rows if whole else found))

    def _ordered(self, rows: Sequence[Row]) -> Sequence[Row]:
        return rows[::-1] if "newest first" in self.habits else rows

    def _fitting(self, rows: Sequence[Row]) -> bytes:
        if len(rows) > self.most_entries:
            raise AnswerTooLarge("too much")
        return self.encoded(rows)

    def _bound(self, octets: bytes) -> int:
        if "bounds without deviation" in self.habits:
            octets = octets[:9] + b"\x80\x00" + octets[11:]
            return self.utc_s(octets[:11] + (b"\x80" if self.summer else b"\x00"))
        return self.utc_s(octets)

    def encoded(self, rows: Sequence[Row]) -> bytes:
        parts = []
        before: Row | None = None
        for row in rows:
            step_s = -self.period_s if "newest first" in self.habits else self.period_s
            steady = before and row.stamp_utc_s == before.stamp_utc_s + step_s
            no_clock = "null clocks" in self.habits and steady
            clock = axdr.NULL if no_clock else axdr.octets(self.octets(row.stamp_utc_s))
            status = row.status
            if not isinstance(status, bytes):
                status = axdr.NULL if status is None else axdr.number(17, status)
            values = [
                axdr.NULL
                if value is None
                or ("null values" in self.habits and before and before.values[at] == value)
                else axdr.number(20, value)
                for at, value in enumerate(row.values)
            ]
            parts.append(axdr.structure(clock, status, *values))
            before = row
        return axdr.array(parts)

    def octets(self, utc_s: float) -> bytes:
        """The meter's date-time: deviation as it has it, or none and the summer time bit."""
        deviation = self.deviation_min
        summer = self.summer and deviation == -0x8000
        local_s = int(utc_s) + (3600 + 3600 * summer if deviation == -0x8000 else -deviation * 60)
        at = time.gmtime(local_s)
        return struct.pack(
            ">HBBBBBBBhB",
            *(at.tm_year, at.tm_mon, at.tm_mday, 0xFF, at.tm_hour, at.tm_min, at.tm_sec, 0xFF),
            deviation,
            0x80 * summer,
        )

    @staticmethod
    def utc_s(octets: bytes) -> int:
        year, month, day, _, hour, minute, second, _, deviation, status = struct.unpack(
            ">HBBBBBBBhB", octets
        )
        if deviation == -0x8000:
            deviation = -120 if status & 0x80 else -60
        return calendar.timegm((year, month, day, hour, minute, second)) + deviation * 60


def capture(class_id: int, name: bytes, index: int = 2) -> bytes:
    """One capture object, encoded."""
    return axdr.structure(
        axdr.number(18, class_id), axdr.octets(name), axdr.number(15, index), axdr.number(18, 0)
    )
