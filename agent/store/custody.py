"""What the agent answers for, from the closed interval to the receipt: store, chain, receipts.

Rows and events are committed and cut into sealed batches in one transaction.
Sealed bytes go only when central has signed for them (`Receipts`). No thread
and no connection: `Writer` owns one of these.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent.clock_trust import Believed, Trust
from agent.health import Counters, Faults
from agent.keyring import Keyring
from agent.outbox import Cutter
from agent.store.database import StoreFull
from agent.store.event_table import EventRows
from agent.store.filing import Filing
from agent.store.holding import Holding
from agent.store.identity import StreamHead, write_identity
from agent.store.opening import IDENTITY_FILE, open_store
from agent.store.outline import OutboxView, Recalled, WriterSettings
from agent.store.receipts import Receipts
from agent.store.rows import MeterRows
from wire.clock import Clock

if TYPE_CHECKING:
    from wire.receipt import Receipt

_Result = TypeVar("_Result")

_MOST_ROOM_TRIES = 16
_CUTS_REMEMBERED = 64


class Custody:
    """Used by the thread that made it. Every method that writes is durable when it returns."""

    def __init__(
        self,
        settings: WriterSettings,
        *,
        clock: Clock,
        keyring: Keyring,
        boot: bytes,
        counters: Counters,
        faults: Faults,
        monotonic_s: Callable[[], float] = time.monotonic,
        trust: Trust | None = None,
    ) -> None:
        """Opens the store whatever lies there; raises OSError if the folder cannot be used."""
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._faults = faults
        self._monotonic_s = monotonic_s
        self._trust = trust or Believed(clock)
        self._cut_at_s: deque[tuple[bytes, int, float]] = deque(maxlen=_CUTS_REMEMBERED)
        """When the newest batches were cut: (stream, seq, monotonic)."""
        self._store, head = open_store(
            settings.data_dir, settings.common_name, settings.quota_mib, faults
        )
        self._cutter = Cutter(keyring, settings.tenant, settings.interval_s, boot, head)
        self._trust.witness(self._store.newest_receipt_utc_s(), None)
        holding = Holding(self._store, self._trust, settings.interval_s, clock.now_utc_s)
        self._filing = Filing(self._store, self._cutter, faults, clock.now_utc_s, holding)
        self._receipts = Receipts(
            self._store,
            self._cutter,
            self._filing,
            self._transact,
            counters=counters,
            faults=faults,
            monotonic_s=monotonic_s,
        )

    @property
    def events_uncut(self) -> bool:
        """Whether events are stored that no batch holds."""
        return self._filing.events_uncut

    @property
    def log_uncut(self) -> bool:
        """Whether entries of the device log are stored that no batch holds."""
        return self._filing.log_uncut

    def recall(self) -> Mapping[str, Recalled]:
        """What the store knows of each meter."""
        since = int(self._clock.now_utc_s()) - self._settings.recall_days * 86_400
        return self._store.recall(since)

    @property
    def held(self) -> int:
        """Rows that wait for a clock that is trusted."""
        return self._filing.holding.count

    def settle_held(self) -> bool:
        """Stamp held rows anew if the clock is trusted now, cut them; whether there were any."""
        if not self._filing.holding.due:
            return False
        settled = self._transact(self._filing.settle)
        self._counters.add("rows_restamped_total", settled.moved)
        return True

    def view(self) -> OutboxView:
        """How far the outbox is now."""
        head = self._cutter.head
        return OutboxView(
            head.stream,
            head.next_seq - 1,
            head.hash,
            self._store.receipted_upto(head.stream),
            self._store.outbox_depth(),
            self.held,
        )

    def sealed_after(self, stream: bytes, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """(seq, sealed) of batches without a receipt, ascending."""
        return self._store.sealed_after(stream, seq, limit)

    def close(self) -> None:
        """Close the store; nothing is pending."""
        self._store.close()

    # --- committing

    def commit(self, groups: Sequence[MeterRows], *, cut: bool) -> None:
        """Store rows, and cut them with whatever was left uncut, in one transaction."""
        count, missing = self._transact(lambda: self._filing.write(groups, cut=cut))
        self._counters.add("rows_total", count)
        self._counters.add("rows_no_data_total", missing)

    def commit_events(self, groups: Sequence[EventRows]) -> None:
        """Store events and cut all that no batch holds, in one transaction."""
        self._counters.add(
            "events_total", self._transact(lambda: self._filing.write_events(groups))
        )

    def log(self, entries: Sequence[tuple[str, str]], *, cut: bool) -> None:
        """Append (code, detail) to the device log, and `cut` what of it no batch holds."""

        def write() -> None:
            for code, detail in entries:
                self._filing.log(code, detail)
            if cut:
                self._filing.cut_log()

        self._transact(write)

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
                lost = self._store.make_room(int(self._clock.now_utc_s()))
                self._filing.log_uncut = True
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
            self._cut_at_s.append((head.stream, head.next_seq - 1, self._monotonic_s()))
            self._counters.add("batches_cut_total", max(0, head.next_seq - before.next_seq))
            path = self._settings.data_dir / IDENTITY_FILE
            self._store.ballast.spare(
                partial(write_identity, path, self._settings.common_name, head)
            )

    def prune(self) -> None:
        """Drop some of the receipted history that is older than the settings keep."""
        now_utc_s = self._clock.now_utc_s()
        days = max(self._settings.history_days, self._settings.recall_days) + 1
        with self._store.transaction():
            self._store.prune(int(now_utc_s) - days * 86_400)
        self._store.restore_room()

    def scrub(self) -> None:
        """Look at a piece of the store if it is time; raises StoreDamaged."""
        if self._store.scrub(self._clock.now_utc_s()):
            self._counters.add("scrubs_total")

    # --- receipts

    def honour(self, receipt: Receipt) -> None:
        """Do what a verified receipt says: drop sealed bytes, begin a stream, cut again."""
        self._trust.witness(receipt.committed_at_utc_s, self._span_s(receipt))
        self._receipts.honour(receipt)

    def cut_due(self) -> bool:
        """Cut what has waited long enough for another attempt; whether anything has."""
        return self._receipts.cut_due()

    def _span_s(self, receipt: Receipt) -> float | None:
        """How long ago central can have committed at most, s: after the batch was cut."""
        cut_at_s = [
            at_s
            for stream, seq, at_s in self._cut_at_s
            if stream == receipt.stream and seq <= receipt.upto
        ]
        return self._monotonic_s() - cut_at_s[-1] if cut_at_s else None
