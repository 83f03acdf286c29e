"""How closed intervals become sealed batches: one chain per stream, one schema per batch.

A batch holds at most 96 interval ends and 128 KiB. Each names the hash of the
one before it, so that central can tell a gap and a fork. A new stream under a
random name begins when the chain cannot be continued (a restored card, a
fork); what had no receipt is cut again into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.keyring import Keyring, NoEpochKey
from agent.store.event_table import StoredEvent
from agent.store.identity import StreamHead
from agent.store.log_table import LoggedEntry, pieces
from agent.store.outline import CutBatch, StoredRow
from agent.store.rows import MeterEpoch
from wire.block import BlockTooLarge, Roster, RosterEntry, encode_block
from wire.channels import SCHEMAS

if TYPE_CHECKING:
    from wire.keyset import EpochKey

MOST_INTERVALS = 96
MOST_BYTES = 128 * 1024
_ENVELOPE_BYTES = 512
"""More than header, padding and signature take."""
_EVENT_NUMBERS_BYTES = 32
"""More than an event takes beside its text."""
_MOST_LOG_ENTRIES = 100
"""Of a batch: so many with the longest details keep within its bytes."""
NO_SCHEMA = 0
"""Schema id of a batch that holds no interval block."""


@dataclass(frozen=True, slots=True)
class _Piece:
    schema_id: int
    rows: list[StoredRow]


class Cutter:
    """Cuts and seals. Owned by the writer thread; holds the head of the chain."""

    def __init__(
        self, keyring: Keyring, tenant: str, interval_s: int, boot: bytes, head: StreamHead
    ) -> None:
        self._keyring = keyring
        self._tenant = tenant
        self._interval_s = interval_s
        self._boot = boot
        self._head = head
        self._sent_rosters: set[bytes] = set()

    @property
    def head(self) -> StreamHead:
        """Where the chain ends."""
        return self._head

    def continue_from(self, head: StreamHead) -> None:
        """Take another head: a new stream, or the old one after a transaction that failed."""
        self._sent_rosters.clear()
        self._head = head

    def cut(
        self, rows: Sequence[StoredRow], epochs: dict[int, MeterEpoch], now_utc_s: float
    ) -> Iterator[CutBatch]:
        """Seal `rows` into batches, newest first; the head moves with each one taken.

        Raises NoEpochKey before the first batch when nothing can be sealed now.
        """
        key = self._keyring.epoch_key(now_utc_s)
        for piece in _pieces(rows, epochs, self._interval_s):
            yield from self._seal(piece, epochs, key)

    def cut_events(self, events: Sequence[StoredEvent], now_utc_s: float) -> Iterator[CutBatch]:
        """Seal events into batches in the order given; raises NoEpochKey like `cut`."""
        from wire.envelope import EVENTS
        from wire.events import MOST_EVENTS, encode_events

        key = self._keyring.epoch_key(now_utc_s)
        for piece in _event_pieces(events, MOST_EVENTS):
            content = encode_events(stored.event for stored in piece)
            head, sealed = self._next(EVENTS, NO_SCHEMA, content, key)
            # By the time of cutting, not by the meters' stamps: so old it is, and so long it stays.
            cut_utc_s = int(now_utc_s)
            yield CutBatch(head, NO_SCHEMA, cut_utc_s, cut_utc_s, sealed, events=piece)

    def cut_log(
        self, chain: bytes, logged: Sequence[LoggedEntry], now_utc_s: float, *, doubted: bool
    ) -> Iterator[CutBatch]:
        """Seal entries of the device log in their order; raises NoEpochKey like `cut`.

        `doubted`: nobody vouches for `now_utc_s`; a key is then taken whose time is another.
        """
        from wire.envelope import LOG
        from wire.log import encode_log

        key = self._log_key(now_utc_s, doubted=doubted)
        entries = list(logged)
        for piece in pieces(chain, entries, _MOST_LOG_ENTRIES):
            held, entries = entries[: len(piece.entries)], entries[len(piece.entries) :]
            head, sealed = self._next(LOG, NO_SCHEMA, encode_log(piece), key)
            cut_utc_s = int(now_utc_s)
            yield CutBatch(head, NO_SCHEMA, cut_utc_s, cut_utc_s, sealed, log=held)

    def _log_key(self, now_utc_s: float, *, doubted: bool) -> EpochKey:
        try:
            return self._keyring.epoch_key(now_utc_s)
        except NoEpochKey:
            if not doubted:
                raise
        # A wrong clock must not keep from central the batch whose receipt would set it right.
        last_utc_s = max(key.not_after_utc_s for key in self._keyring.keyset.epoch_keys)
        return self._keyring.epoch_key(last_utc_s - 1)

    def _seal(
        self, piece: _Piece, epochs: dict[int, MeterEpoch], key: EpochKey
    ) -> Iterator[CutBatch]:
        roster, position = _roster(piece, epochs)
        with_roster = roster.hash not in self._sent_rosters
        block_rows = [(row.end_utc_s, position[row.epoch_id], row.values) for row in piece.rows]
        try:
            block = encode_block(
                SCHEMAS[piece.schema_id],
                roster,
                block_rows,
                interval_s=self._interval_s,
                with_roster=with_roster,
            )
            too_large = len(block) + _ENVELOPE_BYTES > MOST_BYTES
        except BlockTooLarge:
            too_large = True
        if too_large:
            if len(piece.rows) < 2:
                raise BlockTooLarge(f"one row of schema {piece.schema_id} exceeds {MOST_BYTES} B")
            half = len(piece.rows) // 2
            for rows in (piece.rows[:half], piece.rows[half:]):
                yield from self._seal(_Piece(piece.schema_id, rows), epochs, key)
            return
        yield self._batch(piece, block, key)
        self._sent_rosters.add(roster.hash)

    def _batch(self, piece: _Piece, block: bytes, key: EpochKey) -> CutBatch:
        from wire.envelope import BLOCK

        head, sealed = self._next(BLOCK, piece.schema_id, block, key)
        ends = [row.end_utc_s for row in piece.rows]
        return CutBatch(head, piece.schema_id, min(ends), max(ends), sealed, piece.rows)

    def _next(
        self, content: int, schema_id: int, plaintext: bytes, key: EpochKey
    ) -> tuple[StreamHead, bytes]:
        """Seal the chain's next batch; the head after it, and its bytes."""
        from wire.envelope import BatchHeader, chain_hash, seal

        signer = self._keyring.signer
        header = BatchHeader(
            alg=signer.alg,
            content=content,
            kid=signer.kid,
            tenant=self._tenant,
            stream=self._head.stream,
            boot=self._boot,
            seq=self._head.next_seq,
            prev=self._head.hash,
            epoch_kid=key.kid,
            suite=key.suite,
            schema_id=schema_id,
        )
        sealed = seal(header, plaintext, epoch_public=key.public, signer=signer)
        self._head = StreamHead(self._head.stream, self._head.next_seq + 1, chain_hash(sealed))
        return self._head, sealed


def _event_pieces(events: Sequence[StoredEvent], most: int) -> Iterator[Sequence[StoredEvent]]:
    """Split so that every piece keeps within the batch's number and bytes."""
    piece: list[StoredEvent] = []
    size = 0
    for stored in events:
        text = (stored.event.meter, stored.event.serial, stored.event.log, stored.event.detail)
        more = _EVENT_NUMBERS_BYTES + sum(len(part.encode()) for part in text)
        if piece and (len(piece) == most or size + more + _ENVELOPE_BYTES > MOST_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(stored)
        size += more
    if piece:
        yield piece


def _pieces(
    rows: Sequence[StoredRow], epochs: dict[int, MeterEpoch], interval_s: int
) -> Iterator[_Piece]:
    """Split by schema and by spans of 96 intervals, newest span first."""
    by_schema: dict[int, list[StoredRow]] = {}
    for row in rows:
        by_schema.setdefault(epochs[row.epoch_id].schema_id, []).append(row)
    for schema_id, all_rows in sorted(by_schema.items()):
        all_rows.sort(key=lambda row: row.end_utc_s, reverse=True)
        piece: list[StoredRow] = []
        oldest = 0
        for row in all_rows:
            if not piece:
                oldest = row.end_utc_s - (MOST_INTERVALS - 1) * interval_s
            elif row.end_utc_s < oldest:
                yield _Piece(schema_id, piece)
                piece = []
                oldest = row.end_utc_s - (MOST_INTERVALS - 1) * interval_s
            piece.append(row)
        if piece:
            yield _Piece(schema_id, piece)


def _roster(piece: _Piece, epochs: dict[int, MeterEpoch]) -> tuple[Roster, dict[int, int]]:
    """The schema's meters, each in its newest epoch, and older epochs that the rows need."""
    newest = {
        epoch.meter: number
        for number, epoch in epochs.items()
        if epoch.schema_id == piece.schema_id
    }
    numbers = sorted({*newest.values(), *(row.epoch_id for row in piece.rows)})
    entries = tuple(
        RosterEntry(epochs[number].meter, epochs[number].serial, epochs[number].channels)
        for number in numbers
    )
    return Roster(entries), {number: position for position, number in enumerate(numbers)}
