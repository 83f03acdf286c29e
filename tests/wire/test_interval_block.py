"""The interval block: round trips of any shape, limits before memory, typed refusals."""

from __future__ import annotations

import struct
import tracemalloc
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.checksum import crc32c
from wire.block import (
    Block,
    BlockDamaged,
    BlockError,
    BlockRow,
    BlockTooLarge,
    Roster,
    RosterEntry,
    UnknownRoster,
    UnknownSchema,
    decode_block,
    encode_block,
)
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA, SCHEMAS, Schema
from wire.quality import Quality
from wire.unknown import NotKnownYet

FIRST = 1_793_578_500
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def roster_of(count: int) -> Roster:
    return Roster(tuple(RosterEntry(f"m{i:06d}", f"4711{i:05d}", 0b111111) for i in range(count)))


def row(end: int, meter: int, *, flags: int = 0) -> BlockRow:
    return end, meter, [1000 + end % 97, 5, 700, 2300, 41, flags]


def read(data: bytes, roster: Roster) -> Block:
    return decode_block(data, lambda key: roster if key == roster.hash else None)


def rows_of(block: Block) -> list[tuple[int, int, list[int]]]:
    values = zip(*block.columns, strict=True)
    return [
        (end, meter, list(of_row))
        for end, meter, of_row in zip(block.end_utc_s, block.meter, values, strict=True)
    ]


def sealed_again(body: bytes) -> bytes:
    return body + crc32c(body).to_bytes(4, "big")


@st.composite
def ragged(draw: st.DrawFn) -> tuple[Schema, Roster, list[BlockRow]]:
    schema = draw(st.sampled_from([PROFILE_SCHEMA, SAMPLED_SCHEMA]))
    cells = st.tuples(st.integers(0, 11), st.integers(0, 15))
    rows: list[BlockRow] = []
    for meter, step in draw(st.lists(cells, min_size=1, max_size=40, unique=True)):
        values = draw(
            st.lists(st.one_of(st.integers(0, 3000), INT64),
                     min_size=len(schema.channels) - 1, max_size=len(schema.channels) - 1)
        )  # fmt: skip
        rows.append((FIRST + 900 * step, meter, [*values, draw(st.sampled_from([0, 2, 6]))]))
    return schema, roster_of(12), rows


@given(ragged(), st.booleans())
def test_rows_of_any_shape_come_back(
    case: tuple[Schema, Roster, list[BlockRow]], with_roster: bool
) -> None:
    schema, roster, rows = case
    data = encode_block(schema, roster, rows, with_roster=with_roster)
    block = decode_block(data, lambda key: None) if with_roster else read(data, roster)
    assert (block.schema, block.roster, block.carries_roster) == (schema, roster, with_roster)
    expected = sorted(rows, key=lambda one: (one[1], one[0]))
    assert rows_of(block) == [(end, meter, list(values)) for end, meter, values in expected]


def test_the_order_of_rows_does_not_change_a_byte() -> None:
    rows = [row(FIRST + 900 * step, meter) for step in range(4) for meter in range(3)]
    roster = roster_of(3)
    there = encode_block(PROFILE_SCHEMA, roster, rows, with_roster=True)
    assert encode_block(PROFILE_SCHEMA, roster, rows[::-1], with_roster=True) == there


@given(st.integers(1, 90))
def test_values_of_missing_rows_cost_next_to_nothing(step: int) -> None:
    rows = [row(FIRST + 900 * i, 0) for i in range(96)]
    end, meter, values = rows[step]
    rows[step] = (end, meter, [-(1 << 62)] * (len(values) - 1) + [int(Quality.NO_DATA)])
    plain = [*rows]
    plain[step] = row(end, 0, flags=int(Quality.NO_DATA))
    roster = roster_of(1)
    size = len(encode_block(PROFILE_SCHEMA, roster, rows, with_roster=False))
    assert size <= len(encode_block(PROFILE_SCHEMA, roster, plain, with_roster=False)) + 8


@settings(max_examples=300)
@given(ragged(), st.data())
def test_a_flipped_bit_is_damage(
    case: tuple[Schema, Roster, list[BlockRow]], draw: st.DataObject
) -> None:
    schema, roster, rows = case
    data = bytearray(encode_block(schema, roster, rows, with_roster=True))
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at >> 3] ^= 1 << (at & 7)
    with pytest.raises(BlockDamaged if at >> 3 else UnknownSchema):
        read(bytes(data), roster)


@settings(max_examples=300)
@given(ragged(), st.data())
def test_changed_bytes_under_a_right_checksum_give_a_block_or_a_typed_error(
    case: tuple[Schema, Roster, list[BlockRow]], draw: st.DataObject
) -> None:
    schema, roster, rows = case
    body = bytearray(encode_block(schema, roster, rows, with_roster=draw.draw(st.booleans()))[:-4])
    for _ in range(draw.draw(st.integers(1, 4))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    try:
        block = read(sealed_again(bytes(body)), roster)
    except BlockError:
        return
    assert all(len(column) == len(block.end_utc_s) for column in block.columns)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    with pytest.raises(BlockError):
        read(sealed_again(data), roster_of(3))


def test_a_block_that_announces_too_much_is_refused_before_memory_is_taken() -> None:
    roster = roster_of(4096)
    head = struct.pack(">BBHHIH8s", 1, 2 | 4, 2, 900, FIRST // 900, 1024, roster.hash)
    data = sealed_again(head + bytes(64))
    tracemalloc.start()
    with pytest.raises(BlockTooLarge):
        read(data, roster)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_an_unknown_schema_and_an_unknown_roster_are_told_apart() -> None:
    roster = roster_of(2)
    data = encode_block(PROFILE_SCHEMA, roster, [row(FIRST, 0)], with_roster=False)
    with pytest.raises(UnknownRoster):
        decode_block(data, lambda key: None)
    body = bytearray(data[:-4])
    body[2:4] = (max(SCHEMAS) + 1).to_bytes(2, "big")
    with pytest.raises(UnknownSchema):
        read(sealed_again(bytes(body)), roster)


@pytest.mark.parametrize(("at", "value"), [(0, 2), (1, 8 | 7), (2, 0x7F)])
def test_what_a_later_program_writes_is_told_apart_from_damage(at: int, value: int) -> None:
    """Block version, the reserved mode, a schema."""
    roster = roster_of(2)
    rows = [row(FIRST, 0), row(FIRST, 1)]
    body = bytearray(encode_block(PROFILE_SCHEMA, roster, rows, with_roster=True)[:-4])
    body[at] = value
    with pytest.raises(NotKnownYet):
        read(sealed_again(bytes(body)), roster)


def test_a_later_versions_block_needs_no_checksum_of_this_one() -> None:
    with pytest.raises(NotKnownYet):
        read(b"\x02" + bytes(40), roster_of(1))


def test_bits_behind_a_bitmaps_end_and_bytes_behind_the_last_column_are_refused() -> None:
    roster = roster_of(3)
    body = encode_block(PROFILE_SCHEMA, roster, [row(FIRST, 0)], with_roster=False)[:-4]
    head = struct.calcsize(">BBHHIH8s")
    assert body[head] == 0b1000_0000
    spoilt = body[:head] + b"\x81" + body[head + 1 :]
    for data, why in ((spoilt, "past its end"), (body + b"\0", "follow the last column")):
        with pytest.raises(BlockDamaged, match=why):
            read(sealed_again(data), roster)


def test_a_block_without_rows_is_refused() -> None:
    head = struct.pack(">BBHHIH8s", 1, 0, 1, 900, FIRST // 900, 1, roster_of(3).hash)
    with pytest.raises(BlockDamaged, match="no meter"):
        read(sealed_again(head + b"\0" + b"\0" * 6), roster_of(3))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(FIRST, 0), row(FIRST, 0)],
        [row(FIRST + 1, 0)],
        [row(FIRST, 2)],
        [(FIRST, 0, [1, 2, 3])],
        [row(FIRST, 0), row(FIRST + 900 * 1024, 0)],
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: list[BlockRow]) -> None:
    with pytest.raises(BlockError):
        encode_block(PROFILE_SCHEMA, roster_of(2), rows, with_roster=False)


def test_columns_have_the_types_that_numpy_reads_without_a_copy() -> None:
    roster = roster_of(1)
    data = encode_block(PROFILE_SCHEMA, roster, [row(FIRST, 0)], with_roster=False)
    block = read(data, roster)
    types = [part.typecode for part in (block.end_utc_s, block.meter, *block.columns)]
    assert types == ["q", "H", *"q" * len(block.columns)]
    assert isinstance(block.end_utc_s, array)
