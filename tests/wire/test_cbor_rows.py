"""Rows as plain CBOR: the same rows as a block says, one encoding, everything else refused."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor
from wire.block import (
    Block,
    BlockDamaged,
    BlockError,
    BlockRow,
    BlockTooLarge,
    UnknownSchema,
    decode_block,
    encode_block,
)
from wire.cbor_rows import decode_rows, encode_rows
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA, Schema
from wire.roster import Roster, RosterEntry

FIRST = 1_793_578_500
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
Said = set[tuple[str, str, int, tuple[int, ...]]]


def said(block: Block) -> Said:
    """What a block says of channels that its meters have."""
    found: Said = set()
    for end, meter, *values in zip(block.end_utc_s, block.meter, *block.columns, strict=True):
        entry = block.roster.entries[meter]
        known = [v for i, v in enumerate(values[:-1]) if entry.channels >> i & 1]
        found.add((entry.meter, entry.serial, end, (*known, values[-1])))
    return found


@st.composite
def told(draw: st.DrawFn) -> tuple[Schema, Roster, list[BlockRow]]:
    schema = draw(st.sampled_from([PROFILE_SCHEMA, SAMPLED_SCHEMA]))
    count = len(schema.channels)
    names = st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8))
    meters = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    masks = st.integers(0, (1 << count) - 1)
    roster = Roster(tuple(RosterEntry(name, serial, draw(masks)) for name, serial in meters))
    cells = st.tuples(st.integers(0, len(meters) - 1), st.integers(0, 20))
    values = st.lists(INT64, min_size=count, max_size=count)
    rows = [
        (FIRST + 900 * step, meter, draw(values))
        for meter, step in draw(st.lists(cells, min_size=1, max_size=12, unique=True))
    ]
    return schema, roster, rows


@given(told())
def test_rows_say_what_a_block_of_them_says_where_they_have_channels(
    made: tuple[Schema, Roster, list[BlockRow]],
) -> None:
    schema, roster, rows = made
    # NO_DATA and NO_GAUGES let a block forget values; plain rows keep what they were given.
    rows = [(end, meter, [*values[:-1], values[-1] & ~0x1001]) for end, meter, values in rows]
    block = decode_rows(encode_rows(schema, roster, rows))
    whole = decode_block(encode_block(schema, roster, rows, with_roster=True), lambda key: None)
    assert said(block) == said(whole)
    assert (block.schema, block.interval_s) == (schema, 900)


@given(told())
def test_a_set_of_rows_has_one_encoding_which_any_cbor_library_reads(
    made: tuple[Schema, Roster, list[BlockRow]],
) -> None:
    schema, roster, rows = made
    data = encode_rows(schema, roster, rows)
    assert encode_rows(schema, roster, rows[::-1]) == data
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


@settings(max_examples=150)
@given(told(), st.data())
def test_damage_gives_a_typed_error_or_the_one_encoding_of_other_rows(
    made: tuple[Schema, Roster, list[BlockRow]], draw: st.DataObject
) -> None:
    data = bytearray(encode_rows(*made))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        block = decode_rows(bytes(data))
    except BlockError:
        return
    rows = [
        (end, meter, values)
        for end, meter, *values in zip(block.end_utc_s, block.meter, *block.columns, strict=True)
    ]
    assert encode_rows(block.schema, block.roster, rows, interval_s=block.interval_s) == data


ROW: list[cbor.Value] = [FIRST, 7, 0]
METER: list[cbor.Value] = ["m1", "s1", 1, [ROW]]


def message(*meters: cbor.Value, interval_s: int = 900) -> cbor.Value:
    return [1, 1, interval_s, list(meters)]


@pytest.mark.parametrize(
    ("value", "error", "why"),
    [
        ([2, 1, 900, [METER]], UnknownSchema, "rows version 2"),
        ([2, "of a later form"], UnknownSchema, "rows version 2"),
        ([1, 77, 900, [METER]], UnknownSchema, "schema 77"),
        (5, BlockDamaged, "expected version"),
        ([1, 1, 900], BlockDamaged, "expected version"),
        (message(), BlockDamaged, "0 meters"),
        (message(METER, interval_s=0), BlockDamaged, "interval of 0 s"),
        (message(METER, METER), BlockDamaged, "meters do not ascend"),
        (message(["z", "", 1, [ROW]], METER), BlockDamaged, "meters do not ascend"),
        (message(["m1", "s1", 1, []]), BlockDamaged, "at least one row"),
        (message(["", "s1", 1, [ROW]]), BlockDamaged, "name and serial"),
        (message(["m" * 256, "s1", 1, [ROW]]), BlockDamaged, "name and serial"),
        (message(["m1", "s1", 1 << 5, [ROW]]), BlockDamaged, "channels 0x20"),
        (message(["m1", "s1", -1, [ROW]]), BlockDamaged, "channels"),
        (message(["m1", "s1", 1, [ROW, ROW]]), BlockDamaged, "rows do not ascend"),
        (message(["m1", "s1", 1, [[FIRST, 7, 7, 0]]]), BlockDamaged, "expected an end, 1 values"),
        (message(["m1", "s1", 1, [[FIRST, "7", 0]]]), BlockDamaged, "all integers"),
        (message(["m1", "s1", 1, [7]]), BlockDamaged, "expected an end"),
        (message(["m1", "s1", 1, [[FIRST + 1, 7, 0]]]), BlockDamaged, "not on an edge"),
        (message(["m1", "s1", 1, [[-900, 7, 0]]]), BlockDamaged, "not on an edge"),
        (message(["m1", "s1", 1, [[FIRST, 1 << 63, 0]]]), BlockDamaged, "does not fit 64 bits"),
        (
            message(["m1", "s1", 1, [ROW, [FIRST + 900 * 1024, 7, 0]]]),
            BlockTooLarge,
            "1025 intervals",
        ),
    ],
)
def test_any_other_form_is_refused_and_said_why(
    value: cbor.Value, error: type[BlockError], why: str
) -> None:
    with pytest.raises(error, match=why):
        decode_rows(cbor.encode(value))


def test_no_message_is_larger_than_its_bound() -> None:
    with pytest.raises(BlockTooLarge, match="allowed are"):
        decode_rows(bytes(128 * 1024 + 1))
    roster = Roster(tuple(RosterEntry(f"m{i:04}", "s" * 60, 0b11111) for i in range(2000)))
    rows = [(FIRST, i, [1, 2, 3, 4, 5, 0]) for i in range(2000)]
    with pytest.raises(BlockTooLarge, match="allowed are"):
        encode_rows(PROFILE_SCHEMA, roster, rows)
