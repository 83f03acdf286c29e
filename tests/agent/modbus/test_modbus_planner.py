"""Requests of least bus time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.modbus.planner import (
    Field,
    Limits,
    LineCost,
    Read,
    Span,
    UnplannableField,
    bus_time_s,
    plan,
    split,
)
from agent.modbus.profile import models, shipped

COST = LineCost(11 / 9600)

fields = st.lists(
    st.builds(Field, st.integers(0, 120), st.sampled_from([1, 2, 4])), min_size=1, max_size=6
)
costs = st.builds(
    LineCost,
    st.sampled_from([11 / 2400, 11 / 9600, 11 / 19200, 11 / 115200]),
    st.sampled_from([0.0, 0.005, 0.04, 0.5]),
    st.sampled_from([0.0, 0.004, 0.1]),
)
limits_of_meters = st.builds(
    lambda most, align, barriers, refused: Limits(
        most - most % align,
        align,
        tuple(barriers),
        tuple(Span(at, at + length) for at, length in refused),
    ),
    st.integers(4, 125),
    st.sampled_from([1, 2]),
    st.sets(st.integers(0, 130), max_size=3),
    st.sets(st.tuples(st.integers(0, 110), st.integers(5, 20)), max_size=2),
)


def partitions(items: Sequence[Field]) -> Iterator[list[list[Field]]]:
    """Every way to put `items` into groups, whatever their order."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        for place, group in enumerate(rest):
            yield [*rest[:place], [items[0], *group], *rest[place + 1 :]]
        yield [[items[0]], *rest]


def shortest_count(group: list[Field], limits: Limits) -> int | None:
    """Registers of the shortest request for all of `group`; None if there is none."""
    first, end = min(f.address for f in group), max(f.end for f in group)
    if len(group) > 1 and any(first <= s.address and s.end <= end for s in limits.refused):
        return None
    count = end - first
    while count % limits.align:
        count += 1
    if count > limits.max_registers:
        return None
    for start in range(max(0, end - count), first + 1):
        asked = range(start, start + count)
        if asked.stop <= 65536 and not any(barrier in asked for barrier in limits.barriers):
            return count
    return None


def cheapest_of_all_groupings(wanted: list[Field], cost: LineCost, limits: Limits) -> float | None:
    best: float | None = None
    for groups in partitions(sorted(set(wanted), key=lambda f: (f.address, f.words))):
        counts = [shortest_count(group, limits) for group in groups]
        if None in counts:
            continue
        spent_s = sum(cost.of(count) for count in counts if count is not None)
        spent_s += (len(counts) - 1) * cost.between_s
        best = spent_s if best is None else min(best, spent_s)
    return best


def test_the_cost_of_a_read_is_the_line_formulas() -> None:
    # Worked by hand for 11-bit characters: 9600 Bd, 80 registers, 40 ms turnaround: 246 ms.
    assert COST.of(80) == pytest.approx(0.246, abs=0.001)
    assert LineCost(11 / 115200).of(2) == pytest.approx(0.0451, abs=0.0001)


def test_a_meters_own_pause_takes_the_place_of_the_silence_before_its_next_read() -> None:
    cost = LineCost(11 / 9600, gap_s=0.1)
    reads = (Read(0, 2, (Field(0, 2),)), Read(60, 2, (Field(60, 2),)))
    # 100 ms of pause hold the 4 ms of silence that the formula has already.
    assert bus_time_s(reads, cost) == pytest.approx(2 * COST.of(2) + 0.1 - 3.5 * 11 / 9600)
    assert bus_time_s(reads[:1], cost) == COST.of(2)


@given(fields, costs, limits_of_meters)
def test_no_grouping_of_the_fields_is_cheaper(
    wanted: list[Field], cost: LineCost, limits: Limits
) -> None:
    cheapest_s = cheapest_of_all_groupings(wanted, cost, limits)
    if cheapest_s is None:
        with pytest.raises(UnplannableField):
            plan(wanted, cost, limits)
        return
    assert bus_time_s(plan(wanted, cost, limits), cost) == pytest.approx(cheapest_s)


@given(fields, costs, limits_of_meters)
def test_every_plan_keeps_the_meters_limits(
    wanted: list[Field], cost: LineCost, limits: Limits
) -> None:
    try:
        reads = plan(wanted, cost, limits)
    except UnplannableField:
        return
    for read in reads:
        asked = range(read.address, read.address + read.count)
        assert len(asked) <= limits.max_registers
        assert len(asked) % limits.align == 0
        assert asked.start >= 0
        assert asked.stop <= 65536
        assert not set(limits.barriers) & set(asked)
        for field in read.fields:
            assert field.address in asked
            assert field.end - 1 in asked
    assert Counter(f for r in reads for f in r.fields) == Counter(set(wanted))


def test_what_fills_up_to_an_even_count_keeps_clear_of_a_barrier() -> None:
    (read,) = plan([Field(10, 1)], COST, Limits(align=2, barriers=(11,)))
    assert (read.address, read.count) == (9, 2)
    (last,) = plan([Field(65535, 1)], COST, Limits(align=2))
    assert (last.address, last.count) == (65534, 2)


def test_a_value_longer_than_the_meter_sends_is_named() -> None:
    with pytest.raises(UnplannableField, match="4 registers from 7: expected at most 2"):
        plan([Field(7, 4)], COST, Limits(2))


def test_a_hole_is_read_across_only_while_it_is_cheaper_than_another_request() -> None:
    near = [Field(0, 2), Field(2 + 26, 2)]
    far = [Field(0, 2), Field(2 + 29, 2)]
    assert len(plan(near, COST, Limits())) == 1
    assert len(plan(far, COST, Limits())) == 2


def test_a_pause_that_the_meter_needs_makes_longer_holes_worth_reading() -> None:
    far = [Field(0, 2), Field(2 + 60, 2)]
    assert len(plan(far, COST, Limits())) == 2
    assert len(plan(far, LineCost(11 / 9600, gap_s=0.1), Limits())) == 1


def test_nothing_that_was_refused_whole_is_asked_whole_again() -> None:
    wanted = [Field(at, 2) for at in (0, 2, 4, 6)]
    (once,) = plan(wanted, COST, Limits())
    left, right = split(once, Limits())
    assert (left.count, right.count) == (4, 4)
    again = plan(wanted, COST, Limits(refused=(Span(2, 6),)))
    assert sorted(read.count for read in again) == [2, 6] or [r.count for r in again] == [4, 4]
    assert all(not (r.address <= 2 and r.address + r.count >= 6) for r in again)


def equal_neighbours(counts: Sequence[int]) -> int:
    """Pairs of successive reads with one count, the next round's first read included."""
    return sum(a == b for a, b in pairwise([*counts, counts[0]]))


@given(st.lists(st.sampled_from([1, 2, 4]), min_size=2, max_size=6))
def test_no_order_tells_more_of_the_successive_reads_apart(widths: list[int]) -> None:
    far_apart = [Field(1000 * place, width) for place, width in enumerate(widths)]
    counts = [read.count for read in plan(far_apart, COST, Limits())]
    assert sorted(counts) == sorted(widths)
    assert equal_neighbours(counts) == min(
        equal_neighbours(order) for order in permutations(widths)
    )


@pytest.mark.parametrize(
    ("baud", "most_ms"), [(9600, 5000), (19200, 3223), (115200, 1767)], ids=["9600", "19200", "115"]
)
def test_all_values_of_the_16_meters_take_no_longer_than_the_exact_plan_once_took(
    baud: int, most_ms: int
) -> None:
    """Limits: an exact plan over the same maps, 11-bit characters, 40 ms turnaround, no pause."""
    cost = LineCost(11 / baud)
    spent_s = 0.0
    for model in models():
        profile = shipped(model)
        reads = plan({r.field for r in profile.registers}, cost, profile.limits)
        spent_s += bus_time_s(reads, cost)
    assert len(models()) == 16
    assert spent_s * 1000 <= most_ms + 0.5


@pytest.mark.parametrize("model", models())
def test_every_shipped_profile_can_be_planned(model: str) -> None:
    profile = shipped(model)
    reads = plan({r.field for rs in profile.sample.values() for r in rs}, COST, profile.limits)
    assert reads


@pytest.mark.parametrize("baud", [2400, 9600, 19200, 115200])
def test_no_shipped_model_is_asked_twice_in_a_row_for_the_same_number_of_registers(
    baud: int,
) -> None:
    for model in models():
        profile = shipped(model)
        cost = LineCost(11 / baud, profile.turnaround_s, profile.gap_s)
        fields_of_a_sample = {r.field for rs in profile.sample.values() for r in rs}
        counts = [read.count for read in plan(fields_of_a_sample, cost, profile.limits)]
        assert len(counts) == 1 or equal_neighbours(counts) == 0, model
