"""How fast the demo's clock may run: as fast as every interval still closes.

The pace is found on the running system. It rises while the whole fleet
delivers each interval well before the next one ends, and falls as soon as one
concentrator is late, so it settles at what this machine can do.
"""

from __future__ import annotations

from collections.abc import Iterator

from hil.demo.progress import Fleet
from hil.site.installation import Installation

QUARTER_S = 900
FIRST_SPEED = 30.0
HIGHEST_SPEED = 600.0
_RISE = 1.25
_FALL = 0.7
_STEADY_INTERVALS = 3
"""Intervals that must arrive in time at one speed before a higher one is tried."""


class Pace:
    """Sets the installation's clock; `fixed` keeps to one speed."""

    def __init__(self, site: Installation, fixed: float | None) -> None:
        self._site = site
        self._fixed = fixed
        self._ceiling = HIGHEST_SPEED
        self._changed_at_utc_s = 0.0
        self._said_now = False
        self.speed = fixed or FIRST_SPEED

    def begin(self) -> None:
        """Leave the recovery's 1x."""
        self._set(self.speed)

    def follow(self, fleet: Fleet) -> Iterator[str]:
        """Look at the fleet once; yields what there is to say."""
        now_utc_s = self._site.clock.now_utc_s()
        if self._site.clock.real_s_until(now_utc_s + 1) > 0.99:
            if not self._said_now:
                self._said_now = True
                yield "the clock has reached now and goes on at 1x"
            return
        if self._fixed is not None or fleet.last_end_utc_s is None:
            return
        late_s = now_utc_s - fleet.last_end_utc_s
        if late_s > 2 * QUARTER_S and now_utc_s - self._changed_at_utc_s > 2 * QUARTER_S:
            self._ceiling = self.speed
            self._set(max(1.0, self.speed * _FALL))
            yield f"an interval came late: the clock now runs at {self.speed:.0f}x"
        elif (
            late_s < 1.5 * QUARTER_S
            and now_utc_s - self._changed_at_utc_s > _STEADY_INTERVALS * QUARTER_S
            and self.speed * _RISE < self._ceiling
        ):
            self._set(self.speed * _RISE)
            yield f"every interval closes in time: the clock now runs at {self.speed:.0f}x"

    def _set(self, speed: float) -> None:
        self.speed = speed
        self._changed_at_utc_s = self._site.clock.now_utc_s()
        self._site.set_speed(speed)
