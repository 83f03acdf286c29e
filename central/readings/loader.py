"""The loader: sealed batches from the journal, opened, decoded, into the lake, onto the map.

One step takes the batches after the lake's watermark, opens and decodes them
and commits their rows together with the new watermark: a step that died is
done again, a step that committed is not. A batch that does not open or decode
is kept sealed, counted and reported, and the chain goes on. The collector asks
the device for it again, unless it is a later program's: that one is opened
here by the first program that knows it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

from central.collect.journal import JournalReader
from central.config import Config
from central.keys.epochs import EpochKeys
from central.keys.place import KeyPlace
from central.metrics import MetricSet
from central.readings.device_log import DeviceLogLedger
from central.readings.engine import DuckDbEngine
from central.readings.events import EventLedger
from central.readings.lake import DeltaLake
from central.readings.ledger import REASONS, LoaderLedger, Unopened, UnopenedBatch
from central.readings.opening import NotReadable, Opener
from central.readings.rows import Origin, Rows
from wire.block import Block
from wire.events import Event
from wire.log import Piece

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

ROWS = "loadscape_loader_rows_total"
BATCHES = "loadscape_loader_batches_total"
EVENTS = "loadscape_loader_events_total"
LOG_FLAWS = "loadscape_loader_device_log_flaws_total"
UNOPENED = "loadscape_loader_unopened_total"
SEALED = "loadscape_loader_sealed_batches"
COMMITS = "loadscape_loader_commits_total"
WATERMARK = "loadscape_loader_watermark"
REWRITES = "loadscape_loader_day_rewrites_total"
SECONDS = "loadscape_loader_busy_seconds_total"

Refresh = Callable[[set[date]], bool]
SetAside = Callable[[int, Origin, NotReadable], Unopened]


class Loader:
    """One loader process; the only writer of lake, loader.db and (through `refresh`) the map."""

    def __init__(self, config: Config, metrics: MetricSet, refresh: Refresh) -> None:
        """`refresh` takes up days whose rows changed and says whether it did.

        It may be called again for the same day.
        """
        self._tenant = config.tenant
        self._epoch_keys = EpochKeys(KeyPlace(config.keys_dir), metrics)
        self._clock = config.clock()
        self._journal = JournalReader(config.journal_dir)
        self._ledger = LoaderLedger(config.loader_file)
        self._opener = Opener(
            self._epoch_keys,
            self._clock,
            interval_s=config.interval_s,
            roster_of=self._ledger.roster,
        )
        self._events = EventLedger(config.events_file)
        self._device_log = DeviceLogLedger(config.device_log_file)
        self._lake = DeltaLake(config.lake_dir, writer=True)
        self._engine = DuckDbEngine(threads=1)
        self._refresh = refresh
        self._watermark = self._lake.watermark(LOADER)
        self._touched_s: dict[date, float] = {}
        self._refresh_due_s = self._committed_s = float("-inf")
        self._vacuumed_s = time.monotonic()
        self._metrics = metrics
        _declare(metrics)
        metrics.set(WATERMARK, self._watermark)
        self._ledger.committed(LOADER, self._watermark)
        self._show_sealed()

    def run(self, stop: threading.Event) -> None:
        """Load until `stop`; raises OSError, sqlite3.Error, deltalake's errors."""
        self.try_sealed_again()
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
        self._watermark = found[-1][0]
        self._take([(lsn, batch, batch.sealed) for lsn, batch in found], self._set_aside)
        self._metrics.set(WATERMARK, self._watermark)
        return len(found)

    def try_sealed_again(self) -> int:
        """Open what waits sealed and can be opened by now; returns the number of batches.

        After an update, after a lost roster or a missing key has come.
        """
        taken, after = 0, 0
        while waiting := self._ledger.unopened(after, STEP_BYTES):
            after = waiting[-1].what.lsn
            opened = self._take([(w.what.lsn, w.what, w.sealed) for w in waiting], _as_before)
            self._ledger.opened(opened)
            taken += len(opened)
        if taken:
            log.info("%d batches that waited sealed are opened now", taken)
        self._show_sealed()
        return taken

    def _take(self, batches: Sequence[tuple[int, Origin, bytes]], set_aside: SetAside) -> list[int]:
        """Open and commit (journal id, origin, sealed bytes); returns the ids that opened."""
        began_s = time.monotonic()
        rows = Rows(self._tenant)
        events: list[tuple[int, str, Event]] = []
        logged: list[tuple[int, str, Piece]] = []
        opened: list[int] = []
        unopened: list[UnopenedBatch] = []
        for lsn, origin, sealed in batches:
            try:
                content = self._opener.open(origin.device, sealed)
            except NotReadable as error:
                unopened.append(UnopenedBatch(set_aside(lsn, origin, error), sealed))
                continue
            opened.append(lsn)
            if isinstance(content, Block):
                rows.add(lsn, origin, content)
            elif isinstance(content, Piece):
                logged.append((lsn, origin.device, content))
            else:
                events += [(lsn, origin.device, event) for event in content]
        table = rows.table()
        days = set(table["day"].unique().to_pylist())
        self._ledger.before_commit(self._opener.carried(), days, unopened)
        if unopened:
            self._show_sealed()
        if events:
            self._metrics.count(EVENTS, self._events.add(events))
        if logged:
            self._take_log(logged)
        self._lake.commit(table, LOADER, self._watermark)
        self._ledger.committed(LOADER, self._watermark)
        self._committed_s = time.monotonic()
        self._touched_s |= dict.fromkeys(days, self._committed_s)
        self._metrics.count(BATCHES, len(opened))
        self._metrics.count(ROWS, rows.count)
        self._metrics.count(COMMITS)
        self._metrics.count(SECONDS, self._committed_s - began_s, part="load")
        for day in self._crowded(days):
            self._rewrite(day)
        return opened

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
        if self._epoch_keys.look(
            self._clock.now_utc_s(), self._newest_reading_utc_s, self._ledger.epochs_waited_for
        ):
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
        self._device_log.close()

    def _newest_reading_utc_s(self) -> int | None:
        return max((file.last_end_utc_s for file in self._lake.files()), default=None)

    def _set_aside(self, lsn: int, origin: Origin, error: NotReadable) -> Unopened:
        self._metrics.count(UNOPENED, reason=error.reason)
        log.error(
            "batch %d of %s (stream %s, journal id %d) kept sealed: %s",
            origin.seq, origin.device, origin.stream.hex(), lsn, error,
        )  # fmt: skip
        return _as_before(lsn, origin, error)

    def _take_log(self, logged: Sequence[tuple[int, str, Piece]]) -> None:
        """Keep entries of concentrators' own logs; says at once what is wrong with them."""
        for flaw in self._device_log.add(logged):
            self._metrics.count(LOG_FLAWS, kind=flaw.kind)
            log.error("log of %s, chain %s: %s", flaw.device, flaw.chain, flaw.what)

    def _show_sealed(self) -> None:
        waiting = self._ledger.waiting_by_reason()
        for reason in REASONS:
            self._metrics.set(SEALED, waiting.get(reason, 0), reason=reason)

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


def _as_before(lsn: int, origin: Origin, error: NotReadable) -> Unopened:
    return Unopened(lsn, origin.device, origin.stream, origin.seq, error.reason, str(error))


def _declare(metrics: MetricSet) -> None:
    metrics.counter(ROWS, "Rows committed to the lake.", {})
    metrics.counter(BATCHES, "Batches opened and decoded.", {})
    reasons = [{"reason": reason} for reason in REASONS]
    metrics.counter(UNOPENED, "Batches kept sealed when they came.", *reasons)
    metrics.gauge(SEALED, "Batches that wait sealed now; unknown: update this program.", *reasons)
    metrics.counter(
        LOG_FLAWS, "Entries of concentrators' logs that are altered or there twice.",
        {"kind": "altered"}, {"kind": "forked"},
    )  # fmt: skip
    metrics.counter(EVENTS, "Entries of meters' event logs taken up.", {})
    metrics.counter(COMMITS, "Commits to the lake.", {})
    metrics.counter(REWRITES, "Days rewritten into one file.", {})
    metrics.gauge(WATERMARK, "Journal id up to which batches are loaded.", {})
    metrics.counter(
        SECONDS, "Seconds spent, by part.",
        {"part": "load"}, {"part": "refresh"}, {"part": "rewrite"},
    )  # fmt: skip
