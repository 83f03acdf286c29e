"""How busy a line is: the share of the last minute in which a meter was being asked."""

from __future__ import annotations

import math

_WINDOW_S = 60.0


class LineLoad:
    """Forgets exponentially, with a time constant of a minute. Monotonic seconds.

    Written by the line's thread, read by any.
    """

    def __init__(self, now_s: float) -> None:
        self._seen = (now_s, 0.0, 0.0)
        """Until when, and of the window up to then the busy and the whole time."""

    def read(self, began_s: float, ended_s: float) -> None:
        """The line was busy for so long; the spans are told in order."""
        until_s, busy_s, whole_s = self._seen
        kept, passed_s = _weights(ended_s - until_s)
        taken_s = _weights(ended_s - max(began_s, until_s))[1]
        self._seen = (ended_s, busy_s * kept + taken_s, whole_s * kept + passed_s)

    def busy_share(self, now_s: float) -> float:
        """0..1, of the time since the start or about the last minute."""
        until_s, busy_s, whole_s = self._seen
        kept, passed_s = _weights(max(0.0, now_s - until_s))
        whole_s = whole_s * kept + passed_s
        return busy_s * kept / whole_s if whole_s > 0 else 0.0


def _weights(passed_s: float) -> tuple[float, float]:
    """What is left of all before this span, and what the span itself weighs at its end."""
    kept = math.exp(-passed_s / _WINDOW_S)
    return kept, _WINDOW_S * (1 - kept)
