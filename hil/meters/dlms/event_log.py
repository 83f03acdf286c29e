"""A simulated meter's event logs: a few entries of clock and code, the oldest overwritten.

Codes of the standard log after IDIS package 2 (table of events).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.clock import Zone
from hil.meters.dlms.names import CLOCK, event_code
from hil.meters.dlms.results import OTHER_REASON, SUCCESS, UNDEFINED
from hil.meters.dlms.selection import Entries, Malformed, Range, capture_objects, parse

POWER_DOWN: Final = 1
POWER_UP: Final = 2
CLOCK_ADJUSTED_FROM: Final = 4
CLOCK_ADJUSTED_TO: Final = 5
TERMINAL_COVER_REMOVED: Final = 40
_KEPT: Final = 100


@dataclass(slots=True)
class EventLog:
    """Entries in the order in which they were written: (shown, code)."""

    kept: int = _KEPT
    """Entries that there is room for."""
    entries: deque[tuple[int, int]] = field(default_factory=deque)

    def write(self, shown_s: int, code: int) -> None:
        """Adds an entry, stamped by what the meter's clock shows."""
        self.entries.append((shown_s, code))
        while len(self.entries) > self.kept:
            self.entries.popleft()

    def attribute(
        self, name: bytes, index: int, selection: bytes, zone: Zone, quirks: frozenset[str]
    ) -> tuple[int, bytes]:
        """(data-access result, encoded value) of the profile that holds the log."""
        captured = ((8, CLOCK), (1, event_code(name)))
        if index == 2:
            return self._buffer(selection, zone, quirks, captured)
        plain = {
            1: axdr.octets(name),
            3: capture_objects(captured),
            4: axdr.number(Tag.U32, 0),
            7: axdr.number(Tag.U32, len(self.entries)),
            8: axdr.number(Tag.U32, self.kept),
        }
        if index in plain and not selection:
            return SUCCESS, plain[index]
        return UNDEFINED, b""

    def _buffer(
        self,
        selection: bytes,
        zone: Zone,
        quirks: frozenset[str],
        captured: tuple[tuple[int, bytes], ...],
    ) -> tuple[int, bytes]:
        found, columns = list(self.entries), (0, 1)
        if "newest first" in quirks:
            found.reverse()
        if selection:
            try:
                wanted = parse(selection, zone, captured)
            except Malformed:
                return OTHER_REASON, b""
            columns = wanted.columns  # type: ignore[assignment]
            if isinstance(wanted, Entries):
                if "entry refused" in quirks:
                    return OTHER_REASON, b""
                found = found[max(0, wanted.first - 1) : wanted.last or None]
            else:
                if "range refused" in quirks:
                    return OTHER_REASON, b""
                found = _within(found, wanted, quirks)
        return SUCCESS, axdr.array(
            axdr.structure(*(_cells(entry, zone)[column] for column in columns)) for entry in found
        )


def _within(
    entries: list[tuple[int, int]], wanted: Range, quirks: frozenset[str]
) -> list[tuple[int, int]]:
    first_s = wanted.first_s + ("start excluded" in quirks)
    return [entry for entry in entries if first_s <= entry[0] <= wanted.last_s]


def _cells(entry: tuple[int, int], zone: Zone) -> tuple[bytes, bytes]:
    return axdr.octets(zone.date_time(entry[0])), axdr.number(Tag.U8, entry[1])
