"""Requests of least bus time."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.modbus.planner import Field, Limits, LineCost, UnplannableField, bus_time_s, plan
from agent.modbus.profile import models, shipped

COST = LineCost(11 / 9600)

fields = st.lists(
    st.builds(Field, st.integers(0, 300), st.sampled_from([1, 2, 4])), min_size=1, max_size=7
)


def cheapest_of_all_cuts(wanted: list[Field], limits: Limits) -> float:
    ordered = sorted(set(wanted), key=lambda f: (f.address, f.words))
    best = float("inf")
    for cuts in range(len(ordered)):
        for places in combinations(range(1, len(ordered)), cuts):
            bounds = [0, *places, len(ordered)]
            counts = [
                max(f.end for f in ordered[a:b]) - ordered[a].address for a, b in pairwise(bounds)
            ]
            if max(counts) <= limits.max_registers:
                best = min(best, sum(COST.of(count) for count in counts))
    return best


def test_the_cost_of_a_read_is_the_line_formulas() -> None:
    # Worked by hand for 11-bit characters: 9600 Bd, 80 registers, 40 ms turnaround: 246 ms.
    assert COST.of(80) == pytest.approx(0.246, abs=0.001)
    assert LineCost(11 / 115200).of(2) == pytest.approx(0.0451, abs=0.0001)


@given(fields, st.integers(4, 125))
def test_no_cut_of_the_fields_is_cheaper(wanted: list[Field], largest: int) -> None:
    limits = Limits(largest)
    reads = plan(wanted, COST, limits)
    assert bus_time_s(reads, COST) == pytest.approx(cheapest_of_all_cuts(wanted, limits))


@given(fields, st.integers(4, 125), st.sampled_from([1, 2]), st.sets(st.integers(0, 310)))
def test_every_plan_keeps_the_meters_limits(
    wanted: list[Field], largest: int, align: int, barriers: set[int]
) -> None:
    limits = Limits(largest - largest % 4, align, tuple(barriers))
    try:
        reads = plan(wanted, COST, limits)
    except UnplannableField:
        assert any(
            f.address <= b < f.address + -(-f.words // align) * align
            for f in wanted
            for b in barriers
        )
        return
    for read in reads:
        assert read.count <= limits.max_registers
        assert read.count % align == 0
        assert not barriers & set(range(read.address, read.address + read.count))
    for field in wanted:
        assert any(r.address <= field.address and field.end <= r.address + r.count for r in reads)


def test_a_hole_is_read_across_only_while_it_is_cheaper_than_another_request() -> None:
    near = [Field(0, 2), Field(2 + 26, 2)]
    far = [Field(0, 2), Field(2 + 29, 2)]
    assert len(plan(near, COST, Limits())) == 1
    assert len(plan(far, COST, Limits())) == 2


def test_successive_reads_differ_in_count_where_the_fields_allow_it() -> None:
    wanted = [Field(0, 2), Field(1000, 4), Field(2000, 2)]
    counts = [read.count for read in plan(wanted, COST, Limits())]
    assert counts == [2, 4, 2]


@pytest.mark.parametrize("model", models())
def test_every_shipped_profile_can_be_planned(model: str) -> None:
    profile = shipped(model)
    reads = plan({r.field for rs in profile.sample.values() for r in rs}, COST, profile.limits)
    assert reads
