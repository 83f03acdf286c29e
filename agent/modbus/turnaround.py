"""How long a unit takes from a question's last byte to its answer's first, learned from reads.

The reader sleeps through the shortest turnaround seen of late instead of waking
at the answer's first byte. It would then never notice a unit that has become
quicker: so some reads listen for the first byte all the same, and only what
was not slept through is learned from.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SMOOTHED_OVER: Final = 8
"""Transactions over which the learned turnaround is smoothed."""
_LISTENED_TO: Final = 4
"""One answer in so many is listened for from the start."""


class Turnaround:
    """The smoothed turnaround of one unit; `known_s` is None until an answer came."""

    def __init__(self) -> None:
        self.known_s: float | None = None
        self._seen_s: deque[float] = deque(maxlen=_SMOOTHED_OVER)
        self._learned = 0
        self._since_listened = 0

    def sleep_s(self) -> float | None:
        """What of the turnaround to sleep through before the next answer; None to listen."""
        self._since_listened += 1
        if self._learned < _SMOOTHED_OVER or self._since_listened >= _LISTENED_TO:
            self._since_listened = 0
            return None
        # Not the smoothed one: a unit, or this host, that stalled once would be slept for too long.
        return min(self._seen_s)

    def learn(self, seen_s: float) -> None:
        """Take one clean transaction's time beyond its characters into the smoothed one."""
        seen_s = max(0.0, seen_s)
        self._seen_s.append(seen_s)
        self._learned = min(self._learned + 1, _SMOOTHED_OVER)
        known_s = seen_s if self.known_s is None else self.known_s
        self.known_s = known_s + (seen_s - known_s) / self._learned
