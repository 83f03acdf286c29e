"""The column codec: what went in comes out, kernel and twin agree, damage is typed."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext import column, column_pure

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
COUNTERS = st.lists(st.integers(0, 400), min_size=1, max_size=30).map(
    lambda steps: [5_000_000 + sum(steps[: i + 1]) for i in range(len(steps))]
)
RUN = st.one_of(
    st.lists(INT64, min_size=1, max_size=20),
    st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    st.builds(lambda value, count: [value] * count, INT64, st.integers(1, 40)),
    COUNTERS,
)
RUNS = st.lists(RUN, max_size=8)


def flat(runs: list[list[int]]) -> tuple[array[int], array[int]]:
    return array("q", [value for run in runs for value in run]), array("i", map(len, runs))


@given(RUNS)
def test_a_column_comes_back_as_it_went_in(runs: list[list[int]]) -> None:
    values, lengths = flat(runs)
    data = column.encode(values, lengths)
    assert column.decode(data, 0, lengths) == (values, len(data))


@given(RUNS)
def test_kernel_and_twin_write_the_same_bytes(runs: list[list[int]]) -> None:
    values, lengths = flat(runs)
    data = column.encode(values, lengths)
    assert column_pure.encode(values, lengths) == data
    assert column_pure.decode(data, 0, lengths) == (values, len(data))


@given(RUNS, st.binary(max_size=5), st.binary(max_size=5))
def test_a_column_is_read_from_the_middle_of_other_bytes(
    runs: list[list[int]], before: bytes, behind: bytes
) -> None:
    values, lengths = flat(runs)
    data = before + column.encode(values, lengths)
    assert column.decode(data + behind, len(before), lengths) == (values, len(data))


@settings(max_examples=400)
@given(st.binary(max_size=80), st.lists(st.integers(1, 50), max_size=5))
def test_any_bytes_give_the_announced_number_of_values_or_a_typed_error(
    data: bytes, counts: list[int]
) -> None:
    lengths = array("i", counts)
    results = []
    for codec in (column, column_pure):
        try:
            values, end = codec.decode(data, 0, lengths)
        except column.ColumnError as error:
            results.append(type(error))
            continue
        assert len(values) == sum(counts)
        assert end <= len(data)
        results.append((values, end))
    assert results[0] == results[1]


@given(RUNS.filter(bool), st.data())
def test_a_column_cut_short_is_damaged(runs: list[list[int]], draw: st.DataObject) -> None:
    values, lengths = flat(runs)
    data = column.encode(values, lengths)
    kept = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(column.ColumnDamaged):
        column.decode(data[:kept], 0, lengths)


def test_a_constant_column_costs_next_to_nothing() -> None:
    values, lengths = array("q", [2300] * 9600), array("i", [96] * 100)
    assert len(column.encode(values, lengths)) < 180


@pytest.mark.parametrize("codec", [column, column_pure])
@pytest.mark.parametrize("counts", [[2], [1, 0, 2], [-1, 4]])
def test_runs_that_do_not_describe_the_values_are_refused(codec: object, counts: list[int]) -> None:
    with pytest.raises(column.ColumnTooLarge):
        codec.encode(array("q", [1, 2, 3]), array("i", counts))  # type: ignore[attr-defined]
