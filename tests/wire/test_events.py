"""A set of events has one encoding, and nothing else decodes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import cbor
from wire.events import (
    LARGEST_NUMBER,
    MOST_EVENTS,
    Event,
    EventsError,
    cut_detail,
    decode_events,
    encode_events,
)

NUMBERS = st.integers(0, LARGEST_NUMBER)
EVENTS = st.builds(
    Event,
    st.text(min_size=1, max_size=60),
    st.text(max_size=60),
    st.sampled_from(["standard", "fraud", "control", "power_quality", "ö"]),
    NUMBERS,
    NUMBERS,
    st.text(max_size=200),
    st.integers(0, 65_535),
)
ONE = Event("m1", "A1", "standard", 1_767_225_600, 255, "threshold=3", 0)


@given(st.lists(EVENTS, min_size=1, max_size=20))
def test_events_come_back_each_once_in_one_order(events: list[Event]) -> None:
    data = encode_events(events)
    assert decode_events(data) == sorted(set(events))
    assert encode_events(reversed(events)) == data


def entry(**other: object) -> list[cbor.Value]:
    return list(ONE._replace(**other))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, []], "0 events"),
        ([1, [entry()] * 2], "ascending"),
        ([1, [entry(meter="z"), entry()]], "ascending"),
        ([1, [entry(n=n) for n in range(MOST_EVENTS + 1)]], "expected 1 to"),
        ([2, [entry()]], "version 2"),
        ([1], "expected a version"),
        ([1, [entry()], 0], "expected a version"),
        ([1, [entry()[:-1]]], "seven fields"),
        ([1, [entry(code="5")]], "seven fields"),
        ([1, [entry(code=-1)]], "code -1"),
        ([1, [entry(at_utc_s=1 << 32)]], "at_utc_s"),
        ([1, [entry(n=1 << 16)]], "n 65536"),
        ([1, [entry(meter="")]], "meter of 0 bytes"),
        ([1, [entry(log="l" * 65)]], "log of 65 bytes"),
        ([1, [entry(detail="d" * 1025)]], "detail of 1025 bytes"),
        (5, "expected a version"),
    ],
)
def test_any_other_form_is_refused_and_said_why(value: cbor.Value, why: str) -> None:
    with pytest.raises(EventsError, match=why):
        decode_events(cbor.encode(value))


def test_no_batch_is_larger_than_its_bound() -> None:
    details = [f"{number:04}" + "x" * 1000 for number in range(200)]
    with pytest.raises(EventsError, match="allowed are"):
        encode_events(ONE._replace(detail=detail) for detail in details)
    with pytest.raises(EventsError, match="allowed are"):
        decode_events(bytes(128 * 1024 + 1))


def test_ten_thousand_damaged_batches_give_events_or_a_typed_error() -> None:
    # A damaged batch may still be one; then it must be the encoding of what came out.
    dice = random.Random(7)
    whole = encode_events([ONE._replace(n=n, detail="x" * n) for n in range(12)])
    refused = 0
    for _ in range(10_000):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            match dice.randrange(3):
                case 0:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                case 1:
                    del data[dice.randrange(len(data)) :][: dice.randint(1, 9)]
                case _:
                    at = dice.randrange(len(data))
                    data[at:at] = dice.randbytes(dice.randint(1, 5))
            data = data or bytearray(b"\0")
        try:
            events = decode_events(bytes(data))
        except EventsError:
            refused += 1
            continue
        assert encode_events(events) == data
    assert refused > 5_000


@given(st.text(max_size=2000))
def test_a_long_detail_is_cut_between_letters(text: str) -> None:
    kept = cut_detail(text)
    assert text.startswith(kept)
    assert decode_events(encode_events([ONE._replace(detail=kept)]))[0].detail == kept
