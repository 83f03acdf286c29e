"""Reads a meter's load profile: by range of time, and by number of entry where range fails.

Columns are mapped from attribute 3 and mapped anew only when its hash differs.
It is read again once a day, when rows come that do not fit, and when another
meter answers. A range is widened and its rows filtered here, because meters
differ in which bounds they include. A range is not believed when it leaves out
rows that the meter has by entry. Less is asked for where an answer is too
large. What worked is remembered for this meter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.selection import by_entry, by_range
from agent.dlms.client import Client
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AnswerTooLarge,
    MeterDiffers,
    ServiceRefused,
)
from agent.dlms.load_profile.belief import RangeBelief
from agent.dlms.load_profile.columns import (
    Columns,
    ProfileAnswer,
    RowsDoNotFit,
    joined,
    map_columns,
)
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.scaling import Scalings, Transformers
from agent.dlms.meter_class import LoadProfile, Quantity
from agent.driver import ProfileRow

if TYPE_CHECKING:
    from agent.dlms.load_profile.anchor import Anchored
    from wire.clock import Clock

log = logging.getLogger(__name__)

CHECKED_EVERY_S: Final = 86400
"""How long the columns are taken as they were."""
_LONGEST_PERIOD_S: Final = 31 * 86400
_FEW_ENTRIES: Final = 12
"""So many entries are read rather than looked through for the first that is wanted."""
_MOST_SET_BACK_S: Final = 86400
"""No clock is set back by more: what lies so far before the oldest entry is not there."""
_SET_BACK_S: Final = 3600
"""How far beyond the range entries are read, as the clock may have been set back within them."""
_TEMPORARY: Final = "temporary-failure"
Refused = (AccessRefused, ServiceRefused)


class ProfileReader:
    """The load profile of one meter. Used by the line's own thread only."""

    def __init__(
        self,
        profile: LoadProfile,
        serial: Attribute,
        registers: Mapping[str, Quantity],
        scalings: Scalings,
        time: MeterTime,
        clock: Clock,
        *,
        transformers: Transformers,
        identify: Callable[[Any], None],
        meter: str,
    ) -> None:
        """`identify` is told the serial number that came with the rows; what it raises passes."""
        self._profile = profile
        self._serial = serial
        self._registers = registers
        self._scalings = scalings
        self._time = time
        self._clock = clock
        self._transformers = transformers
        self._identify = identify
        self._meter = meter
        self._hash = b""
        self._positions: dict[Attribute, int] = {}
        self._width = 0
        self._columns: Columns | None = None
        self._checked_utc_s = 0.0
        self._anchored: Anchored | None = None
        self._resumed: tuple[int, Mapping[str, int]] | None = None
        self._access = profile.access
        self._belief = RangeBelief(whole_hours=profile.whole_hours)
        self._most_rows = profile.slice_rows
        self._memory_begins_utc_s = 0
        self._identified = False
        self.newest: tuple[float, int] | None = None
        """(agent's clock, latest stamp) of the latest answer that reached up to the present."""

    @property
    def period_s(self) -> int | None:
        """Capture period; None before the first read."""
        return None if self._columns is None else self._columns.period_s

    def forget(self) -> None:
        """Another meter answers now."""
        self._columns = None
        self._anchored = self._resumed = None
        self._access = self._profile.access
        self._belief.forget()
        self._most_rows = self._profile.slice_rows
        self.newest = None

    def resume(self, end_utc_s: int, registers: Mapping[str, int]) -> None:
        """Counters of a profile of energies go on from those of an interval told before."""
        self._resumed = (end_utc_s, registers)

    def read(self, client: Client, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
        """Rows with ends in [first, last], oldest first; raises DlmsError."""
        self._identified = False
        self._memory_begins_utc_s = 0
        columns = self._columns
        if columns is None or self._clock.now_utc_s() >= self._checked_utc_s + CHECKED_EVERY_S:
            columns = self.learn(client)
        try:
            return self._rows(client, columns, first_utc_s, last_utc_s)
        except RowsDoNotFit as error:
            fresh = self.learn(client)
            if fresh is columns:
                raise
            log.warning("%s: the profile's columns have changed (%s)", self._meter, error)
            return self._rows(client, fresh, first_utc_s, last_utc_s)

    def learn(self, client: Client) -> Columns:
        """The columns as attributes 3 and 4 say now; the same object where nothing changed."""
        # Brings OpenSSL with it, which an agent without such meters need not load.
        import hashlib

        profile = self._profile
        period, encoded = client.get_with_data(profile.capture_period, profile.capture_objects, b"")
        period_s = self._period_s(period)
        try:
            captured, end = axdr.decode(encoded)
        except axdr.AxdrError as error:
            raise AnswerMalformed(
                f"{self._meter}: the capture objects are malformed: {error}"
            ) from error
        seen = hashlib.sha256(encoded[:end]).digest()
        if seen != self._hash:
            self._positions = map_columns(captured, profile, self._meter)
            self._width = len(captured)
            self._hash = seen
            self._columns = None
        self._scalings.learn(client, profile.columns.values())
        self._checked_utc_s = self._clock.now_utc_s()
        if self._columns is None or self._columns.period_s != period_s:
            scalings = {
                attribute: self._scalings[attribute]
                for quantity in profile.columns.values()
                for attribute in quantity.attributes
            }
            self._anchored = None
            self._columns = Columns(
                profile,
                self._positions,
                scalings,
                period_s,
                self._time,
                self._meter,
                self._transformers,
                self._width,
            )
        return self._columns

    def _period_s(self, value: Any) -> int:
        if value == 0 and self._profile.period_s is not None:
            return self._profile.period_s
        if not isinstance(value, int) or not 0 < value <= _LONGEST_PERIOD_S:
            raise MeterDiffers(
                f"{self._meter}: expected a load profile with a capture period in s, is {value!r}; "
                "where rows are captured by an action, set profile.period_s in the meter class"
            )
        return value

    def _rows(
        self, client: Client, columns: Columns, first_utc_s: int, last_utc_s: int
    ) -> list[ProfileRow]:
        if self._profile.energies == "counters":
            return self._slices(client, columns, first_utc_s, last_utc_s).rows
        from agent.dlms.load_profile.anchor import Anchored

        if self._anchored is None:
            self._anchored = Anchored(
                self._profile,
                self._registers,
                self._scalings,
                self._transformers,
                self._time,
                columns.period_s,
                self._meter,
            )
            if self._resumed is not None:
                self._anchored.resume(*self._resumed)
        since, until = self._anchored.range_to_read(first_utc_s, last_utc_s)
        answer = self._slices(client, columns, since, until)
        rows = self._anchored.rows(answer)
        self._anchored.read_registers(client)
        return [row for row in rows if first_utc_s <= row.end_utc_s <= last_utc_s]

    def _slices(
        self, client: Client, columns: Columns, first_utc_s: int, last_utc_s: int
    ) -> ProfileAnswer:
        answers: list[ProfileAnswer] = []
        first = first_utc_s
        while first <= last_utc_s:
            last = min(first + self._most_rows * columns.period_s - 1, last_utc_s)
            if last >= self._memory_begins_utc_s:
                try:
                    answers.append(self._slice(client, columns, first, last))
                except AnswerTooLarge as error:
                    self._ask_for_less((last - first) // columns.period_s + 1, error)
                    continue
            first = last + 1
        return joined(answers)

    def _ask_for_less(self, rows: int, error: AnswerTooLarge) -> None:
        """From now on half of what was too much; raises `error` where that was one row."""
        if rows <= 1:
            raise error
        self._most_rows = rows // 2
        log.warning("%s: asks for %d rows at most from now on: %s", self._meter, rows // 2, error)

    def _slice(self, client: Client, columns: Columns, first: int, last: int) -> ProfileAnswer:
        if self._access == "entry":
            return self._by_entry(client, columns, first, last)
        since, until = self._widened(first, last, columns.period_s)
        try:
            data = self._buffer(
                client, by_range(self._time.octets(since), self._time.octets(until))
            )
        except Refused as error:
            if self._access == "range" or _TEMPORARY in str(error):
                raise
            return self._instead_of(error, client, columns, first, last)
        except AnswerTooLarge as error:
            # So much for a few rows: it gives its whole buffer, whatever the range.
            if self._access == "range" or last - first > _FEW_ENTRIES * columns.period_s:
                raise
            return self._instead_of(error, client, columns, first, last)
        answer = columns.read(data, first, last)
        self._note_newest(answer, until)
        if self._access == "range" or self._belief.holds(
            answer, (first, last), (since, until), columns.period_s, self._clock.now_utc_s()
        ):
            return answer
        return self._instead_of(answer, client, columns, first, last)

    def _widened(self, first: int, last: int, period_s: int) -> tuple[int, int]:
        first -= self._profile.widen_rows * period_s
        last += self._profile.widen_rows * period_s
        if self._profile.whole_hours:
            first -= first % 3600
            last += -last % 3600
        return first, last

    def _instead_of(
        self,
        by_range_came: ProfileAnswer | AccessRefused | ServiceRefused | AnswerTooLarge,
        client: Client,
        columns: Columns,
        first: int,
        last: int,
    ) -> ProfileAnswer:
        """By entry, where a range was refused or left out rows; the better is remembered."""
        try:
            entries = self._by_entry(client, columns, first, last)
        except Refused as error:
            if not isinstance(by_range_came, ProfileAnswer):
                raise by_range_came from error
            self._access = "range"
            return by_range_came
        if isinstance(by_range_came, ProfileAnswer):
            if len(entries.rows) <= len(by_range_came.rows):
                return by_range_came
            why = f"left out {len(entries.rows) - len(by_range_came.rows)} rows"
        else:
            why = str(by_range_came)
        log.warning("%s: reads its profile by entry from now on; by range: %s", self._meter, why)
        self._access = "entry"
        return entries

    def _by_entry(self, client: Client, columns: Columns, first: int, last: int) -> ProfileAnswer:
        """Rows by place, 1 being the oldest; the places may move by a row while we read."""
        in_use = self._entries_in_use(client)
        slack = self._profile.widen_rows + 1 + _SET_BACK_S // columns.period_s
        found = self._first_entry(client, columns, first, in_use) if in_use else 1
        if in_use == 0 or last < self._memory_begins_utc_s:
            return ProfileAnswer([], 0)
        begin = max(1, found - slack)
        wanted = (last - first) // columns.period_s + 2 * slack + _FEW_ENTRIES
        # Two at least: each block repeats a row, as a full buffer may drop one meanwhile.
        count = max(2, min(wanted, self._most_rows))
        answers: list[ProfileAnswer] = []
        at = begin
        beyond_s = last + _SET_BACK_S
        while at <= in_use and not (answers and answers[-1].oldest_utc_s > beyond_s):
            answers.append(self._entries(client, columns, (at, count, in_use), first, last))
            at += count - 1 if at + count <= in_use else count
        # A clock that was set back has put stamps of the range before the place found.
        while begin > 1 and answers[0].count and answers[0].oldest_utc_s >= first - _SET_BACK_S:
            at = max(1, begin - count + 1)
            answers.insert(
                0, self._entries(client, columns, (at, begin - at + 1, in_use), first, last)
            )
            begin = at
        answer = joined(answers)
        self._note_newest(answer, last)
        return answer

    def _first_entry(self, client: Client, columns: Columns, first: int, in_use: int) -> int:
        """A place not after the first of the range, found by the stamps of single entries.

        Without gaps the period says which it is; with gaps it is nearer to the newest.
        """
        period_s = columns.period_s
        ago = max(0, int(self._clock.now_utc_s() - first) // period_s + 1)
        low, high = max(1, in_use - ago), in_use
        if high - low <= _FEW_ENTRIES:
            return low
        stamp = self._stamp(client, columns, low, in_use)
        if stamp > first:
            if low == 1:
                self._memory_begins_utc_s = stamp - _MOST_SET_BACK_S
            return max(1, low - (stamp - first) // period_s)
        while stamp:
            high = min(high, low + (first - stamp) // period_s)
            if high - low <= _FEW_ENTRIES:
                break
            middle = (low + high) // 2
            seen = self._stamp(client, columns, middle, in_use)
            if 0 < seen <= first:
                low, stamp = middle, seen
            else:
                high = middle
        return low

    def _stamp(self, client: Client, columns: Columns, place: int, in_use: int) -> int:
        """Stamp of the row at one place; 0 where it has none."""
        return max(0, self._entries(client, columns, (place, 1, in_use), 0, 0).newest_utc_s)

    def _entries(
        self,
        client: Client,
        columns: Columns,
        entries: tuple[int, int, int],
        first: int,
        last: int,
    ) -> ProfileAnswer:
        """`entries`: the first place, how many, and how many there are; up to the last is 0."""
        at, count, in_use = entries
        to = at + count - 1
        if self._profile.order == "newest first":
            selection = by_entry(max(1, in_use + 1 - to), in_use + 1 - at)
        else:
            selection = by_entry(at, 0 if to >= in_use else to)
        return columns.read(self._buffer(client, selection), first, last)

    def _entries_in_use(self, client: Client) -> int:
        attribute = replace(self._profile.buffer, index=7)
        if self._identified:
            value = client.get(attribute)
        else:
            serial, value = client.get_many([self._serial, attribute])
            self._identify(serial)
            self._identified = True
        if not isinstance(value, int) or value < 0:
            raise AnswerMalformed(f"{self._meter}: expected entries in use, came {value!r}")
        return value

    def _buffer(self, client: Client, selection: bytes) -> bytes:
        """The selected rows, encoded; the first time with the serial number in one request."""
        if self._identified:
            return client.get_data(self._profile.buffer, selection)
        serial, data = client.get_with_data(self._serial, self._profile.buffer, selection)
        self._identify(serial)
        self._identified = True
        return data

    def _note_newest(self, answer: ProfileAnswer, until_utc_s: int) -> None:
        now_utc_s = self._clock.now_utc_s()
        if answer.newest_utc_s and until_utc_s >= now_utc_s:
            self.newest = (now_utc_s, answer.newest_utc_s)
