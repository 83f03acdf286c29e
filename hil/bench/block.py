"""Bytes per meter-interval of the interval block, schema 1, on 200 customers x 21 days.

Measured before the envelope and without the inline roster, over blocks spread
evenly across the three weeks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hil.bench.figure import Figure
from wire.block import BlockRow, Roster, RosterEntry, encode_block
from wire.channels import PROFILE_SCHEMA

CUSTOMERS: Final = Path(__file__).with_name("data") / "customers_200x21d.npz"
_LIMITS: Final = {1: 10.9, 96: 3.75}
_BLOCKS: Final = 12

Whole = npt.NDArray[np.int64]


def block_figures() -> list[Figure]:
    """`block.bytes_200x1` and `block.bytes_200x96`, the longer one beside its entropy bound."""
    end_utc_s, channels = load_customers()
    figures = []
    for intervals, limit in _LIMITS.items():
        bound = entropy_bound_bytes(channels) if intervals > 1 else None
        figures.append(
            Figure(
                name=f"block.bytes_{channels.shape[1]}x{intervals}",
                value=bytes_per_meter_interval(end_utc_s, channels, intervals),
                unit="B per meter-interval",
                limit=limit,
                peer=None if bound is None else "entropy bound, pooled order 0",
                peer_value=bound,
            )
        )
    return figures


def load_customers() -> tuple[Whole, Whole]:
    """Interval ends, and values as [channel of schema 1][meter][interval]."""
    with np.load(CUSTOMERS) as data:
        channels = np.stack([data[channel.name] for channel in PROFILE_SCHEMA.channels])
        return data["end_utc_s"], channels


def bytes_per_meter_interval(end_utc_s: Whole, channels: Whole, intervals: int) -> float:
    """Mean over blocks of so many intervals of all meters."""
    meters, steps = channels.shape[1:]
    roster = Roster(tuple(RosterEntry(f"m{i:06d}", f"{i:08d}", 0b111111) for i in range(meters)))
    size = 0
    starts = np.linspace(0, steps - intervals, _BLOCKS).astype(int).tolist()
    for start in starts:
        rows: list[BlockRow] = [
            (int(end_utc_s[step]), meter, channels[:, meter, step].tolist())
            for meter in range(meters)
            for step in range(start, start + intervals)
        ]
        size += len(encode_block(PROFILE_SCHEMA, roster, rows, with_roster=False))
    return float(size / (len(starts) * meters * intervals))


def entropy_bound_bytes(channels: Whole) -> float:
    """What no code does better that knows each channel's pooled distribution and no more.

    Per channel the least order-0 entropy of the values, their first or second
    differences along time, over all meters; summed, in bytes.
    """
    bits = 0.0
    for channel in channels:
        bits += min(_entropy_bits(np.diff(channel, order, axis=1)) for order in range(3))
    return bits / 8


def _entropy_bits(values: Whole) -> float:
    _, counts = np.unique(values, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
