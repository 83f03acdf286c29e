"""A transformer's load over time, with its gaps: the basis of loading and ageing figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from central.map.aggregates import SOURCE_NONE, AggregatesReader, State

DAY_S = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class LoadHistory:
    """Every interval from the first known to the last closed one; NaN where not known."""

    interval_s: int
    end_utc_s: NDArray[np.int64]
    apparent_va: NDArray[np.float64]
    active_w: NDArray[np.float64]
    source: NDArray[np.uint8]
    reporting: NDArray[np.uint16]
    """Meters below the transformer that reported."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Intervals with a measured load."""
        return ~np.isnan(self.apparent_va)

    @property
    def coverage(self) -> float:
        """Share of intervals with a measured load, 0 to 1; 0 for an empty history."""
        return float(self.known.mean()) if len(self.end_utc_s) else 0.0


def load_history(
    reader: AggregatesReader, state: State, transformer: int, transformers: int
) -> LoadHistory:
    """The history of the `transformer`th of `transformers`.

    It begins with the first interval in which any transformer is known, so
    that a transformer which was silent then shows a gap and not a later start.
    """
    interval_s = state.interval_s
    if not state.days or state.last_end_utc_s is None:
        return _empty(interval_s)
    first, last = state.days[0].day, state.days[-1].day
    stored = reader.transformer_days(first, last, transformers)
    steps = DAY_S // interval_s
    length = ((last - first).days + 1) * steps
    begin_utc_s = day_start_utc_s(first)
    end_utc_s = begin_utc_s + interval_s * np.arange(1, length + 1, dtype=np.int64)
    apparent_va, active_w = np.full(length, np.nan), np.full(length, np.nan)
    source, reporting = np.zeros(length, np.uint8), np.zeros(length, np.uint16)
    someone = np.zeros(length, np.bool_)
    for day, values in stored:
        at = slice((day - first).days * steps, ((day - first).days + 1) * steps)
        apparent_va[at] = values.apparent_va[:, transformer]
        active_w[at] = values.active_w[:, transformer]
        source[at] = values.source[:, transformer]
        reporting[at] = values.reporting[:, transformer]
        someone[at] = (values.source != SOURCE_NONE).any(axis=1)
    if not someone.any():
        return _empty(interval_s)
    kept = slice(
        int(someone.argmax()), int(np.searchsorted(end_utc_s, state.last_end_utc_s, "right"))
    )
    return LoadHistory(
        interval_s,
        end_utc_s[kept],
        apparent_va[kept],
        active_w[kept],
        source[kept],
        reporting[kept],
    )


def without_gaps(history: LoadHistory) -> NDArray[np.float64] | None:
    """Apparent power with every gap filled by the mean of the same step of day, VA.

    A step of day that was never measured takes the mean of all that was. None
    when nothing was measured: there is nothing to fill with.
    """
    known = history.known
    if not known.any():
        return None
    steps = DAY_S // history.interval_s
    step = history.end_utc_s // history.interval_s % steps
    count = np.bincount(step[known], minlength=steps)
    total = np.bincount(step[known], weights=history.apparent_va[known], minlength=steps)
    mean = float(history.apparent_va[known].mean())
    profile = np.where(count > 0, total / np.maximum(count, 1), mean)
    return np.where(known, history.apparent_va, profile[step])


def day_start_utc_s(day: date) -> int:
    """The instant at which the UTC day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _empty(interval_s: int) -> LoadHistory:
    none = np.zeros(0)
    return LoadHistory(
        interval_s,
        none.astype(np.int64),
        none,
        none,
        none.astype(np.uint8),
        none.astype(np.uint16),
    )
