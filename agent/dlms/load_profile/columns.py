"""The columns of a load profile: which is which, and from encoded rows to `ProfileRow`s.

Works column by column, so that a row costs no interpreted step that its column
does not need. Rules: a null clock is the stamp before plus the capture
period; a null value is the value before, or missing, as the class says; of
rows with the same stamp the first counts and is marked, because the meter's
clock was set back; a row whose stamp is not on the period is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.axdr import AxdrError
from agent.dlms.constants import UNITS, obis_text
from agent.dlms.errors import AnswerMalformed, MeterDiffers
from agent.dlms.load_profile.meter_time import MeterTime, untrusted
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import EXPONENTS, LoadProfile
from agent.driver import ProfileRow
from wire.quality import Quality

log = logging.getLogger(__name__)

_CLOCK_STATUS: Final = 11
_REGISTERS: Final = ("import_wh", "export_wh", "import_varh")
_VALUES: Final = (*_REGISTERS, "voltage_dv", "current_ca")
_PROFILE: Final = int(Quality.PROFILE)
_CLOCK_UNTRUSTED: Final = int(Quality.CLOCK_UNTRUSTED)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scaler and unit of a register: the value in `unit` is raw x 10^scaler."""

    scaler: int
    unit: str

    @classmethod
    def of(cls, scaler: object, unit: object) -> Scaling:
        """From the two elements of attribute 3; raises MeterDiffers."""
        if not isinstance(scaler, int) or not isinstance(unit, int) or abs(scaler) > 12:
            raise MeterDiffers(f"expected a scaler of -12 to 12 and a unit, came {scaler}, {unit}")
        return cls(scaler, UNITS.get(unit, f"unit {unit}"))

    def whole(self, raw: int, exponent: int) -> int:
        """raw x 10^(scaler + exponent) as an integer, halves away from zero."""
        return _scaled(raw, self.scaler + exponent)


def _scaled(raw: int, power: int) -> int:
    if power >= 0:
        whole: int = raw * 10**power
        return whole
    divisor: int = 10**-power
    magnitude = (2 * abs(raw) + divisor) // (2 * divisor)
    return magnitude if raw >= 0 else -magnitude


def map_columns(captured: object, profile: LoadProfile, meter: str) -> dict[str, int]:
    """Position of clock, status and each quantity among the captured objects (attribute 3).

    Raises MeterDiffers when the clock or an energy is not captured; a quantity
    that the class lists and the meter does not capture is an error as well.
    """
    if not isinstance(captured, list):
        raise AnswerMalformed(f"{meter}: expected a list of capture objects, came {captured!r}")
    found: dict[Attribute, int] = {}
    for position, entry in enumerate(captured):
        try:
            class_id, name, index, _data_index = entry
            found.setdefault(Attribute(int(class_id), bytes(name), int(index)), position)
        except (TypeError, ValueError) as error:
            raise AnswerMalformed(
                f"{meter}: capture object {position + 1} is malformed: {entry!r}"
            ) from error
    wanted = {name: quantity.attribute for name, quantity in profile.columns.items()}
    wanted["clock"] = profile.clock
    if profile.status is not None:
        wanted["status"] = profile.status
    missing = sorted(name for name, attribute in wanted.items() if attribute not in found)
    if missing:
        raise MeterDiffers(
            f"{meter}: profile {obis_text(profile.buffer.name)} captures "
            f"{', '.join(map(str, found))} and not {', '.join(missing)}; "
            "give the meter its right model or take the column out of the meter class"
        )
    return {name: found[attribute] for name, attribute in wanted.items()}


@dataclass(frozen=True, slots=True)
class Columns:
    """How the rows of one meter's profile are read."""

    profile: LoadProfile
    positions: Mapping[str, int]
    scalings: Mapping[str, Scaling]
    period_s: int
    time: MeterTime
    meter: str

    def rows(self, data: bytes, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
        """Rows of an encoded buffer with ends in [first, last], oldest first; AnswerMalformed."""
        try:
            rows, _ = decode_rows(data)
        except AxdrError as error:
            raise AnswerMalformed(
                f"{self.meter}: the load profile is malformed: {error}"
            ) from error
        if not rows:
            return []
        widest = max(self.positions.values())
        if min(map(len, rows)) <= widest:
            raise AnswerMalformed(f"{self.meter}: a profile row has {min(map(len, rows))} columns")
        columns = list(zip(*rows, strict=False))
        ends_utc_s, flags = self._ends_and_flags(columns, len(rows))
        values = [self._values(name, columns, len(rows)) for name in _VALUES]
        return self._kept(zip(ends_utc_s, *values, flags, strict=True), first_utc_s, last_utc_s)

    def _kept(self, rows: Any, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
        kept: dict[int, ProfileRow] = {}
        passed_over = 0
        for fields in rows:
            end_utc_s = fields[0]
            if not first_utc_s <= end_utc_s <= last_utc_s:
                continue
            if end_utc_s % self.period_s:
                passed_over += 1
            elif end_utc_s in kept:
                first = kept[end_utc_s]
                kept[end_utc_s] = ProfileRow(
                    first.end_utc_s,
                    first.import_wh,
                    first.export_wh,
                    first.import_varh,
                    first.voltage_dv,
                    first.current_ca,
                    first.flags | _CLOCK_UNTRUSTED,
                )
                passed_over += 1
            else:
                kept[end_utc_s] = ProfileRow(*fields)
        if passed_over:
            log.info("%s: %d rows off the period or with a known stamp", self.meter, passed_over)
        return [kept[end_utc_s] for end_utc_s in sorted(kept)]

    def _ends_and_flags(self, columns: Sequence[Any], count: int) -> tuple[list[int], list[int]]:
        clocks = columns[self.positions["clock"]]
        flags = [_PROFILE] * count
        position = self.positions.get("status")
        if position is not None:
            flags = self._status(columns[position])
        if set(map(type, clocks)) == {bytes}:
            ends_utc_s = list(map(self.time.utc_s, clocks))
        else:
            ends_utc_s = self._filled_clocks(clocks)
        suspect = {octets for octets in clocks if octets is not None and untrusted(octets)}
        if suspect:
            for row, octets in enumerate(clocks):
                if octets in suspect:
                    flags[row] |= _CLOCK_UNTRUSTED
        return ends_utc_s, flags

    def _filled_clocks(self, clocks: Sequence[Any]) -> list[int]:
        ends_utc_s: list[int] = []
        for octets in clocks:
            if isinstance(octets, bytes):
                ends_utc_s.append(self.time.utc_s(octets))
            elif octets is None and ends_utc_s:
                ends_utc_s.append(ends_utc_s[-1] + self.period_s)
            else:
                raise AnswerMalformed(
                    f"{self.meter}: expected a row's clock as a date-time, came {octets!r}"
                )
        return ends_utc_s

    def _status(self, column: Sequence[Any]) -> list[int]:
        table = self.profile.status_flags
        previous = 0
        flags = []
        for status in column:
            if status is None:
                status = previous
            if not isinstance(status, int):
                raise AnswerMalformed(f"{self.meter}: expected a status number, came {status!r}")
            previous = status
            # Some makers widen the status to 2 or 4 bytes; the eight known bits are the low ones.
            flags.append(table[status & 0xFF] | _PROFILE)
        return flags

    def _values(self, name: str, columns: Sequence[Any], count: int) -> Sequence[int | None]:
        """One quantity of all rows in our unit; None where the class has no such column."""
        position = self.positions.get(name)
        if position is None:
            return (None,) * count
        column = columns[position]
        kinds = set(map(type, column))
        if type(None) in kinds and self.profile.null_is_previous:
            column = _carried(column)
        if kinds - {int, type(None)}:
            raise AnswerMalformed(f"{self.meter}: column {name} holds a value that is no integer")
        power = self.scalings[name].scaler + EXPONENTS[name]
        if power == 0:
            whole: Sequence[int | None] = column
            return whole
        return [None if raw is None else _scaled(raw, power) for raw in column]


def _carried(column: Sequence[Any]) -> list[Any]:
    previous = None
    carried = []
    for value in column:
        if value is not None:
            previous = value
        carried.append(previous)
    return carried
