"""What meters' event logs said, as the plaintext of a batch of content EVENTS.

Deterministic CBOR: `[1, [[meter, serial, log, at, code, detail, n] ...]]`,
the entries in ascending order and none twice, so that a set of events has one
encoding. The decoder takes nothing else and never more than the bounds below.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from wire import cbor
from wire.unknown import NotKnownYet

MOST_EVENTS: Final = 1024
MOST_BYTES: Final = 128 * 1024
LARGEST_NUMBER: Final = (1 << 32) - 1
"""Of `at_utc_s` and `code`."""
_VERSION: Final = 1
_MOST_NAME_BYTES: Final = 255
_MOST_LOG_BYTES: Final = 64
_MOST_DETAIL_BYTES: Final = 1024
_LARGEST_N: Final = (1 << 16) - 1


class EventsError(ValueError):
    """Bytes that are not a batch of events, or events that none can hold."""


class UnknownEvents(EventsError, NotKnownYet):
    """Events of another version than this program reads."""


class Event(NamedTuple):
    """One entry of one event log; all fields together are its identity."""

    meter: str
    serial: str
    """Serial number that the meter told with the entry; empty where it tells none."""
    log: str
    """`standard`, `fraud`, `control`, `power_quality`, `agent`, or the meter class's own name."""
    at_utc_s: int
    """By the meter's clock, UTC s."""
    code: int
    detail: str
    n: int
    """Counts entries that agree in all else, from 0."""


def cut_detail(text: str) -> str:
    """`text` as long as `detail` may be."""
    return text.encode()[:_MOST_DETAIL_BYTES].decode(errors="ignore")


def encode_events(events: Iterable[Event]) -> bytes:
    """The one encoding of a set of events; raises EventsError for what it cannot hold."""
    ordered = sorted(set(events))
    _check_count(len(ordered))
    for event in ordered:
        check_event(event)
    data = cbor.encode([_VERSION, [list(event) for event in ordered]])
    if len(data) > MOST_BYTES:
        raise EventsError(f"{len(ordered)} events take {len(data)} bytes, allowed are {MOST_BYTES}")
    return data


def decode_events(data: bytes) -> list[Event]:
    """The events whose encoding is exactly `data`, ascending; raises EventsError."""
    if len(data) > MOST_BYTES:
        raise EventsError(f"{len(data)} bytes, allowed are {MOST_BYTES}")
    try:
        value = cbor.decode(data)
    except cbor.CborError as error:
        raise EventsError(f"not deterministic CBOR: {error}") from error
    match value:
        case [int(version), [*entries]] if version == _VERSION:
            pass
        case [int(version), *_] if version != _VERSION:
            raise UnknownEvents(f"events version {version}, this program reads {_VERSION}")
        case _:
            raise EventsError("expected a version and a list of events")
    _check_count(len(entries))
    events = [_event(entry) for entry in entries]
    if any(later <= earlier for earlier, later in pairwise(events)):
        raise EventsError("the events are not in ascending order, each once")
    return events


def check_event(event: Event) -> None:
    """Raises EventsError for an event that no batch can hold."""
    for name, text, least, most in (
        ("meter", event.meter, 1, _MOST_NAME_BYTES),
        ("serial", event.serial, 0, _MOST_NAME_BYTES),
        ("log", event.log, 1, _MOST_LOG_BYTES),
        ("detail", event.detail, 0, _MOST_DETAIL_BYTES),
    ):
        try:
            length = len(text.encode())
        except UnicodeEncodeError as error:
            raise EventsError(f"{name} {text!r}: is not Unicode text") from error
        if not least <= length <= most:
            raise EventsError(f"{name} of {length} bytes, expected {least} to {most}")
    for name, number, largest in (
        ("at_utc_s", event.at_utc_s, LARGEST_NUMBER),
        ("code", event.code, LARGEST_NUMBER),
        ("n", event.n, _LARGEST_N),
    ):
        if not 0 <= number <= largest:
            raise EventsError(f"{name} {number}, expected 0 to {largest}")


def _event(entry: cbor.Value) -> Event:
    match entry:
        case [
            str(meter),
            str(serial),
            str(log),
            int(at_utc_s),
            int(code),
            str(detail),
            int(n),
        ]:
            event = Event(meter, serial, log, at_utc_s, code, detail, n)
        case _:
            raise EventsError("an entry without the seven fields of an event")
    check_event(event)
    return event


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_EVENTS:
        raise EventsError(f"{count} events, expected 1 to {MOST_EVENTS}")
