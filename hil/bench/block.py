"""Bytes per meter-interval of the interval block, schema 1, beside what others would send.

Measured before the envelope and without the inline roster, over blocks spread
evenly across three weeks of 200 customers of the demo town, and across weeks of
ten measured homes where the environment variable LOADSCAPE_DATA names a folder
with `au10_halfhour.parquet` (Smart Grid Smart City, half-hourly Wh).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hil.bench.block_peers import PEERS, Sample
from hil.bench.figure import Figure
from wire.block import BlockRow, Roster, RosterEntry, encode_block
from wire.channels import PROFILE_SCHEMA

CUSTOMERS: Final = Path(__file__).with_name("data") / "customers_200x21d.npz"
MEASURED: Final = "au10_halfhour.parquet"
LIMITS: Final[Mapping[tuple[int, int], float]] = {
    (30, 1): 11.1,
    (30, 4): 6.0,
    (30, 96): 3.75,
    (200, 1): 10.9,
    (200, 4): 5.9,
    (200, 96): 3.75,
}
"""B per meter-interval by (meters, intervals): what the first sketch of the codec took."""
ENTROPY_LIMIT: Final = 1.1
_BLOCKS: Final = 12
_PEER_BLOCKS: Final = 4
_WEEK_STEPS: Final = 336
_GENERAL: Final = "CBOR columns, differences + zstd-9"

Whole = npt.NDArray[np.int64]


def block_figures() -> Iterator[Figure | str]:
    """`block.bytes_{meters}x{intervals}`, its ratio to the entropy bound, and a table of peers."""
    end_utc_s, channels = load_customers()
    peers = _peer_bytes(end_utc_s, channels)
    for (meters, intervals), limit in LIMITS.items():
        yield Figure(
            name=f"block.bytes_{meters}x{intervals}",
            value=bytes_per_meter_interval(end_utc_s, channels[:, :meters], intervals),
            unit="B per meter-interval",
            limit=limit,
            peer=_GENERAL,
            peer_value=peers[_GENERAL][meters, intervals],
        )
    yield _entropy_figure("block.entropy_ratio_200x96", end_utc_s, channels)
    measured = _measured()
    if measured is None:
        yield f"LOADSCAPE_DATA names no folder with {MEASURED}: measured homes are left out"
    else:
        yield _entropy_figure("block.entropy_ratio_measured_200x96", *measured)
    yield _table(peers)


def load_customers() -> tuple[Whole, Whole]:
    """Interval ends, and values as [channel of schema 1][meter][interval]."""
    with np.load(CUSTOMERS) as data:
        channels = np.stack([data[channel.name] for channel in PROFILE_SCHEMA.channels])
        return data["end_utc_s"], channels


def bytes_per_meter_interval(
    end_utc_s: Whole, channels: Whole, intervals: int, interval_s: int = 900
) -> float:
    """Mean over blocks of so many intervals of all meters."""
    meters = channels.shape[1]
    roster = Roster(tuple(RosterEntry(f"m{i:06d}", f"{i:08d}", 0b111111) for i in range(meters)))
    size = 0
    starts = _starts(channels, intervals, _BLOCKS)
    for start in starts:
        rows: list[BlockRow] = [
            (int(end_utc_s[step]), meter, channels[:, meter, step].tolist())
            for meter in range(meters)
            for step in range(start, start + intervals)
        ]
        size += len(
            encode_block(PROFILE_SCHEMA, roster, rows, interval_s=interval_s, with_roster=False)
        )
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


def _entropy_figure(name: str, end_utc_s: Whole, channels: Whole) -> Figure:
    interval_s = int(end_utc_s[1] - end_utc_s[0])
    bound = entropy_bound_bytes(channels)
    return Figure(
        name=name,
        value=bytes_per_meter_interval(end_utc_s, channels, 96, interval_s) / bound,
        unit="of the entropy bound",
        limit=ENTROPY_LIMIT,
        peer="bound, pooled order 0, B",
        peer_value=bound,
    )


def _measured() -> tuple[Whole, Whole] | None:
    """Twenty weeks of each of ten homes side by side as 200 meters; None where there is no file."""
    path = Path(os.environ.get("LOADSCAPE_DATA", "")) / MEASURED
    if not path.is_file():
        return None
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    customers, at, wh = (table[name].to_numpy() for name in ("customer", "ts", "wh"))
    weeks: list[Whole] = []
    for customer in np.unique(customers):
        mine = customers == customer
        order = np.argsort(at[mine])
        step = (at[mine][order].astype("datetime64[s]").astype(np.int64)) // 1800
        whole = [
            wh[mine][order][start : start + _WEEK_STEPS]
            for start in range(0, len(step) - _WEEK_STEPS, _WEEK_STEPS)
            if step[start + _WEEK_STEPS - 1] - step[start] == _WEEK_STEPS - 1
        ]
        chosen = np.linspace(0, len(whole) - 1, 20).astype(int)
        weeks += [np.cumsum(whole[week], dtype=np.int64) for week in chosen]
    registers = np.stack(weeks)
    channels = np.zeros((len(PROFILE_SCHEMA.channels), *registers.shape), dtype=np.int64)
    channels[PROFILE_SCHEMA.index("import_wh")] = registers
    return np.arange(1, _WEEK_STEPS + 1, dtype=np.int64) * 1800, channels


def _peer_bytes(end_utc_s: Whole, channels: Whole) -> dict[str, dict[tuple[int, int], float]]:
    sizes: dict[str, dict[tuple[int, int], float]] = {name: {} for name in PEERS}
    for meters, intervals in LIMITS:
        starts = _starts(channels, intervals, _PEER_BLOCKS)
        samples = [
            Sample(
                end_utc_s[start : start + intervals],
                channels[:, :meters, start : start + intervals],
            )
            for start in starts
        ]
        for name, encoded in PEERS.items():
            size = sum(len(encoded(sample)) for sample in samples)
            sizes[name][meters, intervals] = size / (len(samples) * meters * intervals)
    return sizes


def _table(peers: Mapping[str, Mapping[tuple[int, int], float]]) -> str:
    shapes = list(LIMITS)
    head = "".join(f"{f'{meters}x{intervals}':>9}" for meters, intervals in shapes)
    lines = [f"{'bytes per meter-interval':40}{head}"]
    lines += [
        f"{name:40}" + "".join(f"{sizes[shape]:9.2f}" for shape in shapes)
        for name, sizes in peers.items()
    ]
    return "\n".join(lines)


def _starts(channels: Whole, intervals: int, count: int) -> list[int]:
    steps = channels.shape[2]
    starts: list[int] = np.linspace(0, steps - intervals, count).astype(int).tolist()
    return starts


def _entropy_bits(values: Whole) -> float:
    _, counts = np.unique(values, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
