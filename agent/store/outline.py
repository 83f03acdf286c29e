"""What the store gives to and takes from the parts that read meters and cut batches."""

from __future__ import annotations

from array import array
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.store.event_table import LogMark, StoredEvent
from agent.store.identity import StreamHead
from agent.store.log_table import LoggedEntry
from agent.store.rows import Values


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One interval as the outbox needs it to cut (again)."""

    end_utc_s: int
    epoch_id: int
    values: Values


@dataclass(frozen=True, slots=True)
class CutBatch:
    """A sealed batch with what the store must know about it."""

    head: StreamHead
    """The head after this batch: its sequence number is `head.next_seq - 1`."""
    schema_id: int
    first_end_utc_s: int
    last_end_utc_s: int
    sealed: bytes
    rows: Sequence[StoredRow] = ()
    events: Sequence[StoredEvent] = ()
    """Of a batch of events; its ends are the instant at which it was cut."""
    log: Sequence[LoggedEntry] = ()
    """Of a batch of the device log; likewise."""


@dataclass(slots=True)
class Recalled:
    """What the store knows of one meter since some instant."""

    serial: str = ""
    channels: int = 0
    ends_utc_s: MutableSequence[int] = field(default_factory=lambda: array("q"))
    last_true: tuple[int, tuple[int, ...]] | None = None
    """Newest interval with data: (end in UTC seconds, values)."""
    exchanged_after_utc_s: int = 0
    """Last end of the meter before the present serial number; 0 if none was exchanged."""
    missing_utc_s: MutableSequence[int] = field(default_factory=lambda: array("q"))
    """Those of `ends_utc_s` that are only reported missing."""
    marks: dict[tuple[str, str], LogMark] = field(default_factory=dict)
    """How far its event logs were read, by serial number and log."""
    schema_id: int | None = None
    """Of the newest row: which channels `channels` and `last_true` speak of."""
    data_serial: str | None = None
    """Serial number of the epoch of `last_true`; None if there is none."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """What the writer needs to know of the configuration."""

    data_dir: Path
    common_name: str
    tenant: str
    lines: tuple[str, ...]
    interval_s: int
    batch_intervals: int
    recall_days: int
    history_days: int
    quota_mib: int
    gather_s: float = 2.0
    """How long rows of older intervals are gathered before they are cut together, real s."""


@dataclass(frozen=True, slots=True)
class OutboxView:
    """How far the outbox is, as other threads may see it."""

    stream: bytes
    last_seq: int
    head_hash: bytes
    receipted_upto: int
    waiting: int
    held: int = 0
    """Rows that wait for a clock that is trusted."""
