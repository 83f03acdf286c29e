"""A meter's event logs: profiles whose rows are entries, read on from where one left off.

Columns are mapped from attribute 3: the clock, the event code, and whatever
else there is goes into the detail. One call asks for a bounded stretch of
time, wider while nothing is found and narrower when the answer is too large,
so that the first look into a full log costs no more than the later ones. A
meter that refuses ranges is read by number of entry, the newest ones first.
Source: IEC 62056-6-1, logs 0.0.99.98.x.255, event codes 0.0.96.11.x.255.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.selection import by_entry, by_range
from agent.dlms.client import Client
from agent.dlms.constants import obis_text
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AnswerTooLarge,
    MeterDiffers,
    ServiceRefused,
)
from agent.dlms.load_profile.columns import RowsDoNotFit, capture_positions
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import EventLog
from agent.driver import MeterEvent
from wire.clock import Clock

log = logging.getLogger(__name__)

STRETCH_S: Final = 7 * 86400
"""Time asked for at first; doubled while nothing is found, halved while it is too much."""
_AHEAD_S: Final = 86400
"""A meter's clock may be so far ahead that its newest entries lie in our future."""
_LONGEST_DETAIL: Final = 200
ENTRIES: Final = 32
"""Asked for at once by number; halved while it is too much."""
_LOOKED_AT: Final = 8
"""Entries whose stamps say in which order the log is."""
_HOUR_S: Final = 3600
_SET_BACK_S: Final = 3600
"""A clock may have been set back by so much between two entries."""
_TEMPORARY: Final = "temporary-failure"
_EVENT_CODE: Final = re.compile(rb"\x00\x00\x60\x0b.\xff", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Columns:
    hash: bytes
    clock: int
    code: int
    details: dict[int, str]
    """Position -> name of the further columns."""


class EventLogReader:
    """One event log of one meter. Used by the line's own thread only."""

    def __init__(
        self, name: str, settings: EventLog, time: MeterTime, clock: Clock, meter: str
    ) -> None:
        self._name = name
        self._settings = settings
        self._time = time
        self._clock = clock
        self._meter = f"{meter}, {name} log"
        self._columns: _Columns | None = None
        self._refuses_ranges = False
        self._ranges_work = False
        self._order: Literal["oldest first", "newest first"] | None = None

    def forget(self) -> None:
        """Another meter answers now."""
        self._columns = None
        self._refuses_ranges = False
        self._ranges_work = False
        self._order = None

    def read(self, client: Client, after_utc_s: int) -> list[MeterEvent]:
        """The next entries at or after an instant, oldest first; raises DlmsError.

        Empty, or with entries of that very second alone, only when there are no
        later ones: then the whole time up to now was asked for.
        """
        if self._refuses_ranges:
            return self._by_entry(client, after_utc_s)
        try:
            events = self._by_range(client, after_utc_s)
            if events or not self._leaves_out(client):
                return events
            why: object = "its newest entry does not come"
            events = self._by_entry(client, after_utc_s)
        except (AccessRefused, ServiceRefused) as error:
            if _TEMPORARY in str(error):
                raise
            try:
                events = self._by_entry(client, after_utc_s)
            except (AccessRefused, ServiceRefused):
                raise error from None
            why = error
        log.warning("%s: reads it by entry from now on; by range: %s", self._meter, why)
        self._refuses_ranges = True
        return events

    def _leaves_out(self, client: Client) -> bool:
        """Whether the newest entry does not come by range; asked until one has come."""
        if self._ranges_work:
            return False
        try:
            newest = self._newest(client)
        except (AccessRefused, ServiceRefused):
            return False
        return newest is not None and not self._stretch(client, newest - _HOUR_S, newest + _HOUR_S)

    def _newest(self, client: Client) -> int | None:
        """Stamp of the entry that was written last; None where there is none."""
        in_use = self._entries_in_use(client)
        if in_use == 0:
            return None
        newest_first = in_use > ENTRIES and self._begins_with_newest(client, in_use)
        at = 1 if newest_first else in_use
        return max((e.at_utc_s for e in self._selected(client, by_entry(at, at))), default=None)

    def _by_range(self, client: Client, after_utc_s: int) -> list[MeterEvent]:
        until_utc_s = int(self._clock.now_utc_s()) + _AHEAD_S
        events: list[MeterEvent] = []
        since_utc_s, stretch_s = after_utc_s, STRETCH_S
        while since_utc_s <= until_utc_s:
            last_utc_s = min(since_utc_s + stretch_s, until_utc_s)
            try:
                found = self._stretch(client, since_utc_s, last_utc_s)
            except AnswerTooLarge:
                if stretch_s <= 1:
                    raise
                stretch_s //= 2
                continue
            events += found
            if any(event.at_utc_s > after_utc_s for event in found):
                break
            since_utc_s, stretch_s = last_utc_s + 1, stretch_s * 2
        return events

    def _by_entry(self, client: Client, after_utc_s: int) -> list[MeterEvent]:
        """All entries at or after an instant, looked for from the newest back."""
        in_use = self._entries_in_use(client)
        newest_first = in_use > ENTRIES and self._begins_with_newest(client, in_use)
        found: list[MeterEvent] = []
        most, read = ENTRIES, 0
        while read < in_use:
            count = min(most, in_use - read)
            first = read + 1 if newest_first else in_use - read - count + 1
            try:
                events = self._selected(client, by_entry(first, first + count - 1))
            except AnswerTooLarge:
                if count == 1:
                    raise
                most = count // 2
                continue
            found = (events[::-1] if newest_first else events) + found
            read += count
            if events and max(event.at_utc_s for event in events) < after_utc_s - _SET_BACK_S:
                break
        if read > most:
            self._check_still(client, 1 if newest_first else in_use, found)
        kept = [event for event in found if event.at_utc_s >= after_utc_s]
        return sorted(kept, key=lambda event: event.at_utc_s)

    def _entries_in_use(self, client: Client) -> int:
        in_use = client.get(replace(self._settings.buffer, index=7))
        if not isinstance(in_use, int) or in_use < 0:
            raise AnswerMalformed(f"{self._meter}: expected entries in use, came {in_use!r}")
        return in_use

    def _begins_with_newest(self, client: Client, in_use: int) -> bool:
        """Whether most stamps fall: a clock that was set back is one fall among many rises."""
        if self._order is None:
            entries = self._selected(client, by_entry(in_use - _LOOKED_AT + 1, in_use))
            steps = [later.at_utc_s - event.at_utc_s for event, later in pairwise(entries)]
            falls, rises = sum(step < 0 for step in steps), sum(step > 0 for step in steps)
            if falls == rises:
                return False
            self._order = "newest first" if falls > rises else "oldest first"
        return self._order == "newest first"

    def _check_still(self, client: Client, newest: int, found: Sequence[MeterEvent]) -> None:
        """An entry written between two requests moves the others: one would be read twice."""
        if self._selected(client, by_entry(newest, newest)) != list(found[-1:]):
            raise AnswerMalformed(
                f"{self._meter}: entries were written while it was read by number; read it again"
            )

    def _stretch(self, client: Client, first_utc_s: int, last_utc_s: int) -> list[MeterEvent]:
        # More at each end: some meters leave the bounds out, some take whole hours only.
        since_utc_s, until_utc_s = first_utc_s - 1, last_utc_s + 1
        if until_utc_s - since_utc_s >= _HOUR_S:
            since_utc_s -= since_utc_s % _HOUR_S
            until_utc_s += -until_utc_s % _HOUR_S
        selection = by_range(self._time.octets(since_utc_s), self._time.octets(until_utc_s))
        events = self._selected(client, selection)
        self._ranges_work = self._ranges_work or bool(events)
        kept = [event for event in events if first_utc_s <= event.at_utc_s <= last_utc_s]
        return sorted(kept, key=lambda event: event.at_utc_s)

    def _selected(self, client: Client, selection: bytes) -> list[MeterEvent]:
        columns = self._columns or self._learn(client)
        data = client.get_data(self._settings.buffer, selection)
        try:
            events = self._events(data, columns)
        except RowsDoNotFit as error:
            fresh = self._learn(client)
            if fresh is columns:
                raise
            log.warning("%s: the columns have changed (%s)", self._meter, error)
            events = self._events(data, fresh)
        return events

    def _learn(self, client: Client) -> _Columns:
        encoded = client.get_data(self._settings.capture_objects)
        seen = hashlib.sha256(encoded).digest()
        if self._columns is None or self._columns.hash != seen:
            try:
                captured, _ = axdr.decode(encoded)
            except axdr.AxdrError as error:
                raise AnswerMalformed(
                    f"{self._meter}: the capture objects are malformed: {error}"
                ) from error
            self._columns = self._mapped(seen, capture_positions(captured, self._meter))
        return self._columns

    def _mapped(self, seen: bytes, found: dict[Attribute, int]) -> _Columns:
        settings = self._settings
        code = settings.code or next(
            (attribute for attribute in found if _EVENT_CODE.fullmatch(attribute.name)), None
        )
        if code is None or code not in found or settings.clock not in found:
            raise MeterDiffers(
                f"{self._meter}: captures {', '.join(map(str, found))}; expected the clock "
                f"{settings.clock} and {code or 'an event code 0.0.96.11.x.255'}; "
                "name its columns in [logs] of the meter class"
            )
        names = {attribute: name for name, attribute in settings.columns.items()}
        details = {
            position: names.get(attribute, obis_text(attribute.name))
            for attribute, position in found.items()
            if attribute not in (code, settings.clock)
        }
        return _Columns(seen, found[settings.clock], found[code], details)

    def _events(self, data: bytes, columns: _Columns) -> list[MeterEvent]:
        try:
            rows, _ = decode_rows(data)
        except axdr.AxdrError as error:
            raise AnswerMalformed(f"{self._meter}: its entries are malformed: {error}") from error
        for row in rows:
            if len(row) <= max(columns.clock, columns.code, *columns.details):
                raise RowsDoNotFit(f"{self._meter}: an entry has {len(row)} columns: {row!r}")
            clock, code = row[columns.clock], row[columns.code]
            if not isinstance(clock, bytes | None) or not isinstance(code, int):
                raise RowsDoNotFit(
                    f"{self._meter}: expected a date-time and a code, came {clock!r} and {code!r}"
                )
        stamps_utc_s = self._stamps([row[columns.clock] for row in rows])
        return [
            MeterEvent(self._name, at_utc_s, row[columns.code], _detail(row, columns.details))
            for row, at_utc_s in zip(rows, stamps_utc_s, strict=True)
        ]

    def _stamps(self, clocks: Sequence[bytes | None]) -> list[int]:
        """Stamps of entries; one that has none, or no whole date, happened with the one before.

        Raises AnswerMalformed where no entry has one.
        """
        found: list[int | None] = []
        for clock in clocks:
            at_utc_s = found[-1] if found else None
            if clock is not None:
                try:
                    at_utc_s = self._time.utc_s(clock)
                except AnswerMalformed as error:
                    # A meter that has lost its clock logs just that: other entries are not worse.
                    log.info("%s: taken as of the entry before: %s", self._meter, error)
            found.append(at_utc_s)
        known = [at_utc_s for at_utc_s in found if at_utc_s is not None]
        if found and not known:
            raise AnswerMalformed(f"{self._meter}: expected dates and times, came {clocks[0]!r}")
        return [known[0] if at_utc_s is None else at_utc_s for at_utc_s in found]


def _detail(row: Sequence[Any], names: dict[int, str]) -> str:
    parts = [
        f"{name}={_text(row[position])}"
        for position, name in names.items()
        if row[position] is not None
    ]
    return " ".join(parts)[:_LONGEST_DETAIL]


def _text(value: Any) -> str:
    if isinstance(value, axdr.Bits):
        return value.text
    if isinstance(value, bytes):
        return value.decode("ascii") if value.isalnum() and value.isascii() else value.hex()
    return "_".join(str(value).split())
