"""Stamps rows anew, once, when the clock that stamped them has become one that is trusted.

Rows that an untrusted clock stamped are stored and held uncut. A meter's own
stamps (load profiles) are not the agent's to change, and what is cut already
is never touched. The held rows move by whole intervals to the nearest edge:
where that is not exact to a hundredth of the interval they stay flagged. What
was stamped before the machine was last started cannot be told any more and is
cut as it is, flagged; so is everything when it has been held for too long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.clock_trust import Trust
from agent.store.database import UNCUT, Store
from agent.store.held_table import HeldRow
from agent.store.outline import StoredRow
from wire.quality import Quality

LONGEST_S = 3 * 86_400
"""Rows are held so long after the first of them ended."""
MOST_ROWS = 20_000
_EXACT_SHARE = 0.01
"""An end within this share of the interval from the edge counts as on it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of held rows."""

    rows: Sequence[StoredRow]
    """All of them, as they stand in the store now, in no batch."""
    moved: int
    """How many got another end."""
    by_s: int
    """By how much the last of these moved, s."""
    unknown: int
    """How many keep the stamp of a clock that nobody vouched for."""


class Holding:
    """Part of `Filing`; what writes must run inside the store's `transaction`."""

    def __init__(
        self, store: Store, trust: Trust, interval_s: int, now_utc_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._trust = trust
        self._interval_s = interval_s
        self._now = now_utc_s

    def hold(self, rows: Sequence[StoredRow]) -> list[StoredRow]:
        """Store, flag and hold back what an untrusted clock has stamped; returns the others."""
        if self._trust.trusted:
            return list(rows)
        ours = [row for row in rows if not row.values[-1] & Quality.PROFILE]
        flagged = [_flagged(row, Quality.CLOCK_UNTRUSTED) for row in ours]
        self._store.insert(UNCUT, flagged)
        started_utc_s = self._now() - self._trust.boottime_s()
        self._store.held.add(
            HeldRow(
                row.end_utc_s,
                row.epoch_id,
                self._trust.boot,
                round((row.end_utc_s - started_utc_s) * 1000),
            )
            for row in flagged
        )
        return [row for row in rows if row.values[-1] & Quality.PROFILE]

    @property
    def doubted(self) -> bool:
        """Whether nobody vouches for the clock."""
        return not self._trust.trusted

    @property
    def count(self) -> int:
        """How many rows are held back."""
        return self._store.held.extent()[0]

    @property
    def due(self) -> bool:
        """Whether `settle` is to be called: the clock is trusted, or the bound is reached."""
        count, first_ms = self._store.held.extent()
        waited_s = self._trust.boottime_s() - first_ms / 1000
        bound = count >= MOST_ROWS or not 0 <= waited_s <= LONGEST_S
        return count > 0 and (self._trust.trusted or bound)

    def settle(self) -> Settled:
        """Hold nothing back any more; rows of this start of the machine get their right ends."""
        held = self._store.held.rows()
        ends = {(row.end_utc_s, row.epoch_id): row for row in held}
        stored = [
            row
            for row in self._store.rows_of(UNCUT, held[0].end_utc_s, held[-1].end_utc_s)
            if (row.end_utc_s, row.epoch_id) in ends
        ]
        if not self._trust.trusted:
            self._store.held.release()
            return Settled(stored, 0, 0, len(stored))
        right = [self._right(row, ends[row.end_utc_s, row.epoch_id]) for row in stored]
        pairs = zip(right, stored, strict=True)
        shifts_s = [shift_s for new, old in pairs if (shift_s := new.end_utc_s - old.end_utc_s)]
        self._store.held.take_out(UNCUT)
        # What has data first: it does not give way to what is reported missing.
        right.sort(key=lambda row: row.values[-1] & Quality.NO_DATA)
        self._store.insert(UNCUT, right)
        unknown = sum(bool(row.values[-1] & Quality.CLOCK_UNTRUSTED) for row in right)
        return Settled(right, len(shifts_s), shifts_s[-1] if shifts_s else 0, unknown)

    def _right(self, row: StoredRow, held: HeldRow) -> StoredRow:
        if held.boot != self._trust.boot:
            return row
        end_utc_s = self._now() - self._trust.boottime_s() + held.boottime_ms / 1000
        edge_utc_s = round(end_utc_s / self._interval_s) * self._interval_s
        moved = replace(row, end_utc_s=edge_utc_s)
        if abs(end_utc_s - edge_utc_s) > _EXACT_SHARE * self._interval_s:
            return moved
        return _flagged(moved, Quality.CLOCK_UNTRUSTED, clear=True)


def _flagged(row: StoredRow, flag: Quality, *, clear: bool = False) -> StoredRow:
    flags = row.values[-1] & ~flag if clear else row.values[-1] | flag
    return replace(row, values=(*row.values[:-1], int(flags)))
