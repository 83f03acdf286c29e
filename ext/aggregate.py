"""Closes intervals from the samples of one meter: exact at the edges, nothing invented.

The compiled kernel and `ext.aggregate_pure` agree bit for bit.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol, cast

from ext._load import kernel
from ext.aggregate_form import AggregateError, Closed, SampleNotLater

__all__ = ["AggregateError", "Aggregator", "Closed", "SampleNotLater", "aggregator"]


class Aggregator(Protocol):
    """One meter's samples on their way to closed intervals."""

    def push(self, at_utc_ms: int, registers: Sequence[int], gauges: Sequence[int]) -> list[Closed]:
        """Take one sample; returns the intervals that it closes or shows to be missing.

        Raises SampleNotLater and leaves everything as it was if the sample
        before is not earlier.
        """
        ...

    def push_many(
        self, at_utc_ms: array[int], registers: array[int], gauges: array[int]
    ) -> list[Closed]:
        """Take samples in a row: array('q') of times, and of values sample by sample."""
        ...

    def resume(self, edge_utc_ms: int, registers: Sequence[int]) -> None:
        """Go on from an edge at which the registers are known, as after a restart."""
        ...


def aggregator(registers: int, gauges: int, interval_ms: int = 900_000) -> Aggregator:
    """An aggregator for samples of so many registers and gauges; at most 16 of each."""
    return cast(Aggregator, _kernel.Aggregator(registers, gauges, interval_ms))


_kernel = kernel("aggregate")
