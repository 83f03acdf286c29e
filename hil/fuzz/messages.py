"""What travels between agent and centre: CBOR, and the events of meters' logs in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from wire import cbor
from wire.events import Event, EventsError, decode_events, encode_events


def _events(data: bytes) -> None:
    """One set of events has one encoding: what is taken is what would be sent."""
    if encode_events(decode_events(data)) != data:
        raise Overgrown("taken, although it is not the one encoding of these events")


def _cbor(data: bytes) -> None:
    if cbor.encode(cbor.decode(data)) != data:
        raise Overgrown("taken, although it is not the one encoding of this value")


def _event_seeds() -> Sequence[bytes]:
    one = Event("m1", "LS0000001", "standard", 1_763_820_000, 3, "", 0)
    other = one._replace(log="fraud", at_utc_s=1_763_820_060, code=40, detail="magnet=1")
    more = [one._replace(at_utc_s=1_763_820_000 + 900 * step, code=step) for step in range(1, 40)]
    return [encode_events(events) for events in ([one], [one, other], [one, other, *more])]


def _cbor_seeds() -> Sequence[bytes]:
    values: list[cbor.Value] = [
        [0, -1, 23, 24, 65_536, 1 << 40],
        {1: b"key", 4: "text", 33: [b"a", b"b"]},
        cbor.Tagged([b"", {}, b"payload", b"signature"]),
        [[[["deep"]]]],
    ]
    return [*map(cbor.encode, values), *_event_seeds()]


def _costly(size: int) -> Sequence[bytes]:
    empty = b"\x82\x01\x99\x10\x00" + b"\x87\x60\x60\x60\x00\x00\x60\x00" * 4096
    return [empty[:size], b"\x99\x10\x00" + b"\x80" * 4096, b"\x81" * size]


DECODERS: Final = (
    Decoder("wire-cbor", _cbor, (cbor.CborError,), _cbor_seeds, _costly, 80, 256),
    Decoder("wire-events", _events, (EventsError,), _event_seeds, _costly, 80, 256),
)
