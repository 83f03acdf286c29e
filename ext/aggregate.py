"""Closes intervals from the samples of one meter: exact at the edges, nothing invented.

The compiled kernel and `ext.aggregate_pure` agree bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext._load import kernel
from ext.aggregate_form import AggregateError, Closed, SampleNotLater

if TYPE_CHECKING:
    from ext.aggregate_pure import Aggregator
else:
    Aggregator = kernel("aggregate").Aggregator

__all__ = ["AggregateError", "Aggregator", "Closed", "SampleNotLater"]
