"""When what central could not read is cut anew: at once at first, then ever more rarely.

The reason may pass (a clock that was ahead, a central that is updated), and it
may not; then sending for ever the same costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

AT_ONCE = 3
_FIRST_PAUSE_S = 3600.0
_LONGEST_PAUSE_S = 86_400.0
_KEYLESS_PAUSE_S = 30.0


class Again:
    """Batches by their numbers in the store; real, monotonic seconds."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        """Batches that hold what was unreadable, and how often it was cut anew."""
        self._waiting: list[tuple[float, int]] = []

    def unreadable(self, number: int, now_s: float) -> bool:
        """Whether it is to be cut anew at once; if not, `due` tells when."""
        more = self._times.get(number, 0) - AT_ONCE
        if more < 0:
            return True
        # No power beyond the longest pause: it only grows.
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(more, 10), _LONGEST_PAUSE_S)
        self._waiting.append((now_s + pause_s, number))
        return False

    def due(self, now_s: float) -> list[int]:
        """Batches that have waited; they are told once."""
        due = [number for at_s, number in self._waiting if at_s <= now_s]
        self._waiting = [(at_s, number) for at_s, number in self._waiting if at_s > now_s]
        return due

    def put_off(self, number: int, now_s: float) -> None:
        """It could not be cut for want of a key; `due` tells when to try again."""
        self._waiting.append((now_s + _KEYLESS_PAUSE_S, number))

    def cut(self, number: int, into: Iterable[int]) -> None:
        """What `number` held is in other batches now."""
        self._times |= dict.fromkeys(into, self._times.pop(number, 0) + 1)
