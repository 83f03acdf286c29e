"""Whether the rows that a range brought are all that the meter has in it.

A meter that takes whole hours only, or that reads the bounds in another zone,
leaves out rows without a word. It is found out by rows that it should have
had; what it once did right is remembered, so that a gap is not asked for twice.
"""

from __future__ import annotations

from agent.dlms.load_profile.columns import ProfileAnswer

_HOUR_S = 3600


class RangeBelief:
    """What one meter has shown of its bounds; all numbers in seconds."""

    def __init__(self, *, whole_hours: bool) -> None:
        """`whole_hours`: no other bounds are asked for."""
        self._whole_hours = whole_hours
        self._proven: set[str] = set()

    def forget(self) -> None:
        """Another meter answers now."""
        self._proven.clear()

    def holds(
        self,
        answer: ProfileAnswer,
        wanted: tuple[int, int],
        asked: tuple[int, int],
        period_s: int,
        now_utc_s: float,
    ) -> bool:
        """Whether rows that did not come are rows that the meter does not have."""
        if _missing(answer, wanted, period_s, now_utc_s) == 0:
            self._prove(answer, asked, period_s)
            return bool(answer.count)
        inside = asked[0] <= answer.oldest_utc_s and answer.newest_utc_s <= asked[1]
        return self._proven == {"start", "end"} and bool(answer.count) and inside

    def _prove(self, answer: ProfileAnswer, asked: tuple[int, int], period_s: int) -> None:
        """Notes which bounds are honoured though they lie within an hour."""
        if not answer.rows:
            return
        since, until = asked
        hours = self._whole_hours or period_s % _HOUR_S == 0
        if hours or answer.rows[0].end_utc_s < since + -since % _HOUR_S:
            self._proven.add("start")
        if hours or answer.rows[-1].end_utc_s > until - until % _HOUR_S:
            self._proven.add("end")


def _missing(
    answer: ProfileAnswer, wanted: tuple[int, int], period_s: int, now_utc_s: float
) -> int:
    """Ends in the range without row; the newest may just not be written yet."""
    first, last = wanted
    settled = min(last, int(now_utc_s) - period_s)
    expected = settled // period_s - (first - 1) // period_s
    return max(0, expected - sum(row.end_utc_s <= settled for row in answer.rows))
