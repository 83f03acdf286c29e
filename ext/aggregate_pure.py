"""The aggregator in plain Python: the readable twin of the compiled kernel.

Between two samples a register is taken to run in a straight line, a gauge to
hold its first value. Two samples that lie more than one interval apart say
nothing about the edges between them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ext.aggregate_form import (
    COUNTER_RESET,
    INTERPOLATED,
    MOST_CHANNELS,
    MOST_GAUGE,
    NO_GAUGES,
    PARTIAL,
    AggregateError,
    Closed,
    SampleNotLater,
)


class Aggregator:
    """One meter's samples on their way to closed intervals."""

    def __init__(self, registers: int, gauges: int, interval_ms: int = 900_000) -> None:
        """For samples of so many registers and gauges, at most 16 of each."""
        if not (0 <= registers <= MOST_CHANNELS and 0 <= gauges <= MOST_CHANNELS):
            raise AggregateError(
                f"{registers} registers and {gauges} gauges, expected at most {MOST_CHANNELS} each"
            )
        if not 0 < interval_ms <= 86_400_000:
            raise AggregateError(f"interval of {interval_ms} ms, expected at most a day")
        self._interval_ms = interval_ms
        self._registers = registers
        self._gauges = gauges
        self._last_ms: int | None = None
        self._last: tuple[int, ...] = ()
        self._held: tuple[int, ...] | None = None
        self._end_ms = 0
        self._partial = True
        self._begin(0)

    def resume(self, edge_utc_ms: int, registers: Sequence[int]) -> None:
        """Go on from an edge at which the registers are known, as after a restart."""
        if edge_utc_ms % self._interval_ms or len(registers) != self._registers:
            raise AggregateError(
                f"edge {edge_utc_ms} ms with {len(registers)} registers: expected an edge of "
                f"{self._interval_ms} ms and {self._registers} registers"
            )
        self._last_ms = edge_utc_ms
        self._last = tuple(registers)
        self._held = None
        self._partial = False
        self._begin(edge_utc_ms)

    def push(self, at_utc_ms: int, registers: Sequence[int], gauges: Sequence[int]) -> list[Closed]:
        self._check(at_utc_ms, registers, gauges)
        closed: list[Closed] = []
        if self._last_ms is None:
            self._begin(at_utc_ms)
        elif at_utc_ms >= self._end_ms:
            if at_utc_ms - self._last_ms > self._interval_ms:
                closed = self._missing(at_utc_ms)
            else:
                closed = [self._close(at_utc_ms, tuple(registers))]
        else:
            self._hold(self._last_ms, at_utc_ms)
            self._fell |= _any_fell(self._last, registers)
        self._last_ms = at_utc_ms
        self._last = tuple(registers)
        self._held = tuple(gauges)
        if at_utc_ms > self._end_ms - self._interval_ms:
            self._samples += 1
        return closed

    def push_many(
        self, at_utc_ms: array[int], registers: array[int], gauges: array[int]
    ) -> list[Closed]:
        """Take samples in a row: array('q') of times, and of values sample by sample."""
        r, g = self._registers, self._gauges
        if len(registers) != r * len(at_utc_ms) or len(gauges) != g * len(at_utc_ms):
            raise AggregateError(
                f"{len(at_utc_ms)} samples with {len(registers)} register and {len(gauges)} gauge "
                f"values, expected {r} and {g} a sample"
            )
        closed = []
        for i, at in enumerate(at_utc_ms):
            closed += self.push(at, registers[i * r : i * r + r], gauges[i * g : i * g + g])
        return closed

    def _check(self, at_utc_ms: int, registers: Sequence[int], gauges: Sequence[int]) -> None:
        if len(registers) != self._registers or len(gauges) != self._gauges:
            raise AggregateError(
                f"sample of {len(registers)} registers and {len(gauges)} gauges, expected "
                f"{self._registers} and {self._gauges}"
            )
        if any(not -MOST_GAUGE < gauge < MOST_GAUGE for gauge in gauges):
            raise AggregateError("a gauge is out of range, expected less than 2^40 either way")
        if self._last_ms is not None and at_utc_ms <= self._last_ms:
            raise SampleNotLater(
                f"sample at {at_utc_ms} ms, the one before was at {self._last_ms} ms"
            )

    def _begin(self, at_ms: int) -> None:
        self._end_ms = (at_ms // self._interval_ms + 1) * self._interval_ms
        self._weight_ms = 0
        self._sums = [0] * self._gauges
        self._minima: list[int] = []
        self._maxima: list[int] = []
        self._samples = 0
        self._fell = False

    def _hold(self, from_ms: int, to_ms: int) -> None:
        """Let the gauges of the last sample count from one instant to another."""
        if self._held is None or to_ms <= from_ms:
            return
        if not self._weight_ms:
            self._minima, self._maxima = list(self._held), list(self._held)
        self._weight_ms += to_ms - from_ms
        for i, gauge in enumerate(self._held):
            self._sums[i] += gauge * (to_ms - from_ms)
            self._minima[i] = min(self._minima[i], gauge)
            self._maxima[i] = max(self._maxima[i], gauge)

    def _missing(self, at_ms: int) -> list[Closed]:
        ends = range(self._end_ms, at_ms + 1, self._interval_ms)
        self._begin(at_ms)
        self._partial = True
        return [Closed(end_ms, True) for end_ms in ends]

    def _close(self, at_ms: int, after: tuple[int, ...]) -> Closed:
        assert self._last_ms is not None
        end_ms, since_ms, apart_ms = self._end_ms, self._end_ms - self._last_ms, 0
        apart_ms = at_ms - self._last_ms
        flags = PARTIAL if self._partial else 0
        edge, raw, raw_age_ms, samples = after, after, 0, self._samples + 1
        if at_ms > end_ms:
            flags |= INTERPOLATED
            raw, raw_age_ms, samples = self._last, since_ms, self._samples
            edge = tuple(
                b + (a - b) // apart_ms * since_ms + (a - b) % apart_ms * since_ms // apart_ms
                if a >= b
                else a
                for b, a in zip(self._last, after, strict=True)
            )
        if self._fell or _any_fell(self._last, after):
            flags |= COUNTER_RESET
        self._hold(self._last_ms, end_ms)
        if not self._weight_ms:
            flags |= NO_GAUGES
        closed = Closed(
            end_ms,
            False,
            flags,
            edge,
            raw,
            raw_age_ms,
            tuple(self._mean(total) for total in self._sums),
            tuple(self._minima or [0] * self._gauges),
            tuple(self._maxima or [0] * self._gauges),
            samples,
        )
        self._begin(end_ms)
        self._partial = False
        self._hold(end_ms, at_ms)
        return closed

    def _mean(self, total: int) -> int:
        if not self._weight_ms:
            return 0
        magnitude = (2 * abs(total) + self._weight_ms) // (2 * self._weight_ms)
        return magnitude if total >= 0 else -magnitude


def _any_fell(before: Sequence[int], after: Sequence[int]) -> bool:
    return any(a < b for b, a in zip(before, after, strict=True))
