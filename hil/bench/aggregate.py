"""How fast intervals close: the kernel, its pure-Python twin, and numpy, in the same run.

One meter, three registers and two gauges, sampled about once a minute at
uneven times for three weeks. All three must close the same intervals with the
same values before anything is timed.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ext import aggregate_pure
from ext.aggregate import Aggregator, Closed
from hil.bench.figure import Figure

INTERVAL_MS: Final = 900_000
_SAMPLES: Final = 21 * 24 * 60
_REGISTERS: Final = 3
_GAUGES: Final = 2
_ROUNDS: Final = 7

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """One meter's samples, [sample] and [sample][channel]."""

    at_utc_ms: Whole
    registers: Whole
    gauges: Whole


@dataclass(frozen=True, slots=True)
class ClosedColumns:
    """Closed intervals as numpy leaves them, [interval] and [interval][channel]."""

    end_utc_ms: Whole
    registers: Whole
    raw_registers: Whole
    raw_age_ms: Whole
    means: Whole
    minima: Whole
    maxima: Whole
    samples: Whole


def aggregate_figures() -> list[Figure]:
    """Samples per second, and our throughput over numpy's and over the twin's."""
    samples = make_samples()
    feed = (
        array("q", samples.at_utc_ms.tobytes()),
        array("q", samples.registers.tobytes()),
        array("q", samples.gauges.tobytes()),
    )

    def ours() -> list[Closed]:
        return Aggregator(_REGISTERS, _GAUGES, INTERVAL_MS).push_many(*feed)

    def twin() -> list[Closed]:
        return aggregate_pure.Aggregator(_REGISTERS, _GAUGES, INTERVAL_MS).push_many(*feed)

    def peer() -> ClosedColumns:
        return close_with_numpy(samples, INTERVAL_MS)

    closed = ours()
    if closed != twin() or not same(closed, peer()):
        raise ValueError("the kernel, its twin and numpy did not close the same intervals")
    kernel_s, numpy_s, twin_s = _best_s(ours, _ROUNDS), _best_s(peer, _ROUNDS), _best_s(twin, 2)
    rate = len(samples.at_utc_ms) / kernel_s
    return [
        Figure(
            "aggregate.samples_per_s", rate, "samples/s",
            peer="pure-Python twin", peer_value=len(samples.at_utc_ms) / twin_s, better="higher",
        ),
        Figure(
            "aggregate.ratio_to_numpy", numpy_s / kernel_s, "x", limit=1.0,
            peer="numpy samples/s", peer_value=len(samples.at_utc_ms) / numpy_s, better="higher",
        ),
    ]  # fmt: skip


def make_samples(count: int = _SAMPLES) -> Samples:
    """A meter read about once a minute, from an edge on; same samples every time."""
    random = np.random.default_rng(2)
    first_ms = 1_793_577_600_000
    at = first_ms + np.concatenate([[0], np.cumsum(random.integers(58_000, 62_000, count - 1))])
    registers = 1_000_000 + np.cumsum(random.integers(0, 40, (count, _REGISTERS)), axis=0)
    gauges = np.stack(
        [random.integers(2250, 2370, count), random.integers(-400, 4000, count)], axis=1
    )
    return Samples(at.astype(np.int64), registers.astype(np.int64), gauges.astype(np.int64))


def close_with_numpy(samples: Samples, interval_ms: int) -> ClosedColumns:
    """The same closing in whole-array operations; samples without gaps, from an edge on."""
    at = samples.at_utc_ms
    edges = np.arange(at[0], at[-1] + 1, interval_ms)
    ends = edges[1:]
    after = np.searchsorted(at, ends)
    before = after - 1
    span = (at[after] - at[before])[:, None]
    since = (ends - at[before])[:, None]
    step = samples.registers[after] - samples.registers[before]
    registers = samples.registers[before] + step * since // span
    raw = np.searchsorted(at, ends, side="right") - 1
    moments = np.union1d(at[at < ends[-1]], edges)
    held = samples.gauges[np.searchsorted(at, moments[:-1], side="right") - 1]
    starts = np.searchsorted(moments, edges[:-1])
    weighted = np.add.reduceat(held * np.diff(moments)[:, None], starts)
    means = (2 * np.abs(weighted) + interval_ms) // (2 * interval_ms) * np.sign(weighted)
    return ClosedColumns(
        ends,
        registers,
        samples.registers[raw],
        ends - at[raw],
        means,
        np.minimum.reduceat(held, starts),
        np.maximum.reduceat(held, starts),
        np.diff(np.searchsorted(at, edges, side="right")),
    )


def same(closed: list[Closed], columns: ClosedColumns) -> bool:
    """True if both hold the same intervals with the same values."""
    return len(closed) == len(columns.end_utc_ms) and all(
        (
            one.end_utc_ms, one.registers, one.raw_registers, one.raw_age_ms,
            one.means, one.minima, one.maxima, one.samples,
        )
        == (
            end, tuple(registers), tuple(raw), age,
            tuple(means), tuple(minima), tuple(maxima), count,
        )
        for one, end, registers, raw, age, means, minima, maxima, count in zip(
            closed,
            columns.end_utc_ms.tolist(), columns.registers.tolist(),
            columns.raw_registers.tolist(), columns.raw_age_ms.tolist(),
            columns.means.tolist(), columns.minima.tolist(), columns.maxima.tolist(),
            columns.samples.tolist(), strict=True,
        )
    )  # fmt: skip


def _best_s(run: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun_s)
    return min(taken)
