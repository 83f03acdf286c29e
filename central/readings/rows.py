"""From decoded blocks to lake rows: columns in, columns out, no row is touched alone.

A value is null where the meter has no such channel, where the interval is
reported missing (`NO_DATA`), and, for gauges, where `NO_GAUGES` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from central.readings.lake import SCHEMA, VALUE_COLUMNS
from wire.block import Block, Roster
from wire.channels import Schema
from wire.quality import Quality

_DAY_S = 86_400
Whole = npt.NDArray[np.int64]


class Origin(Protocol):
    """Where rows come from."""

    @property
    def device(self) -> str: ...

    @property
    def stream(self) -> bytes: ...

    @property
    def seq(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Piece:
    """One block's columns; `meter` counts through all rosters of the collection."""

    lsn: int
    origin: Origin
    interval_s: int
    end_utc_s: Whole
    meter: Whole
    columns: tuple[Whole, ...]


class Rows:
    """Collects blocks and makes one table of them."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._meters: list[str] = []
        self._serials: list[str] = []
        self._channels: list[int] = []
        self._first_of: dict[int, tuple[Roster, int]] = {}
        self._pieces: dict[int, tuple[Schema, list[_Piece]]] = {}
        self.count = 0

    def add(self, lsn: int, origin: Origin, block: Block) -> None:
        """Take up one block of the batch `origin`."""
        first = self._first_meter(block.roster)
        piece = _Piece(
            lsn,
            origin,
            block.interval_s,
            np.asarray(block.end_utc_s, dtype=np.int64),
            np.asarray(block.meter, dtype=np.int64) + first,
            tuple(np.asarray(column, dtype=np.int64) for column in block.columns),
        )
        self._pieces.setdefault(block.schema.id, (block.schema, []))[1].append(piece)
        self.count += len(piece.end_utc_s)

    def table(self) -> pa.Table:
        """Everything added, in the lake's columns; sorted by nothing."""
        tables = [self._table(schema, pieces) for schema, pieces in self._pieces.values()]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _first_meter(self, roster: Roster) -> int:
        # The roster is held beside its number, so that its id() cannot be given to another.
        known = self._first_of.get(id(roster))
        if known is None:
            known = (roster, len(self._meters))
            self._first_of[id(roster)] = known
            self._meters += [entry.meter for entry in roster.entries]
            self._serials += [entry.serial for entry in roster.entries]
            self._channels += [entry.channels for entry in roster.entries]
        return known[1]

    def _table(self, schema: Schema, pieces: list[_Piece]) -> pa.Table:
        lengths = [len(piece.end_utc_s) for piece in pieces]
        of_piece = np.repeat(np.arange(len(pieces)), lengths)
        meter = np.concatenate([piece.meter for piece in pieces])
        end_utc_s = np.concatenate([piece.end_utc_s for piece in pieces])
        interval_s = np.array([piece.interval_s for piece in pieces])[of_piece]
        values = [
            np.concatenate([piece.columns[index] for piece in pieces])
            for index in range(len(schema.channels))
        ]
        flags = values[schema.index("flags")]
        columns = {
            "tenant": pa.array([self._tenant]).take(pa.array(np.zeros_like(meter))),
            "meter": pa.array(self._meters, pa.string()).take(pa.array(meter)),
            "serial": pa.array(self._serials, pa.string()).take(pa.array(meter)),
            "day": pa.array(((end_utc_s - interval_s) // _DAY_S).astype(np.int32)).cast(
                pa.date32()
            ),
            "end_utc_s": pa.array(end_utc_s),
            "schema_id": pa.array(np.full(len(meter), schema.id, np.int16)),
            **self._values(schema, values, flags, meter),
            "flags": pa.array(flags.astype(np.int32)),
            "ver": pa.array(np.zeros(len(meter), np.int32)),
            "device": _spread([piece.origin.device for piece in pieces], of_piece),
            "stream": _spread([piece.origin.stream.hex() for piece in pieces], of_piece),
            "seq": pa.array(np.array([piece.origin.seq for piece in pieces])[of_piece]),
            "lsn": pa.array(np.array([piece.lsn for piece in pieces])[of_piece]),
        }
        return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)

    def _values(
        self, schema: Schema, values: list[Whole], flags: Whole, meter: Whole
    ) -> dict[str, pa.Array]:
        channels = np.array(self._channels, dtype=np.int64)[meter]
        no_data = (flags & int(Quality.NO_DATA)) != 0
        no_gauges = no_data | ((flags & int(Quality.NO_GAUGES)) != 0)
        columns: dict[str, pa.Array] = {
            name: pa.nulls(len(meter), pa.int64()) for name in VALUE_COLUMNS
        }
        for index, channel in enumerate(schema.channels):
            if channel.kind == "flags":
                continue
            absent = (channels >> index) & 1 == 0
            unknown = absent | (no_gauges if channel.kind == "gauge" else no_data)
            columns[channel.name] = pa.array(values[index], mask=unknown)
        return columns


def _spread(words: list[str], of_piece: npt.NDArray[np.intp]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(of_piece))
