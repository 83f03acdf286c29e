"""How long to wait before the next attempt to connect: longer each time, and never in step.

Full jitter: when the broker comes back to a region, a thousand agents spread
themselves over the time that they have been waiting for. No connection, no
clock: attempts in, delays out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

SHORTEST_S: Final = 0.2
LONGEST_S: Final = 900.0
_FIRST_S: Final = 1.0
_TAKEN_OVER_ATTEMPTS: Final = 6
"""Who was taken over waits as after so many failures: two must not chase each other."""


class Backoff:
    """One connection's attempts."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._attempts = 0

    def delay_s(self) -> float:
        """Before the next attempt, s; each call counts as one that failed."""
        most_s = min(LONGEST_S, _FIRST_S * 2**self._attempts)
        if most_s < LONGEST_S:
            self._attempts += 1
        return max(SHORTEST_S, self._uniform(0.0, most_s))

    def lasted(self) -> None:
        """A connection has lasted: the next failure is a first one."""
        self._attempts = 0

    def taken_over(self) -> None:
        """Another client came under our name."""
        self._attempts = max(self._attempts, _TAKEN_OVER_ATTEMPTS)
