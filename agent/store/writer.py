"""The one thread that owns the store: decides when edges, older rows and events are committed.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from agent.clock_trust import Trust
from agent.device_log import AT_ONCE, DeviceLog
from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.store.custody import Custody
from agent.store.event_table import EventRows
from agent.store.opening import note_damage
from agent.store.outline import OutboxView, Recalled, WriterSettings
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock

if TYPE_CHECKING:
    from wire.receipt import Receipt

__all__ = ["GRACE_SHARE", "OutboxView", "Writer", "WriterSettings"]

_log = logging.getLogger("loadscape.agent")

GRACE_SHARE = 0.25
"""Share of an interval (in clock time) that an edge waits for the slowest line."""
_GATHER_ROWS = 4096
"""Rows of older intervals that wait in memory to be cut; about 2 MiB with the cutting."""
_QUEUE_ITEMS = 512
_LOOK_S = 0.5
_SET_BACK_S = 86_400
"""Edges come anew when the agent's clock is set back by more."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    stream: bytes
    after: int
    limit: int
    deliver: Callable[[bytes, list[tuple[int, bytes]]], None]


class _Recall:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.recalled: Mapping[str, Recalled] = {}


class _Stop:
    pass


Handed = EdgeRows | list[MeterRows] | EventRows
"""What the lines hand over: an edge, rows of older intervals, or entries of an event log."""
_Item: TypeAlias = "Handed | Receipt | _Fetch | _Recall | _Stop"


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
        device_log: DeviceLog | None = None,
        trust: Trust | None = None,
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._settings = settings
        self._clock = clock
        self._keyring = keyring
        self._boot = boot
        self._counters = counters
        self._faults = faults
        self._changed = changed
        self._device_log = device_log or DeviceLog()
        self._trust = trust
        self._items: queue.Queue[_Item] = queue.Queue(_QUEUE_ITEMS)
        self._ready = threading.Event()
        self._edges: dict[int, dict[str, list[MeterRows]]] = {}
        self._last_edge_utc_s = 0
        self._late: list[MeterRows] = []
        self._late_rows = 0
        self._late_since_s = 0.0
        self._events: list[EventRows] = []
        self.failure: BaseException | None = None
        """What ended the thread, None while it is well."""
        self.moved_s = time.monotonic()
        """When the thread last had committed all that it was given."""
        self.view = OutboxView(b"", 0, b"", 0, 0)

    # --- for other threads

    def wait_ready(self, still: Callable[[], None] = lambda: None) -> Mapping[str, Recalled]:
        """Block until the store is open; what it knows of each meter. Raises what went wrong.

        `still` is called now and then meanwhile: taking over from a damaged store takes minutes.
        """
        while not self._ready.wait(_LOOK_S):
            still()
        if self.failure is not None:
            raise self.failure
        return self.recall()

    def recall(self) -> Mapping[str, Recalled]:
        """What the store knows of each meter now; waits for the thread."""
        item = _Recall()
        self._items.put(item)
        while not item.done.wait(_LOOK_S):
            if self.failure is not None:
                raise self.failure
        return item.recalled

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
            note_damage(self._settings.data_dir, error)
            _log.exception("the writer ended; the agent stops so that it is started afresh")
        finally:
            self._custody.close()
            self._changed()

    def _open(self) -> None:
        self._custody = Custody(
            self._settings,
            clock=self._clock,
            keyring=self._keyring,
            boot=self._boot,
            counters=self._counters,
            faults=self._faults,
            trust=self._trust,
        )
        self._look()

    def _serve(self) -> bool:
        try:
            item = self._items.get(timeout=self._patience_s())
        except queue.Empty:
            item = None
            self._custody.scrub()
        going_on = True
        while item is not None:
            going_on = self._take(item)
            if not going_on or self._late_rows >= _GATHER_ROWS:
                break
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                item = None
        self._commit_log(everything=not going_on)
        self._commit_edges(everything=not going_on)
        self._commit_late(everything=not going_on)
        if self._events:
            self._commit_events()
        self.moved_s = time.monotonic()
        if self._custody.settle_held():
            self._look()
        if self._custody.cut_due():
            self._look()
        return going_on

    def _patience_s(self) -> float:
        due_s = [0.2 if self._edges else 1.0]
        if self._late:
            due_s.append(max(0.0, self._late_since_s + self._settings.gather_s - time.monotonic()))
        return min(due_s)

    def _take(self, item: _Item) -> bool:
        if isinstance(item, _Stop):
            return False
        if isinstance(item, _Fetch):
            found = self._custody.sealed_after(item.stream, item.after, item.limit)
            item.deliver(item.stream, found)
        elif isinstance(item, _Recall):
            item.recalled = self._custody.recall()
            item.done.set()
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
            self._custody.honour(item)
            self._look()
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
            cut = number % self._settings.batch_intervals == 0
            self._custody.commit(groups, cut=cut)
            if cut and self._custody.log_uncut:
                self._custody.log((), cut=True)
            self._look()
            if self._custody.events_uncut:
                self._commit_events()
            self._custody.prune()

    def _commit_late(self, *, everything: bool) -> None:
        if not self._late:
            return
        waited_s = time.monotonic() - self._late_since_s
        full = self._late_rows >= _GATHER_ROWS
        if everything or waited_s >= self._settings.gather_s or full:
            groups, self._late, self._late_rows = self._late, [], 0
            self._custody.commit(groups, cut=True)
            self._look()

    def _commit_events(self) -> None:
        groups, self._events = self._events, []
        self._custody.commit_events(groups)
        self._look()

    def _commit_log(self, *, everything: bool) -> None:
        entries = self._device_log.take()
        if entries:
            at_once = any(code in AT_ONCE for code, _ in entries)
            self._custody.log(entries, cut=everything or at_once)
            self._look()

    # --- small things

    def _look(self) -> None:
        self.view = self._custody.view()
        self._changed()
