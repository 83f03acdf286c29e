"""How rows and events get into the store and, cut and sealed, into its batches.

All of it runs inside a transaction of the writer's, who keeps the `state` from
before and puts it back when the transaction fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.health import Faults
from agent.keyring import NoEpochKey
from agent.outbox import Cutter
from agent.store.database import UNCUT, Store
from agent.store.event_table import EventRows, StoredEvent
from agent.store.holding import Holding, Settled
from agent.store.identity import StreamHead
from agent.store.log_table import LoggedEntry
from agent.store.outline import StoredRow
from agent.store.rows import MeterRows
from wire.quality import Quality

_CUT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class FilingState:
    """Where the chain ends, and what no batch holds yet."""

    head: StreamHead
    uncut_since: int | None
    events_uncut: bool
    log_uncut: bool


class Filing:
    """Owned by the writer thread."""

    def __init__(
        self,
        store: Store,
        cutter: Cutter,
        faults: Faults,
        now_utc_s: Callable[[], float],
        holding: Holding,
    ) -> None:
        self._store = store
        self._cutter = cutter
        self.holding = holding
        self._uncut_since = store.oldest_uncut()
        self.events_uncut = bool(store.events.of_batch(UNCUT, 1))
        self.log_uncut = bool(store.log.of_batch(UNCUT, 1))
        self._faults = faults
        self._now = now_utc_s

    @property
    def state(self) -> FilingState:
        """To be put back if the transaction fails."""
        return FilingState(self._cutter.head, self._uncut_since, self.events_uncut, self.log_uncut)

    def put_back(self, state: FilingState) -> None:
        """The transaction has failed: all is as it was before."""
        self._cutter.continue_from(state.head)
        self._uncut_since, self.events_uncut = state.uncut_since, state.events_uncut
        self.log_uncut = state.log_uncut

    def write_events(self, groups: Sequence[EventRows]) -> int:
        """Store events, and cut all that no batch holds; how many were new."""
        added = sum(self._store.events.add(UNCUT, rows) for rows in groups)
        waiting = self._store.events.of_batch(UNCUT, _CUT_ROWS)
        try:
            self.cut_events(waiting)
        except NoEpochKey as error:
            self._faults.report("keyset", str(error))
            self.events_uncut = bool(waiting)
        else:
            self.events_uncut = len(waiting) == _CUT_ROWS
        return added

    def cut_events(self, events: Sequence[StoredEvent]) -> None:
        """Cut events that are in the store already; raises NoEpochKey."""
        if events:
            for batch in self._cutter.cut_events(events, self._now()):
                self._store.events.assign(self._store.add_batch(batch), batch.events)

    def log(self, code: str, detail: str) -> None:
        """Append to the device log; it is cut later."""
        self._store.log.append(int(self._now()), code, detail, UNCUT)
        self.log_uncut = True

    def cut_log(self) -> None:
        """Cut what of the device log no batch holds, if there is a key."""
        waiting = self._store.log.of_batch(UNCUT, _CUT_ROWS)
        try:
            self.recut_log(waiting)
        except NoEpochKey as error:
            self._faults.report("keyset", str(error))
        else:
            self.log_uncut = len(waiting) == _CUT_ROWS

    def recut_log(self, logged: Sequence[LoggedEntry]) -> None:
        """Cut entries that are in the store already; raises NoEpochKey."""
        if logged:
            chain, doubted = self._store.log.chain(), self.holding.doubted
            for batch in self._cutter.cut_log(chain, logged, self._now(), doubted=doubted):
                self._store.log.assign(self._store.add_batch(batch), batch.log)

    def write(self, groups: Sequence[MeterRows], *, cut: bool) -> tuple[int, int]:
        """Store rows, and `cut` them with whatever was left; how many, how many without data."""
        by_key: dict[tuple[int, int], StoredRow] = {}
        no_data = Quality.NO_DATA.value
        for group in groups:
            epoch_id = self._store.epoch_id(group.epoch)
            for end, values in group.rows:
                key = (end, epoch_id)
                if key not in by_key or by_key[key].values[-1] & no_data:
                    by_key[key] = StoredRow(end, epoch_id, values)
        rows = list(by_key.values())
        count, missing = len(rows), sum(row.values[-1] & no_data for row in rows)
        rows = self.holding.hold(rows)
        if not cut or self._uncut_since is not None:
            self._store.insert(UNCUT, rows)
            self._note_uncut(rows)
            if cut:
                self._cut_leftovers()
        elif rows:
            try:
                for batch in self._cutter.cut(rows, self._store.epochs(), self._now()):
                    self._store.insert(self._store.add_batch(batch), batch.rows)
                self._faults.over("keyset")
            except NoEpochKey as error:
                self._faults.report("keyset", str(error))
                self._store.insert(UNCUT, rows)
                self._note_uncut(rows)
        return count, missing

    def settle(self) -> Settled:
        """Hold no rows back any more: stamp anew what can be, and cut them all."""
        settled = self.holding.settle()
        self._note_uncut(settled.rows)
        if settled.moved:
            self.log("restamped", f"rows={settled.moved} by_s={settled.by_s}")
        if settled.unknown:
            self.log("stamps_unknown", f"rows={settled.unknown}")
        if self._uncut_since is not None:
            self._cut_leftovers()
        return settled

    def _note_uncut(self, rows: Sequence[StoredRow]) -> None:
        if rows:
            oldest = min(row.end_utc_s for row in rows)
            self._uncut_since = min(oldest, self._uncut_since or oldest)

    def _cut_leftovers(self) -> None:
        assert self._uncut_since is not None
        while True:
            rows = self._store.uncut(self._uncut_since, _CUT_ROWS)
            try:
                self.recut(rows)
            except NoEpochKey as error:
                self._faults.report("keyset", str(error))
                return
            self._faults.over("keyset")
            if len(rows) < _CUT_ROWS:
                self._uncut_since = None
                return

    def recut(
        self,
        rows: Sequence[StoredRow],
        events: Sequence[StoredEvent] = (),
        logged: Sequence[LoggedEntry] = (),
    ) -> None:
        """Cut what is in the store already; raises NoEpochKey."""
        for batch in self._cutter.cut(rows, self._store.epochs(), self._now()):
            self._store.assign(self._store.add_batch(batch), batch.rows)
        self.cut_events(events)
        self.recut_log(logged)
