"""From sealed bytes to what they say: the only place at the centre that uses epoch keys.

In this order: the suite known, HPKE, the padding, the content known, its own
version and checksum, its schema and bounds, and whether a working device would
say so. The collector has checked size, key, topic, tenant, signature and chain
before. A batch that only a later program can read is told apart from a
damaged one; nothing is stored here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from central.keys.epochs import EpochGone, EpochKeys, EpochMissing
from central.readings.ledger import UNKNOWN, LedgerError
from wire import envelope
from wire.block import Block, BlockError, Roster, decode_block
from wire.cbor_rows import decode_rows
from wire.clock import Clock
from wire.envelope import BatchHeader, EnvelopeError
from wire.events import Event, EventsError, decode_events
from wire.log import LogError, Piece, decode_log
from wire.receipt import EPOCH_GONE, UNREADABLE
from wire.unknown import NotKnownYet

Content: TypeAlias = "Block | list[Event] | Piece"
RosterOf: TypeAlias = Callable[[str, bytes], "Roster | None"]
"""The roster of a device by its hash, None if it never came; raises LedgerError."""

_DAMAGED = (EpochMissing, EnvelopeError, BlockError, EventsError, LogError, LedgerError)
_AHEAD_S = 86_400
_BEHIND_S = 400 * 86_400
_VALUES = (-(1 << 53), 1 << 53)
_FLAGS = (0, (1 << 31) - 1)


class NotReadable(Exception):
    """A batch stays sealed: `reason` is `unknown`, or the nack that it earns."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Opener:
    """Opens one tenant's batches; used by one thread."""

    def __init__(
        self, keys: EpochKeys, clock: Clock, *, interval_s: int, roster_of: RosterOf
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._interval_s = interval_s
        self._roster_of = roster_of
        self._rosters: dict[tuple[str, bytes], Roster] = {}
        self._carried: dict[tuple[str, bytes], Roster] = {}
        self._decode: Mapping[int, Callable[[str, BatchHeader, bytes], Content]] = {
            envelope.BLOCK: self._block,
            envelope.CBOR_ROWS: self._cbor_rows,
            envelope.EVENTS: lambda device, header, plaintext: decode_events(plaintext),
            envelope.LOG: lambda device, header, plaintext: decode_log(plaintext),
        }

    def open(self, device: str, sealed: bytes) -> Content:
        """What a batch of `device` says; raises NotReadable."""
        try:
            header = envelope.read_header(sealed)
            plaintext = envelope.open_sealed(sealed, self._keys.private(header.epoch_kid))
            decode = self._decode.get(header.content)
            if decode is None:
                raise NotKnownYet(f"content {header.content}, known are {sorted(self._decode)}")
            return decode(device, header, plaintext)
        except NotKnownYet as error:
            raise NotReadable(UNKNOWN, f"{error}; it is opened after an update") from error
        except EpochGone as error:
            raise NotReadable(EPOCH_GONE, str(error)) from error
        except _DAMAGED as error:
            raise NotReadable(UNREADABLE, f"{type(error).__name__}: {error}") from error

    def carried(self) -> dict[tuple[str, bytes], Roster]:
        """Rosters that batches carried since this was last asked; to be kept for those after."""
        carried, self._carried = self._carried, {}
        return carried

    def _block(self, device: str, header: BatchHeader, plaintext: bytes) -> Block:
        block = decode_block(plaintext, lambda key: self._roster(device, key))
        self._check(header, block)
        if block.carries_roster:
            key = (device, block.roster.hash)
            self._rosters[key] = self._carried[key] = block.roster
        return block

    def _cbor_rows(self, device: str, header: BatchHeader, plaintext: bytes) -> Block:
        block = decode_rows(plaintext)
        self._check(header, block)
        return block

    def _roster(self, device: str, roster_hash: bytes) -> Roster | None:
        key = (device, roster_hash)
        if key not in self._rosters:
            kept = self._roster_of(device, roster_hash)
            if kept is None:
                return None
            self._rosters[key] = kept
        return self._rosters[key]

    def _check(self, header: BatchHeader, block: Block) -> None:
        """Keep out what no working device sends and what later sums could not bear."""
        if block.schema.id != header.schema_id:
            raise NotReadable(
                UNREADABLE, f"schema {block.schema.id}, the header says {header.schema_id}"
            )
        if block.interval_s != self._interval_s:
            raise NotReadable(
                UNREADABLE,
                f"intervals of {block.interval_s} s, here they have {self._interval_s} s "
                "(interval_min)",
            )
        now_utc_s = self._clock.now_utc_s()
        first, last = _bounds(block.end_utc_s)
        if first < now_utc_s - _BEHIND_S or last > now_utc_s + _AHEAD_S:
            raise NotReadable(UNREADABLE, "an interval ends more than 400 days ago or a day ahead")
        for channel, column in zip(block.schema.channels, block.columns, strict=True):
            lowest, highest = _bounds(column)
            least, most = _FLAGS if channel.kind == "flags" else _VALUES
            if lowest < least or highest > most:
                raise NotReadable(
                    UNREADABLE, f"{channel.name} {lowest} to {highest}, expected {least} to {most}"
                )


def _bounds(values: array[int]) -> tuple[int, int]:
    column = np.asarray(values, dtype=np.int64)
    return int(column.min()), int(column.max())
