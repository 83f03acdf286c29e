"""When what central could not read is cut anew: at once at first, then ever more rarely.

The reason may pass (a clock that was ahead, a central that is updated), and it
may not; then sending for ever the same costs next to nothing.
"""

from __future__ import annotations

AT_ONCE = 3
_FIRST_PAUSE_S = 3600.0
_LONGEST_PAUSE_S = 86_400.0


class Again:
    """Batches of the present stream by their numbers; real, monotonic seconds."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        """Batches that hold what was unreadable, and how often it was cut anew."""
        self._waiting: list[tuple[float, int]] = []

    def unreadable(self, seq: int, now_s: float) -> bool:
        """Whether it is to be cut anew at once; if not, `due` tells when."""
        more = self._times.get(seq, 0) - AT_ONCE
        if more < 0:
            return True
        # No power beyond the longest pause: it only grows.
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(more, 10), _LONGEST_PAUSE_S)
        self._waiting.append((now_s + pause_s, seq))
        return False

    def due(self, now_s: float) -> list[int]:
        """Batches that have waited; they are told once."""
        due = [seq for at_s, seq in self._waiting if at_s <= now_s]
        self._waiting = [(at_s, seq) for at_s, seq in self._waiting if at_s > now_s]
        return due

    def cut(self, seq: int, into: range) -> None:
        """What `seq` held is in other batches now."""
        self._times |= dict.fromkeys(into, self._times.pop(seq, 0) + 1)
