"""What central's word does to the outbox: sealed bytes go, a new stream begins, rows go again.

A receipt counts for the stream that it names, and only where the chain's hash
at its number is our own. Where the two histories differ (a restored or copied
card, a fork), or where central waits for a batch that is here no more, the
stream is left: a new one begins under a random name, and all that has no
receipt is cut again into it. What central has and cannot open is cut again
from the rows, as long as the history has them. Signatures are checked before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from agent.health import Counters, Faults
from agent.keyring import NoEpochKey
from agent.outbox import Cutter
from agent.store.again import Again
from agent.store.database import Store
from agent.store.filing import Filing
from agent.store.identity import StreamHead

if TYPE_CHECKING:
    from wire.receipt import Nack, Receipt

_log = logging.getLogger("loadscape.agent")

NEW_STREAM_PAUSE_S = 300.0
"""Least time from one new stream to the next: two cards that fork each other must not storm."""
ALARM_S = 86_400.0
"""How long a rollback stays among the faults."""
_RECUT_PAUSE_S = 30.0
_CONTRADICTIONS = 3
"""Receipts in a row that must take back what central has signed for before they are believed."""


class Receipts:
    """Part of the custody; what it writes is durable when a method returns."""

    def __init__(
        self,
        store: Store,
        cutter: Cutter,
        filing: Filing,
        transact: Callable[[Callable[[], None]], None],
        *,
        counters: Counters,
        faults: Faults,
        monotonic_s: Callable[[], float],
    ) -> None:
        """`transact` runs a write in one transaction and makes room for it."""
        self._store = store
        self._cutter = cutter
        self._filing = filing
        self._transact = transact
        self._counters = counters
        self._faults = faults
        self._monotonic_s = monotonic_s
        self._again = Again()
        self._contradicted = 0
        self._new_stream_after_s = float("-inf")
        self._alarm_until_s: float | None = None
        self._recut_after_s: float | None = None
        self.recut_other_streams()

    def honour(self, receipt: Receipt) -> None:
        """Do what a verified receipt says."""
        from wire.receipt import EPOCH_GONE, UNREADABLE

        if receipt.stream == self._cutter.head.stream:
            self._follow(receipt)
        for nack in receipt.nacks:
            if nack.reason in (EPOCH_GONE, UNREADABLE):
                self._asked_again(receipt.stream, nack)

    def cut_due(self) -> bool:
        """Cut what has waited long enough for another attempt; whether anything has."""
        now_s = self._monotonic_s()
        if self._alarm_until_s is not None and now_s >= self._alarm_until_s:
            self._alarm_until_s = None
            self._faults.over("rollback")
        due = self._again.due(now_s)
        for number in due:
            self._cut_again(number)
        recut = self._recut_after_s is not None and now_s >= self._recut_after_s
        if recut:
            self.recut_other_streams()
        return bool(due) or recut

    # --- the present stream

    def _follow(self, receipt: Receipt) -> None:
        head = self._cutter.head
        known = self._store.hash_at(head.stream, receipt.upto) if receipt.upto else None
        difference = self._difference(receipt, head, known)
        if difference is not None:
            self._rollback(difference)
            return
        if known is not None:
            with self._store.transaction():
                count = self._store.receipt(head.stream, receipt.upto, receipt.committed_at_utc_s)
            self._counters.add("batches_receipted_total", count)
        self._look_for_a_hole(receipt, head)

    def _difference(self, receipt: Receipt, head: StreamHead, known: bytes | None) -> str | None:
        """How central's history of the stream is not ours, None if it may be."""
        from wire.receipt import FORK

        if receipt.upto >= head.next_seq:
            return f"central has batch {receipt.upto}, this agent never cut it"
        if known is not None and known != receipt.hash_at_upto:
            return f"central's batch {receipt.upto} is not this agent's"
        if any(nack.reason == FORK for nack in receipt.nacks):
            return "central has seen two different batches of one number"
        return None

    def _rollback(self, difference: str) -> None:
        self._faults.report(
            "rollback",
            f"rollback_detected: {difference}; if this card was not restored from a copy, another "
            "one runs with this agent's keys: revoke the device and enrol it anew",
        )
        self._alarm_until_s = self._monotonic_s() + ALARM_S
        self._begin_stream(difference)

    def _look_for_a_hole(self, receipt: Receipt, head: StreamHead) -> None:
        """Leave a stream whose next batch central waits for and nobody has."""
        from wire.receipt import GAP

        upto = receipt.upto
        receipted_upto = self._store.receipted_upto(head.stream)
        gap = any(nack.reason == GAP for nack in receipt.nacks)
        if upto >= receipted_upto:
            self._contradicted = 0
        if not gap or upto + 1 >= head.next_seq:
            return
        if upto < receipted_upto:
            # One may be an old message that came late; a centre that lost its journal goes on.
            self._contradicted += 1
            if self._contradicted >= _CONTRADICTIONS:
                lost = f"central has lost batches {upto + 1} to {receipted_upto}"
                self._faults.report("central", f"{lost}, which it had signed for; its log says why")
                self._begin_stream(lost, withdraw_after=upto)
            return
        waiting = self._store.sealed_after(head.stream, upto, 1)
        if not waiting or waiting[0][0] != upto + 1:
            self._begin_stream(f"batch {upto + 1} was dropped to make room")

    def _begin_stream(self, reason: str, *, withdraw_after: int | None = None) -> None:
        now_s = self._monotonic_s()
        if now_s < self._new_stream_after_s:
            return
        self._new_stream_after_s = now_s + NEW_STREAM_PAUSE_S
        _log.warning("%s; a new stream is begun", reason)
        self._counters.add("streams_begun_total")
        self._contradicted = 0
        self._transact(partial(self._take_new_head, reason, withdraw_after))
        self.recut_other_streams()

    def _take_new_head(self, reason: str, withdraw_after: int | None) -> None:
        if withdraw_after is not None:
            self._store.withdraw_receipts(self._cutter.head.stream, withdraw_after)
        self._cutter.continue_from(StreamHead.fresh())
        self._store.set_head(self._cutter.head)
        self._filing.log("stream", reason)

    # --- cutting again

    def recut_other_streams(self) -> None:
        """Cut again, into the present stream, what older streams hold without a receipt."""
        self._recut_after_s = None
        for number, first, last in self._store.unreceipted(outside=self._cutter.head.stream):
            try:
                self._transact(partial(self._recut, number, first, last))
            except NoEpochKey as error:
                self._faults.report("keyset", str(error))
                self._recut_after_s = self._monotonic_s() + _RECUT_PAUSE_S
                return

    def _recut(self, number: int, first_end_utc_s: int, last_end_utc_s: int) -> None:
        rows = self._store.rows_of(number, first_end_utc_s, last_end_utc_s)
        self._filing.recut(
            rows, self._store.events.of_batch(number), self._store.log.of_batch(number)
        )
        self._store.forget_batch(number)

    def _asked_again(self, stream: bytes, nack: Nack) -> None:
        """Central holds a batch that it cannot open: what was in it goes in another one."""
        from wire.receipt import EPOCH_GONE

        present = stream == self._cutter.head.stream
        if nack.reason == EPOCH_GONE and present and self._store.batch_at(stream, nack.seq):
            self._begin_stream("central has destroyed the epoch key of a batch")
        number = self._store.batch_at(stream, nack.seq)
        if number is None:
            return
        if self._again.unreadable(number, self._monotonic_s()):
            self._cut_again(number)
        else:
            what = f"central cannot read batch {nack.seq} however often it is sent"
            self._faults.report("unreadable", f"{what} ({nack.reason}); its log says why")

    def _cut_again(self, number: int) -> None:
        """Cut what a batch held; it holds nothing afterwards."""
        span = self._store.span_of(number)
        if span is None:
            return
        before = self._cutter.head
        # Whoever could not read it may lack its roster: say it again.
        self._cutter.continue_from(before)
        try:
            self._transact(partial(self._empty, number, *span))
        except NoEpochKey as error:
            self._faults.report("keyset", str(error))
            self._again.put_off(number, self._monotonic_s())
            return
        stream = self._cutter.head.stream
        cut = range(before.next_seq, self._cutter.head.next_seq)
        into = [self._store.batch_at(stream, seq) for seq in cut]
        self._again.cut(number, [one for one in into if one is not None])

    def _empty(self, number: int, first_end_utc_s: int, last_end_utc_s: int) -> None:
        rows = self._store.rows_of(number, first_end_utc_s, last_end_utc_s)
        events, logged = self._store.events.of_batch(number), self._store.log.of_batch(number)
        if not rows and not events and not logged:
            self._filing.log("gone", f"batch={number} central cannot open it, the history is over")
        self._filing.recut(rows, events, logged)
        self._store.empty_batch(number)
