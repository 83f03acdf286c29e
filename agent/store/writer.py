"""The one thread that owns the database: commits edges, cuts batches, honours receipts.

Lines hand over what they read; the network thread hands over receipts. An
edge is committed in one transaction, with its batch, when every line has
handed it over or its grace has passed. Rows of older intervals (recovered or
late) are gathered for a moment and then cut together, so that a week from a
hundred meters becomes dozens of batches, not thousands.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent.health import Counters, Faults
from agent.keyring import Keyring, NoEpochKey
from agent.outbox import Cutter
from agent.store.again import Again
from agent.store.database import StoreFull
from agent.store.event_table import EventRows
from agent.store.filing import Filing
from agent.store.identity import StreamHead, write_identity
from agent.store.opening import IDENTITY_FILE, open_store
from agent.store.outline import OutboxView, Recalled, WriterSettings
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock

if TYPE_CHECKING:
    from wire.receipt import Receipt

__all__ = ["GRACE_SHARE", "OutboxView", "Writer", "WriterSettings"]

_log = logging.getLogger("loadscape.agent")
_Result = TypeVar("_Result")

GRACE_SHARE = 0.25
"""Share of an interval (in clock time) that an edge waits for the slowest line."""
_GATHER_ROWS = 4096
"""Rows of older intervals that wait in memory to be cut; about 2 MiB with the cutting."""
_QUEUE_ITEMS = 512
_MOST_ROOM_TRIES = 16
_NEW_STREAM_PAUSE_S = 30.0
_SET_BACK_S = 86_400
"""Edges come anew when the agent's clock is set back by more."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    stream: bytes
    after: int
    limit: int
    deliver: Callable[[bytes, list[tuple[int, bytes]]], None]


class _Stop:
    pass


Handed = EdgeRows | list[MeterRows] | EventRows
"""What the lines hand over: an edge, rows of older intervals, or entries of an event log."""


class Writer(threading.Thread):
    """Start it, `wait_ready`, hand over rows and receipts from any thread, `finish`."""

    def __init__(
        self,
        settings: WriterSettings,
        *,
        clock: Clock,
        keyring: Keyring,
        boot: bytes,
        counters: Counters,
        faults: Faults,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._settings = settings
        self._clock = clock
        self._keyring = keyring
        self._boot = boot
        self._counters = counters
        self._faults = faults
        self._changed = changed
        self._items: queue.Queue[Handed | Receipt | _Fetch | _Stop] = queue.Queue(_QUEUE_ITEMS)
        self._ready = threading.Event()
        self._recalled: dict[str, Recalled] = {}
        self._edges: dict[int, dict[str, list[MeterRows]]] = {}
        self._last_edge_utc_s = 0
        self._late: list[MeterRows] = []
        self._late_rows = 0
        self._late_since_s = 0.0
        self._events: list[EventRows] = []
        self._new_stream_after_s = float("-inf")
        self._again = Again()
        self.failure: BaseException | None = None
        """What ended the thread, None while it is well."""
        self.view = OutboxView(b"", 0, b"", 0, 0)

    # --- for other threads

    def wait_ready(self) -> dict[str, Recalled]:
        """Block until the store is open; what it knows of each meter. Raises what went wrong."""
        self._ready.wait()
        if self.failure is not None:
            raise self.failure
        return self._recalled

    def hand_over(self, rows: Handed) -> None:
        """Give an edge, older rows or events; waits while the writer is far behind."""
        self._items.put(rows)

    def receipt(self, receipt: Receipt) -> None:
        """Give a verified receipt."""
        self._items.put(receipt)

    def fetch(
        self,
        stream: bytes,
        after: int,
        limit: int,
        deliver: Callable[[bytes, list[tuple[int, bytes]]], None],
    ) -> None:
        """Ask for sealed batches; `deliver` is called in the writer's thread."""
        self._items.put(_Fetch(stream, after, limit, deliver))

    def finish(self, timeout_s: float) -> None:
        """Commit what was handed over, close the store, end the thread."""
        self._items.put(_Stop())
        self.join(timeout_s)

    # --- the thread

    def run(self) -> None:
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 (handed to the thread that waits)
            self.failure = error
            self._ready.set()
            return
        self._ready.set()
        try:
            while self._serve():
                pass
        except Exception as error:  # noqa: BLE001 (the main thread ends the agent with it)
            self.failure = error
            _log.exception("the writer ended; the agent stops so that it is started afresh")
        finally:
            self._store.close()
            self._changed()

    def _open(self) -> None:
        settings = self._settings
        self._store, head = open_store(
            settings.data_dir, settings.common_name, settings.quota_mib, self._faults
        )
        self._cutter = Cutter(self._keyring, settings.tenant, settings.interval_s, self._boot, head)
        since = int(self._clock.now_utc_s()) - settings.recall_days * 86_400
        self._recalled = self._store.recall(since)
        self._filing = Filing(self._store, self._cutter, self._faults, self._clock.now_utc_s)
        self._recut_other_streams()
        self._look()

    def _serve(self) -> bool:
        try:
            item = self._items.get(timeout=self._patience_s())
        except queue.Empty:
            item = None
        going_on = True
        while item is not None:
            going_on = self._take(item)
            if not going_on or self._late_rows >= _GATHER_ROWS:
                break
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                item = None
        self._commit_edges(everything=not going_on)
        self._commit_late(everything=not going_on)
        if self._events:
            self._commit_events()
        for seq in self._again.due(time.monotonic()):
            self._cut_again(seq)
        return going_on

    def _patience_s(self) -> float:
        due_s = [0.2 if self._edges else 1.0]
        if self._late:
            due_s.append(max(0.0, self._late_since_s + self._settings.gather_s - time.monotonic()))
        return min(due_s)

    def _take(self, item: Handed | Receipt | _Fetch | _Stop) -> bool:
        if isinstance(item, _Stop):
            return False
        if isinstance(item, _Fetch):
            found = self._store.sealed_after(item.stream, item.after, item.limit)
            item.deliver(item.stream, found)
        elif isinstance(item, EdgeRows):
            if item.end_utc_s < self._last_edge_utc_s - _SET_BACK_S:
                self._last_edge_utc_s = 0
            if item.end_utc_s > self._last_edge_utc_s:
                self._edges.setdefault(item.end_utc_s, {})[item.line] = item.rows
            else:
                self._add_late(item.rows)
        elif isinstance(item, list):
            self._add_late(item)
        elif isinstance(item, EventRows):
            self._events.append(item)
        else:
            self._honour(item)
        return True

    def _add_late(self, rows: list[MeterRows]) -> None:
        if rows and not self._late:
            self._late_since_s = time.monotonic()
        self._late.extend(rows)
        self._late_rows += sum(len(group.rows) for group in rows)

    # --- committing

    def _commit_edges(self, *, everything: bool) -> None:
        now_utc_s = self._clock.now_utc_s()
        grace_s = GRACE_SHARE * self._settings.interval_s
        for end in sorted(self._edges):
            complete = len(self._edges[end]) >= len(self._settings.lines)
            if not (everything or complete or now_utc_s >= end + grace_s):
                continue
            by_line = self._edges.pop(end)
            self._last_edge_utc_s = max(self._last_edge_utc_s, end)
            groups = [group for rows in by_line.values() for group in rows]
            number = end // self._settings.interval_s
            self._commit(groups, cut=number % self._settings.batch_intervals == 0)
            if self._filing.events_uncut:
                self._commit_events()
            self._prune(now_utc_s)

    def _commit_late(self, *, everything: bool) -> None:
        if not self._late:
            return
        waited_s = time.monotonic() - self._late_since_s
        full = self._late_rows >= _GATHER_ROWS
        if everything or waited_s >= self._settings.gather_s or full:
            groups, self._late, self._late_rows = self._late, [], 0
            self._commit(groups, cut=True)

    def _commit(self, groups: Sequence[MeterRows], *, cut: bool) -> None:
        """Store rows, and cut them with whatever was left uncut, in one transaction."""
        count, missing = self._transact(lambda: self._filing.write(groups, cut=cut))
        self._counters.add("rows_total", count)
        self._counters.add("rows_no_data_total", missing)

    def _commit_events(self) -> None:
        """Store events and cut all that no batch holds, in one transaction."""
        groups, self._events = self._events, []
        self._counters.add(
            "events_total", self._transact(lambda: self._filing.write_events(groups))
        )

    def _transact(self, write: Callable[[], _Result]) -> _Result:
        """Write and cut, all or nothing; makes room where there is none."""
        for _ in range(_MOST_ROOM_TRIES):
            before = self._filing.state
            try:
                with self._store.transaction():
                    result = write()
            except StoreFull as error:
                self._filing.put_back(before)
                self._faults.report("store", str(error))
                lost = self._store.make_room()
                self._counters.add("rows_lost_total", lost.rows)
                self._counters.add("events_lost_total", lost.events)
                continue
            except BaseException:
                self._filing.put_back(before)
                raise
            self._after_commit(before.head)
            return result
        raise StoreFull(
            f"no room after {_MOST_ROOM_TRIES} tries; free space on the disk or raise quota_mib"
        )

    def _after_commit(self, before: StreamHead) -> None:
        head = self._cutter.head
        if head != before:
            self._counters.add("batches_cut_total", max(0, head.next_seq - before.next_seq))
            write_identity(
                self._settings.data_dir / IDENTITY_FILE, self._settings.common_name, head
            )
        self._look()

    def _prune(self, now_utc_s: float) -> None:
        days = max(self._settings.history_days, self._settings.recall_days) + 1
        with self._store.transaction():
            self._store.prune(int(now_utc_s) - days * 86_400)

    # --- receipts

    def _honour(self, receipt: Receipt) -> None:
        head = self._cutter.head
        if receipt.stream != head.stream:
            return
        from wire.receipt import EPOCH_GONE, FORK, UNREADABLE

        reasons = {nack.reason for nack in receipt.nacks}
        known = self._store.hash_at(head.stream, receipt.upto) if receipt.upto else None
        if receipt.upto >= head.next_seq:
            self._begin_stream(f"central has batch {receipt.upto}, this agent never cut it")
        elif known is not None and known != receipt.hash_at_upto:
            self._begin_stream(f"central's batch {receipt.upto} is not this agent's")
        elif FORK in reasons:
            self._begin_stream("central has seen two different batches of one number")
        else:
            if known is not None:
                with self._store.transaction():
                    count = self._store.receipt(
                        head.stream, receipt.upto, receipt.committed_at_utc_s
                    )
                self._counters.add("batches_receipted_total", count)
            if EPOCH_GONE in reasons:
                self._begin_stream("central has destroyed the epoch key of a waiting batch")
            for nack in receipt.nacks:
                if nack.reason == UNREADABLE:
                    self._unreadable(nack.seq)
        self._look()

    def _begin_stream(self, reason: str) -> None:
        if time.monotonic() < self._new_stream_after_s:
            return
        self._new_stream_after_s = time.monotonic() + _NEW_STREAM_PAUSE_S
        _log.warning("rollback_detected: %s; a new stream is begun", reason)
        self._counters.add("streams_begun_total")
        self._again = Again()
        self._transact(self._take_new_head)
        self._recut_other_streams()

    def _take_new_head(self) -> None:
        self._cutter.continue_from(StreamHead.fresh())
        self._store.set_head(self._cutter.head)

    def _recut_other_streams(self) -> None:
        """Cut again, into the present stream, what older streams hold without a receipt."""
        for number, first, last in self._store.unreceipted(outside=self._cutter.head.stream):
            try:
                self._transact(partial(self._recut, number, first, last))
            except NoEpochKey as error:
                self._faults.report("keyset", str(error))
                return

    def _recut(self, number: int, first_end_utc_s: int, last_end_utc_s: int) -> None:
        rows = self._store.rows_of(number, first_end_utc_s, last_end_utc_s)
        self._filing.recut(rows, self._store.events.of_batch(number))
        self._store.forget_batch(number)

    def _unreadable(self, seq: int) -> None:
        if self._again.unreadable(seq, time.monotonic()):
            self._cut_again(seq)
        else:
            what = f"central cannot read batch {seq} however often it is sent; its log says why"
            self._faults.report("unreadable", what)

    def _cut_again(self, seq: int) -> None:
        found = self._store.batch_at(self._cutter.head.stream, seq)
        if found is None:
            return
        rows = self._store.rows_of(*found)
        events = self._store.events.of_batch(found[0])
        if not rows and not events:
            return
        before = self._cutter.head
        # Whoever could not read it may lack its roster: say it again.
        self._cutter.continue_from(before)
        try:
            self._transact(partial(self._filing.recut, rows, events))
        except NoEpochKey as error:
            self._faults.report("keyset", str(error))
            return
        self._again.cut(seq, range(before.next_seq, self._cutter.head.next_seq))

    # --- small things

    def _look(self) -> None:
        head = self._cutter.head
        self.view = OutboxView(
            head.stream,
            head.next_seq - 1,
            head.hash,
            self._store.receipted_upto(head.stream),
            self._store.outbox_depth(),
        )
        self._changed()
