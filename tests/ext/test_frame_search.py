"""The search for a Modbus answer: what it finds, and the kernel against its twin."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext import frame, frame_pure
from ext.checksum import crc16_modbus

SEARCHES = pytest.mark.parametrize("module", [frame, frame_pure])

# Few different bytes, so that heads, parts of heads and frames meet by chance.
lines = st.lists(st.sampled_from([0, 2, 4, 7, 0x84]), max_size=40).map(bytes)
heads = st.tuples(
    st.sampled_from([2, 4, 7]), st.sampled_from([3, 4]), st.sampled_from([2, 4, 160, 250])
)


def sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")


def answer(unit: int, function: int, byte_count: int) -> bytes:
    return sealed(bytes([unit, function, byte_count]) + bytes(byte_count))


def refusal(unit: int, function: int) -> bytes:
    return sealed(bytes([unit, function | 0x80, 2]))


@SEARCHES
@given(lines, lines)
def test_a_whole_answer_is_found_wherever_it_stands(
    module: ModuleType, before: bytes, after: bytes
) -> None:
    whole = answer(17, 3, 6)
    assert module.search(before + whole + after, 17, 3, 6) == (len(before), 11, 0)


@SEARCHES
def test_the_first_of_two_frames_is_found_whichever_kind_it_is(module: ModuleType) -> None:
    both = refusal(7, 4) + answer(7, 4, 4)
    assert module.search(both, 7, 4, 4) == (0, 5, 0)
    other = answer(7, 4, 4) + refusal(7, 4)
    assert module.search(other, 7, 4, 4) == (0, 9, 0)


@SEARCHES
@given(heads.filter(lambda head: head[0] != head[1]), st.data())
def test_a_begun_answer_misses_its_rest(
    module: ModuleType, head: tuple[int, int, int], data: st.DataObject
) -> None:
    whole = answer(*head)
    begun = whole[: data.draw(st.integers(2, len(whole) - 1))]
    assert module.search(begun, *head) == (-1, 0, len(whole) - len(begun))


@SEARCHES
@given(heads, st.integers(1, 4))
def test_a_begun_refusal_misses_its_rest(
    module: ModuleType, head: tuple[int, int, int], size: int
) -> None:
    unit, function, byte_count = head
    begun = refusal(unit, function)[:size]
    assert module.search(begun, unit, function, byte_count) == (-1, 0, 5 - size)


@SEARCHES
@given(st.binary(max_size=60).filter(lambda data: 7 not in data))
def test_where_nothing_has_begun_a_refusal_is_the_least_that_is_missing(
    module: ModuleType, noise: bytes
) -> None:
    assert module.search(noise, 7, 4, 160) == (-1, 0, 5)


@given(st.one_of(lines, st.binary(max_size=300)), heads, st.booleans(), st.data())
def test_the_kernel_and_its_twin_find_the_same(
    noise: bytes, head: tuple[int, int, int], as_bytearray: bool, data: st.DataObject
) -> None:
    unit, function, byte_count = head
    pieces = data.draw(
        st.lists(st.sampled_from([noise, answer(*head), refusal(unit, function)]), max_size=4)
    )
    line = noise + b"".join(pieces)
    cut = line[: data.draw(st.integers(0, len(line)))]
    buffer = bytearray(cut) if as_bytearray else cut
    found = frame.search(buffer, *head)
    assert found == frame_pure.search(buffer, *head)
    at, length, missing = found
    if at >= 0:
        assert missing == 0
        assert crc16_modbus(cut[at : at + length]) == 0
    else:
        assert 1 <= missing <= 5 + byte_count
