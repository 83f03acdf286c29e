"""A simulated meter's event logs: a few entries of clock and code, the oldest overwritten.

Codes after IDIS package 2, table of events; from memory, not checked against its text.
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
from hil.meters.dlms.selection import (
    Captured,
    Entries,
    Malformed,
    capture_objects,
    parse,
    sort_method,
)

POWER_DOWN: Final = ("standard", 1)
POWER_UP: Final = ("standard", 2)
CLOCK_ADJUSTED_FROM: Final = ("standard", 4)
CLOCK_ADJUSTED_TO: Final = ("standard", 5)
TERMINAL_COVER_REMOVED: Final = ("fraud", 40)
TERMINAL_COVER_CLOSED: Final = ("fraud", 41)
STRONG_DC_FIELD: Final = ("fraud", 42)
METER_COVER_REMOVED: Final = ("fraud", 44)
METER_COVER_CLOSED: Final = ("fraud", 45)
REMOTE_DISCONNECTION: Final = ("control", 62)
REMOTE_CONNECTION: Final = ("control", 63)
VOLTAGE_SAG_L1: Final = ("power_quality", 76)
VOLTAGE_SWELL_L1: Final = ("power_quality", 79)
VOLTAGE_CUT_L1: Final = ("power_quality", 82)
VOLTAGE_NORMAL_L1: Final = ("power_quality", 85)
"""Log and code."""
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
            5: sort_method(quirks),
            7: axdr.number(Tag.U32, len(self.entries)),
            8: axdr.number(Tag.U32, self.kept),
        }
        if index in plain and not selection:
            return SUCCESS, plain[index]
        return UNDEFINED, b""

    def _buffer(
        self, selection: bytes, zone: Zone, quirks: frozenset[str], captured: Captured
    ) -> tuple[int, bytes]:
        try:
            wanted = parse(selection, zone, captured, quirks)
        except Malformed:
            return OTHER_REASON, b""
        found = list(self.entries)
        if "newest first" in quirks:
            found.reverse()
        if isinstance(wanted, Entries):
            found = wanted.of(found)
        else:
            first_s, last_s = wanted.bounds(quirks)
            found = [entry for entry in found if first_s <= entry[0] <= last_s]
        return SUCCESS, axdr.array(
            axdr.structure(*(_cells(entry, zone)[column] for column in wanted.columns))
            for entry in found
        )


def _cells(entry: tuple[int, int], zone: Zone) -> tuple[bytes, bytes]:
    return axdr.octets(zone.date_time(entry[0])), axdr.number(Tag.U8, entry[1])
