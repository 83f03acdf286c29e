"""The loader: sealed batches from the journal, opened, decoded, into the lake, onto the map.

One step takes the batches after the lake's watermark, opens and decodes them
and commits their rows together with the new watermark: a step that died is
done again, a step that committed is not. A batch that does not open or decode
is kept sealed, counted and reported; the collector asks the device for it
again; the chain goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

import numpy as np

from central.collect.journal import Batch, JournalReader
from central.config import Config
from central.keys.epochs import EpochGone, EpochKeys, EpochMissing
from central.keys.place import KeyPlace
from central.metrics import MetricSet
from central.readings.engine import DuckDbEngine
from central.readings.events import EventLedger
from central.readings.lake import DeltaLake
from central.readings.ledger import LedgerError, LoaderLedger, Unopened, UnopenedBatch
from central.readings.rows import Rows
from wire import envelope
from wire.block import Block, BlockError, Roster, decode_block
from wire.envelope import EnvelopeError
from wire.events import Event, EventsError, decode_events

log = logging.getLogger("central.load")

LOADER = "loader"
STEP_BYTES = 1024 * 1024
"""Sealed bytes per commit: some 200,000 rows, some 50 MB while they are columns."""
COMMIT_EVERY_S = 1.0
REFRESH_EVERY_S = 2.0
_PAUSE_PER_REFRESH = 2.0
FILES_PER_DAY = 24
"""A day with more files than this is rewritten into one."""
_LOOK_EVERY_S = 0.25
_QUIET_S = 600.0
_VACUUM_EVERY_S = 3600.0
_AHEAD_S = 86_400
_BEHIND_S = 400 * 86_400
_LARGEST = 1 << 53

ROWS = "loadscape_loader_rows_total"
BATCHES = "loadscape_loader_batches_total"
EVENTS = "loadscape_loader_events_total"
UNOPENED = "loadscape_loader_unopened_total"
COMMITS = "loadscape_loader_commits_total"
WATERMARK = "loadscape_loader_watermark"
REWRITES = "loadscape_loader_day_rewrites_total"
SECONDS = "loadscape_loader_busy_seconds_total"

Refresh = Callable[[set[date]], bool]


class _NotReadable(Exception):
    """A batch earns the nack `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Loader:
    """One loader process; the only writer of lake, loader.db and (through `refresh`) the map."""

    def __init__(self, config: Config, metrics: MetricSet, refresh: Refresh) -> None:
        """`refresh` takes up days whose rows changed and says whether it did.

        It may be called again for the same day.
        """
        self._tenant = config.tenant
        self._interval_s = config.interval_s
        self._epoch_keys = EpochKeys(KeyPlace(config.keys_dir), metrics)
        self._clock = config.clock()
        self._journal = JournalReader(config.journal_dir)
        self._ledger = LoaderLedger(config.loader_file)
        self._events = EventLedger(config.events_file)
        self._lake = DeltaLake(config.lake_dir, writer=True)
        self._engine = DuckDbEngine(threads=1)
        self._refresh = refresh
        self._rosters: dict[tuple[str, bytes], Roster] = {}
        self._watermark = self._lake.watermark(LOADER)
        self._touched_s: dict[date, float] = {}
        self._refresh_due_s = self._committed_s = float("-inf")
        self._vacuumed_s = time.monotonic()
        self._metrics = metrics
        _declare(metrics)
        metrics.set(WATERMARK, self._watermark)
        self._ledger.committed(LOADER, self._watermark)

    def run(self, stop: threading.Event) -> None:
        """Load until `stop`; raises OSError, sqlite3.Error, deltalake's errors."""
        while not stop.is_set():
            due_s = self._committed_s + COMMIT_EVERY_S - time.monotonic()
            if due_s > 0 and stop.wait(due_s):
                break
            took = self.step()
            self.refresh_map()
            if not took and not self.tidy():
                stop.wait(_LOOK_EVERY_S)
        self.close()

    def step(self) -> int:
        """Load what came since the last step; returns the number of batches."""
        found = self._journal.after(self._watermark, STEP_BYTES)
        if not found:
            return 0
        began_s = time.monotonic()
        rows = Rows(self._tenant)
        rosters: dict[tuple[str, bytes], Roster] = {}
        events: list[tuple[int, str, Event]] = []
        unopened: list[UnopenedBatch] = []
        for lsn, batch in found:
            try:
                content = self._open(batch, rosters)
            except _NotReadable as error:
                unopened.append(self._set_aside(lsn, batch, error))
                continue
            if isinstance(content, Block):
                rows.add(lsn, batch, content)
            else:
                events += [(lsn, batch.device, event) for event in content]
        table = rows.table()
        days = set(table["day"].unique().to_pylist())
        self._ledger.before_commit(rosters, days, unopened)
        if events:
            self._metrics.count(EVENTS, self._events.add(events))
        self._watermark = found[-1][0]
        self._lake.commit(table, LOADER, self._watermark)
        self._ledger.committed(LOADER, self._watermark)
        self._rosters |= rosters
        self._committed_s = time.monotonic()
        self._touched_s |= dict.fromkeys(days, self._committed_s)
        self._metrics.count(BATCHES, len(found) - len(unopened))
        self._metrics.count(ROWS, rows.count)
        self._metrics.count(COMMITS)
        self._metrics.set(WATERMARK, self._watermark)
        self._metrics.count(SECONDS, self._committed_s - began_s, part="load")
        for day in self._crowded(days):
            self._rewrite(day)
        return len(found)

    def refresh_map(self, *, at_once: bool = False) -> None:
        """Let the map take up the days that changed: not too often, never most of the time."""
        began_s = time.monotonic()
        if not at_once and began_s < self._refresh_due_s:
            return
        days = self._ledger.waiting_days()
        if not days:
            return
        if self._refresh(days):
            self._ledger.refreshed(days)
        took_s = time.monotonic() - began_s
        self._refresh_due_s = began_s + took_s + max(REFRESH_EVERY_S, _PAUSE_PER_REFRESH * took_s)
        self._metrics.count(SECONDS, took_s, part="refresh")

    def tidy(self) -> bool:
        """When idle: rewrite one past day that is in pieces, delete superseded files and keys."""
        now_s = time.monotonic()
        if self._epoch_keys.look(self._clock.now_utc_s(), self._newest_reading_utc_s, frozenset):
            return True
        if now_s - self._vacuumed_s > _VACUUM_EVERY_S:
            self._vacuumed_s = now_s
            self._lake.vacuum(older_than_h=1)
            return True
        today = datetime.fromtimestamp(self._clock.now_utc_s(), UTC).date()
        for day, files in self._files_per_day().items():
            quiet_s = now_s - self._touched_s.get(day, float("-inf"))
            if files > 1 and day < today and quiet_s > _QUIET_S:
                self._rewrite(day)
                return True
        return False

    def close(self) -> None:
        """Give all files back; nothing is pending."""
        self._journal.close()
        self._ledger.close()
        self._events.close()

    def _open(self, batch: Batch, rosters: dict[tuple[str, bytes], Roster]) -> Block | list[Event]:
        """The block or the events in `batch`; raises _NotReadable."""
        try:
            header = envelope.read_header(batch.sealed)
            if header.content not in (envelope.BLOCK, envelope.EVENTS):
                raise _NotReadable("unreadable", f"content type {header.content} is not known")
            plaintext = envelope.open_sealed(batch.sealed, self._epoch_key(header.epoch_kid))
            if header.content == envelope.EVENTS:
                return decode_events(plaintext)
            block = decode_block(plaintext, lambda key: self._roster(batch.device, key, rosters))
        except (EnvelopeError, BlockError, EventsError, LedgerError) as error:
            raise _NotReadable("unreadable", f"{type(error).__name__}: {error}") from error
        self._check_plausible(block)
        if block.carries_roster:
            rosters[batch.device, block.roster.hash] = block.roster
        return block

    def _check_plausible(self, block: Block) -> None:
        """Keep out what no working device sends and what later sums could not bear."""
        if block.interval_s != self._interval_s:
            raise _NotReadable(
                "unreadable",
                f"intervals of {block.interval_s} s, here they have {self._interval_s} s "
                "(interval_min)",
            )
        if not len(block.end_utc_s):
            return
        now_utc_s = self._clock.now_utc_s()
        first, last = _bounds(block.end_utc_s)
        if first < now_utc_s - _BEHIND_S or last > now_utc_s + _AHEAD_S:
            raise _NotReadable(
                "unreadable", "an interval ends more than 400 days ago or a day ahead"
            )
        for channel, column in zip(block.schema.channels, block.columns, strict=True):
            lowest, highest = _bounds(column)
            if lowest < -_LARGEST or highest > _LARGEST:
                raise _NotReadable("unreadable", f"a {channel.name} beyond 2^53")

    def _epoch_key(self, kid: bytes) -> bytes:
        try:
            return self._epoch_keys.private(kid)
        except EpochGone as error:
            raise _NotReadable("epoch_gone", str(error)) from error
        except EpochMissing as error:
            raise _NotReadable("unreadable", str(error)) from error

    def _newest_reading_utc_s(self) -> int | None:
        return max((file.last_end_utc_s for file in self._lake.files()), default=None)

    def _roster(
        self, device: str, roster_hash: bytes, fresh: dict[tuple[str, bytes], Roster]
    ) -> Roster | None:
        key = (device, roster_hash)
        known = fresh.get(key) or self._rosters.get(key)
        if known is None:
            known = self._ledger.roster(device, roster_hash)
            if known is not None:
                self._rosters[key] = known
        return known

    def _set_aside(self, lsn: int, batch: Batch, error: _NotReadable) -> UnopenedBatch:
        self._metrics.count(UNOPENED, reason=error.reason)
        log.error(
            "batch %d of %s (stream %s, journal id %d) kept sealed: %s",
            batch.seq, batch.device, batch.stream.hex(), lsn, error,
        )  # fmt: skip
        what = Unopened(lsn, batch.device, batch.stream, batch.seq, error.reason, str(error))
        return UnopenedBatch(what, batch.sealed)

    def _files_per_day(self) -> dict[date, int]:
        counts: dict[date, int] = {}
        for file in self._lake.files():
            counts[file.day] = counts.get(file.day, 0) + 1
        return counts

    def _crowded(self, days: Iterable[date]) -> list[date]:
        counts = self._files_per_day()
        return [day for day in sorted(days) if counts.get(day, 0) > FILES_PER_DAY]

    def _rewrite(self, day: date) -> None:
        """Put one day into one file sorted by meter and time, without what is said twice."""
        began_s = time.monotonic()
        files = [file.path for file in self._lake.files(day, day)]
        self._lake.replace_day(day, self._engine.query("kept_rows", files))
        self._metrics.count(REWRITES)
        self._metrics.count(SECONDS, time.monotonic() - began_s, part="rewrite")


def _bounds(values: array[int]) -> tuple[int, int]:
    column = np.asarray(values, dtype=np.int64)
    return int(column.min()), int(column.max())


def _declare(metrics: MetricSet) -> None:
    metrics.counter(ROWS, "Rows committed to the lake.", {})
    metrics.counter(BATCHES, "Batches opened and decoded.", {})
    metrics.counter(
        UNOPENED, "Batches kept sealed.", {"reason": "unreadable"}, {"reason": "epoch_gone"}
    )
    metrics.counter(EVENTS, "Entries of meters' event logs taken up.", {})
    metrics.counter(COMMITS, "Commits to the lake.", {})
    metrics.counter(REWRITES, "Days rewritten into one file.", {})
    metrics.gauge(WATERMARK, "Journal id up to which batches are loaded.", {})
    metrics.counter(
        SECONDS, "Seconds spent, by part.",
        {"part": "load"}, {"part": "refresh"}, {"part": "rewrite"},
    )  # fmt: skip
