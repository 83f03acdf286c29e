"""Habits by which real meters differ from the standard or from each other, each by a name.

Source of most: foreign servers and meters tried by hand; some are told on
their makers' pages. A meter of the bench has any set of them.
"""

from __future__ import annotations

from typing import Final

QUIRKS: Final[dict[str, str]] = {
    "UA without parameters": "UA to SNRM has no information field: 128 bytes, window 1",
    "UA of one-byte values": "its sizes and windows have one byte each, so sizes end at 255",
    "UA of two-byte values": "its windows have two bytes instead of four",
    "FRMR until reset": "a link with a frame out of turn answers FRMR until SNRM or DISC",
    "UA with parameters to DISC": "UA to DISC has an information field",
    "RLRE of a wrong length": "its BER length is one too many",
    "RLRQ refused": "RLRQ is answered by an exception-response",
    "empty last block": "an answer that fits comes in two blocks, the second one empty",
    "tail after value": "bytes follow the value in a GET response",
    "counter error as deciphering error": "it does not say that a counter was too low",
    "silent to low counters": "a request with a counter that does not rise gets no answer",
    "range refused": "selection by range is not offered",
    "range empty": "selection by range finds nothing",
    "range ignored": "selection by range gives the whole buffer",
    "whole hours": "a range begins and ends at whole hours, inwards",
    "start excluded": "the row at the first stamp of a range is left out",
    "entry refused": "selection by entry is not offered",
    "newest first": "the buffer begins with its newest row",
    "null clocks": "a row that follows its predecessor by one period has a null clock",
    "null values": "a value that equals the one above it is null",
    "compact array": "rows come as a compact array",
    "deltas": "energy columns hold the energy of the interval",
    "status of two bytes": "the status column is a 16-bit word, its low byte as IDIS has it",
    "status of four bytes": "the status column is a 32-bit word, its low byte as IDIS has it",
    "status as bits": "the status column is a bit string of 8 bits, bit 0 first as in A-XDR",
    "clock last": "the clock is the last column of the load profile, not the first",
    "inverted deviation": "the deviation counts the other way: +60 for UTC+01:00",
    "no deviation": "the deviation is not specified, times are local standard time",
}


def check_quirks(quirks: frozenset[str]) -> None:
    """Raises ValueError for a habit that no meter here has."""
    unknown = sorted(quirks - QUIRKS.keys())
    if unknown:
        raise ValueError(
            f"no such quirk: {', '.join(unknown)}; there are {', '.join(sorted(QUIRKS))}"
        )
