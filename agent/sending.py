"""Which batches go out next: the window, the hold after a birth, when to send again.

Times and outbox come in, decisions go out; no connection, no thread, no store.
Batches go in the order of their chain, at most a window ahead of the broker's
acknowledgements and a longer one ahead of the last receipt; what gets no
receipt goes out again, ever more rarely. Nothing here deletes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.store.outline import OutboxView

if TYPE_CHECKING:
    from wire.receipt import Receipt

WINDOW = 16
"""Batches on the way to the broker, not yet PUBACKed."""
AHEAD = 64
"""Batches sent beyond the last receipt."""
RECEIPT_TIMEOUT_S = (30.0, 900.0)
"""First and longest patience for a receipt before batches are sent again, s."""
_SETTLE_S = 2.0
_GAP_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Batches to take out of the outbox: at most `limit` of `stream` above `after`."""

    stream: bytes
    after: int
    limit: int


class Sending:
    """One connection's decisions; `now_s` is monotonic, in seconds. Not thread-safe."""

    def __init__(
        self,
        repeats: Callable[[int], object],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`repeats` is told how many batches are to go out once more."""
        self._repeats = repeats
        self._uniform = uniform
        self._connected = False
        self._stream = b""
        self._sent_upto = 0
        self._last_upto = 0
        self._fetching = False
        self._on_the_way: set[tuple[bytes, int]] = set()
        self._hold_until_s = 0.0
        self._progress_s = 0.0
        self._patience_s = RECEIPT_TIMEOUT_S[0]
        self._gap_after_s = float("-inf")

    @property
    def connected(self) -> bool:
        """Whether there is a session to send through."""
        return self._connected

    def connect(self, view: OutboxView, now_s: float) -> None:
        """A session began. What had no PUBACK the client sends again by itself; the rest waits
        for the receipt that answers the birth, so that only what is needed goes out twice."""
        self._sent_upto = view.receipted_upto
        self._fetching = False
        self._hold_until_s = now_s + self._uniform(0.5, 1.0) * _SETTLE_S
        self._progress_s = now_s
        self._patience_s = RECEIPT_TIMEOUT_S[0]
        self._connected = True

    def disconnect(self) -> None:
        """The session ended."""
        self._connected = False

    def want(self, view: OutboxView, now_s: float) -> Wanted | None:
        """What to fetch now; until `fetched` nothing more is wanted."""
        if not self._connected:
            return None
        self._follow(view, now_s)
        unsigned = self._sent_upto - view.receipted_upto
        if unsigned and now_s > self._progress_s + self._patience_s:
            self._again_from(view.receipted_upto, now_s)
            longer_s = self._patience_s * self._uniform(1.5, 2.5)
            self._patience_s = min(longer_s, RECEIPT_TIMEOUT_S[1])
            unsigned = 0
        room = min(WINDOW - len(self._on_the_way), AHEAD - unsigned)
        waiting = self._sent_upto < view.last_seq
        if self._fetching or not waiting or room <= 0 or now_s < self._hold_until_s:
            return None
        self._fetching = True
        return Wanted(self._stream, self._sent_upto, room)

    def fetched(self, stream: bytes) -> bool:
        """The outbox has answered; whether its answer is still of use."""
        self._fetching = False
        return self._connected and stream == self._stream

    def is_due(self, seq: int) -> bool:
        """Whether a fetched batch is to be published; one on its way needs no second copy."""
        return seq > self._sent_upto and (self._stream, seq) not in self._on_the_way

    def sent(self, seq: int, now_s: float) -> None:
        """A fetched batch was published, or is on its way already."""
        if seq <= self._sent_upto:
            return
        if self._sent_upto == self._last_upto:
            self._progress_s = now_s
        self._on_the_way.add((self._stream, seq))
        self._sent_upto = seq

    def acknowledged(self, stream: bytes, seq: int) -> None:
        """The broker has a batch: room in the window, nothing more."""
        self._on_the_way.discard((stream, seq))

    def answered(self, receipt: Receipt, now_s: float) -> None:
        """A verified receipt came: the hold is over; a gap is filled at once."""
        from wire.receipt import GAP

        self._hold_until_s = min(self._hold_until_s, now_s)
        gap = receipt.stream == self._stream and any(n.reason == GAP for n in receipt.nacks)
        if gap and now_s >= self._gap_after_s:
            self._gap_after_s = now_s + _GAP_PAUSE_S
            self._again_from(min(receipt.upto, self._sent_upto), now_s)

    def _follow(self, view: OutboxView, now_s: float) -> None:
        if view.stream != self._stream:
            self._stream = view.stream
            self._sent_upto = self._last_upto = view.receipted_upto
            self._progress_s = now_s
        if view.receipted_upto > self._last_upto:
            self._last_upto = view.receipted_upto
            self._progress_s = now_s
            self._patience_s = RECEIPT_TIMEOUT_S[0]
        self._sent_upto = max(self._sent_upto, view.receipted_upto)

    def _again_from(self, upto: int, now_s: float) -> None:
        self._repeats(max(0, self._sent_upto - upto))
        self._sent_upto = upto
        self._progress_s = now_s
