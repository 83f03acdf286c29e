"""The columns of a load profile: which is which, and from encoded rows to `ProfileRow`s.

Works column by column, so that a row costs no interpreted step that its column
does not need. A quantity of several columns is their sum, and missing where one
of them is. Rules: a null clock is the stamp before plus the capture
period; a null value is the value before, or missing, as the class says; of
rows with the same stamp the first counts and is marked, because the meter's
clock was set back; a row whose stamp is not on the period, or no whole date, is
passed over.
Where the buffer begins with its newest row, a null clock is the stamp above it
less the period, and "before" and "first" mean what the meter wrote earlier:
but for a null value, which is the one above it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.axdr import AxdrError, Bits
from agent.dlms.constants import obis_text
from agent.dlms.errors import AnswerMalformed, MeterDiffers
from agent.dlms.load_profile.meter_time import MeterTime, untrusted
from agent.dlms.load_profile.rows import Row, decode_rows
from agent.dlms.load_profile.scaling import (
    NO_TRANSFORMERS,
    Scaling,
    Transformers,
    common,
    scaled,
)
from agent.dlms.meter_class import EXPONENTS, LoadProfile
from agent.driver import ProfileRow
from wire.quality import Quality

__all__ = [
    "Columns",
    "ProfileAnswer",
    "RowsDoNotFit",
    "Scaling",
    "capture_positions",
    "joined",
    "map_columns",
]

log = logging.getLogger(__name__)

REGISTERS: Final = ("import_wh", "export_wh", "import_varh")
_VALUES: Final = (*REGISTERS, "voltage_dv", "current_ca")
_PROFILE: Final = int(Quality.PROFILE)
_CLOCK_UNTRUSTED: Final = int(Quality.CLOCK_UNTRUSTED)
_NAME_BYTES: Final = 6
_NO_STAMP: Final = -1
"""In place of the stamp of a row whose clock is not known; lies in no range."""


def capture_positions(captured: object, meter: str) -> dict[Attribute, int]:
    """Position of each captured object (attribute 3 of a profile); raises AnswerMalformed.

    Of several columns of one attribute that of the whole (data index 0) counts, else the
    first: others hold an element of it (IEC 62056-6-2, class 7).
    """
    if not isinstance(captured, list):
        raise AnswerMalformed(f"{meter}: expected a list of capture objects, came {captured!r}")
    found: dict[Attribute, int] = {}
    whole: set[Attribute] = set()
    for position, entry in enumerate(captured):
        match entry:
            case (int(class_id), bytes(name), int(index), int(part)) if len(name) == _NAME_BYTES:
                attribute = Attribute(class_id, name, index)
                if attribute not in found or (part == 0 and attribute not in whole):
                    found[attribute] = position
                if part == 0:
                    whole.add(attribute)
            case _:
                raise AnswerMalformed(
                    f"{meter}: expected capture object {position + 1} as class, logical name of 6 "
                    f"bytes, attribute and index, came {entry!r}"
                )
    return found


class RowsDoNotFit(AnswerMalformed):
    """Rows came whose columns are not those that the capture objects name."""


def map_columns(captured: object, profile: LoadProfile, meter: str) -> dict[Attribute, int]:
    """Position of all that the class wants among the captured objects (attribute 3).

    Raises MeterDiffers where the meter does not capture clock, status or a
    quantity that the class lists.
    """
    found = capture_positions(captured, meter)
    wanted = {name: quantity.attributes for name, quantity in profile.columns.items()}
    wanted["clock"] = (profile.clock,)
    if profile.status is not None:
        wanted["status"] = (profile.status,)
    missing = sorted(name for name, parts in wanted.items() if not found.keys() >= set(parts))
    if missing:
        raise MeterDiffers(
            f"{meter}: profile {obis_text(profile.buffer.name)} captures "
            f"{', '.join(map(str, found))} and not {', '.join(missing)}; "
            "give the meter its right model or take the column out of the meter class"
        )
    return {attribute: found[attribute] for parts in wanted.values() for attribute in parts}


@dataclass(frozen=True, slots=True)
class ProfileAnswer:
    """What one answer of the buffer holds."""

    rows: list[ProfileRow]
    """Those with an end in the range, oldest first, one for each end."""
    count: int
    """Rows that came, whatever their stamp."""
    oldest_utc_s: int = 0
    newest_utc_s: int = 0
    """Earliest and latest stamp of all rows that came; 0 where none did."""
    off_utc_s: tuple[int, ...] = ()
    """Stamps of rows, in the range or not, off the period or with a stamp for the second time."""


def joined(answers: Sequence[ProfileAnswer]) -> ProfileAnswer:
    """Answers one after the other as one; of rows with the same stamp the first counts.

    A row that came in two answers is one row.
    """
    if len(answers) == 1:
        return answers[0]
    kept: dict[int, ProfileRow] = {}
    off_utc_s = [stamp for answer in answers for stamp in answer.off_utc_s]
    for answer in answers:
        for row in answer.rows:
            known = kept.get(row.end_utc_s)
            if known is None:
                kept[row.end_utc_s] = row
            elif known != row:
                kept[row.end_utc_s] = replace(known, flags=known.flags | _CLOCK_UNTRUSTED)
                off_utc_s.append(row.end_utc_s)
    came = [answer for answer in answers if answer.count]
    return ProfileAnswer(
        [kept[end_utc_s] for end_utc_s in sorted(kept)],
        sum(answer.count for answer in came),
        min((answer.oldest_utc_s for answer in came), default=0),
        max((answer.newest_utc_s for answer in came), default=0),
        tuple(off_utc_s),
    )


@dataclass(frozen=True, slots=True)
class Columns:
    """How the rows of one meter's profile are read."""

    profile: LoadProfile
    positions: Mapping[Attribute, int]
    scalings: Mapping[Attribute, Scaling]
    period_s: int
    time: MeterTime
    meter: str
    transformers: Transformers = NO_TRANSFORMERS
    width: int | None = None
    """Number of captured objects; None = a row may have any more than the highest position."""

    def rows(self, data: bytes, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
        """Rows of an encoded buffer with ends in [first, last], oldest first; AnswerMalformed."""
        return self.read(data, first_utc_s, last_utc_s).rows

    def read(self, data: bytes, first_utc_s: int, last_utc_s: int) -> ProfileAnswer:
        """As `rows`, with what else came; raises AnswerMalformed, RowsDoNotFit."""
        try:
            rows, _ = decode_rows(data)
        except AxdrError as error:
            raise AnswerMalformed(
                f"{self.meter}: the load profile is malformed: {error}"
            ) from error
        if not rows:
            return ProfileAnswer([], 0)
        self._check_widths(rows)
        columns = list(zip(*rows, strict=False))
        ends_utc_s, flags = self._ends_and_flags(columns, len(rows))
        values = [self._values(name, columns, len(rows)) for name in _VALUES]
        written = list(zip(ends_utc_s, *values, flags, strict=True))
        if self.profile.order == "newest first":
            written.reverse()
        kept, off = self._kept(written, first_utc_s, last_utc_s)
        known = [end for end in ends_utc_s if end != _NO_STAMP] or [0]
        return ProfileAnswer(kept, len(rows), min(known), max(known), tuple(off))

    def _check_widths(self, rows: Sequence[Row]) -> None:
        widths = set(map(len, rows))
        fewest = max(self.positions.values()) + 1
        if min(widths) < fewest or (self.width is not None and widths != {self.width}):
            raise RowsDoNotFit(
                f"{self.meter}: expected profile rows of {self.width or fewest} columns, "
                f"came {', '.join(map(str, sorted(widths)))}"
            )

    def _kept(
        self, rows: Any, first_utc_s: int, last_utc_s: int
    ) -> tuple[list[ProfileRow], list[int]]:
        kept: dict[int, ProfileRow] = {}
        seen: set[int] = {_NO_STAMP}
        off_utc_s: list[int] = []
        for fields in rows:
            end_utc_s = fields[0]
            if end_utc_s in seen or end_utc_s % self.period_s:
                if end_utc_s != _NO_STAMP:
                    off_utc_s.append(end_utc_s)
                if end_utc_s in kept:
                    first = kept[end_utc_s]
                    kept[end_utc_s] = replace(first, flags=first.flags | _CLOCK_UNTRUSTED)
                continue
            seen.add(end_utc_s)
            if first_utc_s <= end_utc_s <= last_utc_s:
                kept[end_utc_s] = ProfileRow(*fields)
        if off_utc_s:
            log.info("%s: %d rows off the period or with a known stamp", self.meter, len(off_utc_s))
        return [kept[end_utc_s] for end_utc_s in sorted(kept)], off_utc_s

    def _ends_and_flags(self, columns: Sequence[Any], count: int) -> tuple[list[int], list[int]]:
        clocks = columns[self.positions[self.profile.clock]]
        flags = [_PROFILE] * count
        if self.profile.status is not None:
            flags = self._status(columns[self.positions[self.profile.status]])
        ends_utc_s = self._ends(clocks)
        suspect = {
            octets
            for octets, end_utc_s in zip(clocks, ends_utc_s, strict=True)
            if octets is not None and end_utc_s != _NO_STAMP and untrusted(octets)
        }
        if suspect:
            for row, octets in enumerate(clocks):
                if octets in suspect:
                    flags[row] |= _CLOCK_UNTRUSTED
        return ends_utc_s, flags

    def _ends(self, clocks: Sequence[Any]) -> list[int]:
        if set(map(type, clocks)) == {bytes}:
            with suppress(AnswerMalformed):
                return list(map(self.time.utc_s, clocks))
        return self._filled_clocks(clocks)

    def _filled_clocks(self, clocks: Sequence[Any]) -> list[int]:
        """Stamps with those of null clocks; nothing is known before the first that is written,
        nor between one that is no whole date and the next."""
        ends_utc_s: list[int] = []
        step_s = self.period_s if self.profile.order == "oldest first" else -self.period_s
        previous = _NO_STAMP
        for octets in clocks:
            if isinstance(octets, bytes):
                try:
                    previous = self.time.utc_s(octets)
                except AnswerMalformed as error:
                    # The meter had lost its clock: rows around this one are none the worse for it.
                    log.warning("%s: a row is passed over: %s", self.meter, error)
                    previous = _NO_STAMP
            elif octets is not None:
                raise RowsDoNotFit(
                    f"{self.meter}: expected a row's clock as a date-time, came {octets!r}"
                )
            elif previous != _NO_STAMP:
                previous += step_s
            ends_utc_s.append(previous)
        return ends_utc_s

    def _status(self, column: Sequence[Any]) -> list[int]:
        table, wide = self.profile.status_flags, self.profile.wide_status
        previous = 0
        flags = []
        for status in column:
            if status is not None:
                previous = status if type(status) is int else self._status_number(status)
            found = table[previous & 0xFF] | _PROFILE
            for bit, flag in wide:
                if previous >> bit & 1:
                    found |= flag
            flags.append(found)
        return flags

    def _status_number(self, status: Any) -> int:
        """A status as a number: some makers write it as a bit string, others as 1 to 4 bytes."""
        if isinstance(status, Bits) and len(status.text) <= 32:
            return sum(1 << bit for bit, digit in enumerate(status.text) if digit == "1")
        if isinstance(status, bytes) and 1 <= len(status) <= 4:
            return int.from_bytes(status, "big")
        raise RowsDoNotFit(f"{self.meter}: expected a status of up to 32 bits, came {status!r}")

    def _values(self, name: str, columns: Sequence[Any], count: int) -> Sequence[int | None]:
        """One quantity of all rows in our unit; None where the class has no such column."""
        quantity = self.profile.columns.get(name)
        if quantity is None:
            return (None,) * count
        parts = [self._part(name, columns[self.positions[at]]) for at in quantity.attributes]
        scaling, weights = common([self.scalings[at] for at in quantity.attributes])
        column = parts[0] if len(parts) == 1 else _added(parts, weights)
        factor = scaling.factor(EXPONENTS[name], self.transformers)
        if name in REGISTERS and self.profile.energies == "deltas":
            # Energies are added up first and scaled then: nothing is lost to rounding.
            factor = Fraction(1)
        if factor == 1:
            return column
        if factor.denominator == 1:
            times = factor.numerator
            return [None if raw is None else raw * times for raw in column]
        return [None if raw is None else scaled(raw, factor) for raw in column]

    def _part(self, name: str, column: Sequence[Any]) -> Sequence[int | None]:
        """The numbers of one column; None where the meter has none."""
        kinds = set(map(type, column))
        if kinds - {int, type(None)}:
            raise RowsDoNotFit(f"{self.meter}: column {name} holds a value that is no integer")
        if type(None) in kinds and self.profile.null_is_previous:
            return _carried(column)
        return column


def _added(parts: Sequence[Sequence[int | None]], weights: Sequence[int]) -> list[int | None]:
    """Row by row the sum of several columns; None where one of them has no value."""
    return [
        None
        if None in values
        else sum(value * weight for value, weight in zip(values, weights, strict=True))
        for values in zip(*parts, strict=True)
    ]


def _carried(column: Sequence[Any]) -> list[Any]:
    previous = None
    carried = []
    for value in column:
        if value is not None:
            previous = value
        carried.append(previous)
    return carried
