"""Closing intervals from samples: exact at the edges, nothing invented, twins alike."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext import aggregate, aggregate_form, aggregate_pure
from hil.bench.aggregate import INTERVAL_MS, close_with_numpy, make_samples, same
from wire.quality import Quality

MIN = 60_000
KERNELS = pytest.mark.parametrize("kernel", [aggregate.Aggregator, aggregate_pure.Aggregator])

STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 200_000), st.sampled_from([MIN, INTERVAL_MS, 2_000_000])),
        st.integers(-3, 5000),
        st.integers(-(1 << 39), 1 << 39),
    ),
    min_size=1,
    max_size=60,
)


def walked(steps: list[tuple[int, int, int]]) -> tuple[array[int], array[int], array[int]]:
    at, register = 1_793_577_600_000, 1_000_000
    times, registers, gauges = array("q"), array("q"), array("q")
    for apart_ms, energy, gauge in steps:
        at, register = at + apart_ms, register + energy
        times.append(at)
        registers.append(register)
        gauges.append(gauge)
    return times, registers, gauges


@given(STEPS)
def test_kernel_and_twin_close_the_same_intervals(steps: list[tuple[int, int, int]]) -> None:
    feed = walked(steps)
    ours = aggregate.Aggregator(1, 1).push_many(*feed)
    assert ours == aggregate_pure.Aggregator(1, 1).push_many(*feed)
    one_by_one = aggregate.Aggregator(1, 1)
    pushed = [
        closed
        for at, register, gauge in zip(*feed, strict=True)
        for closed in one_by_one.push(at, [register], [gauge])
    ]
    assert pushed == ours


@given(STEPS)
def test_every_edge_between_first_and_last_sample_comes_out_once(
    steps: list[tuple[int, int, int]],
) -> None:
    times, registers, gauges = walked(steps)
    closed = aggregate.Aggregator(1, 1).push_many(times, registers, gauges)
    first = (times[0] // INTERVAL_MS + 1) * INTERVAL_MS
    assert [one.end_utc_ms for one in closed] == list(range(first, times[-1] + 1, INTERVAL_MS))


@given(STEPS)
def test_an_edge_lies_between_the_samples_around_it_unless_the_counter_fell(
    steps: list[tuple[int, int, int]],
) -> None:
    times, registers, gauges = walked(steps)
    for one in aggregate.Aggregator(1, 1).push_many(times, registers, gauges):
        if one.missing or one.flags & Quality.COUNTER_RESET:
            continue
        before = max(r for t, r in zip(times, registers, strict=True) if t <= one.end_utc_ms)
        after = min(r for t, r in zip(times, registers, strict=True) if t >= one.end_utc_ms)
        if registers == array("q", sorted(registers)):
            assert before <= one.registers[0] <= after


def test_numpy_closes_the_same_intervals() -> None:
    samples = make_samples(3000)
    parts = (samples.at_utc_ms, samples.registers, samples.gauges)
    feed = [array("q", part.tobytes()) for part in parts]
    assert same(aggregate.Aggregator(3, 2).push_many(*feed), close_with_numpy(samples, INTERVAL_MS))


@KERNELS
def test_an_edge_is_interpolated_and_floored(kernel: type[aggregate.Aggregator]) -> None:
    meter = kernel(1, 1)
    meter.push(14 * MIN, [100], [10])
    (one,) = meter.push(17 * MIN, [110], [40])
    assert one.registers == (103,)
    assert (one.raw_registers, one.raw_age_ms) == ((100,), MIN)
    assert one.flags == Quality.INTERPOLATED | Quality.PARTIAL


@KERNELS
def test_energies_of_intervals_sum_to_the_difference_of_the_edges(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(1, 0)
    closed = [one for i in range(100) for one in meter.push(i * 7 * MIN + 1234, [i * i * 37], [])]
    edges = [one.registers[0] for one in closed]
    assert sum(b - a for a, b in pairwise(edges)) == edges[-1] - edges[0]
    assert all(b >= a for a, b in pairwise(edges))


@KERNELS
def test_a_mean_weighs_by_time_and_rounds_half_away_from_zero(
    kernel: type[aggregate.Aggregator],
) -> None:
    for sign in (1, -1):
        meter = kernel(1, 1)
        meter.push(0, [0], [sign])
        meter.push(450_000, [0], [sign * 2])
        (one,) = meter.push(900_000, [0], [sign * 99])
        assert one.means == (sign * 2,)
        assert {one.minima[0], one.maxima[0]} == {sign, sign * 2}


@KERNELS
def test_samples_far_apart_leave_missing_intervals_and_no_guess(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(1, 1)
    meter.push(0, [0], [1])
    closed = meter.push(31 * MIN, [10], [1])
    assert [(one.end_utc_ms, one.missing, one.registers) for one in closed] == [
        (15 * MIN, True, ()),
        (30 * MIN, True, ()),
    ]
    (after,) = meter.push(45 * MIN, [20], [1])
    assert after.flags == Quality.PARTIAL


@KERNELS
def test_a_fallen_register_is_flagged_and_never_interpolated(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(2, 0)
    meter.push(14 * MIN, [1000, 100], [])
    (one,) = meter.push(16 * MIN, [6, 110], [])
    assert one.registers == (6, 105)
    assert one.flags & Quality.COUNTER_RESET


@KERNELS
def test_a_register_that_falls_inside_an_interval_is_flagged_too(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(1, 0)
    meter.push(0, [1000], [])
    meter.push(5 * MIN, [3], [])
    (one,) = meter.push(15 * MIN, [2000], [])
    assert one.flags & Quality.COUNTER_RESET


@KERNELS
def test_a_known_edge_makes_the_first_interval_after_a_restart_whole(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(1, 1)
    meter.resume(15 * MIN, [100])
    meter.push(20 * MIN, [105], [7])
    (one,) = meter.push(30 * MIN, [120], [9])
    assert (one.registers, one.flags, one.means) == ((120,), 0, (7,))


@KERNELS
def test_a_sample_that_is_not_later_is_refused_and_changes_nothing(
    kernel: type[aggregate.Aggregator],
) -> None:
    meter = kernel(1, 1)
    meter.push(MIN, [1], [1])
    for at in (MIN, 0):
        with pytest.raises(aggregate.SampleNotLater):
            meter.push(at, [5], [5])
    (one,) = meter.push(15 * MIN, [2], [1])
    assert one.registers == (2,)


def test_the_aggregators_flags_are_the_quality_bits() -> None:
    for name in ("INTERPOLATED", "PARTIAL", "COUNTER_RESET", "NO_GAUGES"):
        assert getattr(aggregate_form, name) == Quality[name]
