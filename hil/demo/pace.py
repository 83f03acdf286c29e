"""How fast the demo's clock may run: as fast as every interval still closes.

After each edge every line reads its meters once. The clock may run as fast as
the slowest line's round still fits the interval with room to spare; what the
rounds take is measured by the agents themselves, on this machine, under the
load that the pace itself makes.
"""

from __future__ import annotations

from collections.abc import Iterator

from hil.demo.progress import Fleet
from hil.site.installation import Installation

QUARTER_S = 900
FIRST_SPEED = 60.0
HIGHEST_SPEED = 600.0
_SHARE = 0.5
"""Share of the interval that the slowest round may take."""
_WORTH_SAYING = 1.2
"""A change of speed smaller than this factor is not worth it."""
_STEADY_INTERVALS = 2
"""Intervals at one speed before another one is set."""


class Pace:
    """Sets the installation's clock; `fixed` keeps to one speed."""

    def __init__(self, site: Installation, fixed: float | None) -> None:
        self._site = site
        self._fixed = fixed
        self._changed_at_utc_s = 0.0
        self._reached_now = False
        self.speed = fixed or FIRST_SPEED

    def begin(self) -> None:
        """Leave the recovery's 1x."""
        self._set(self.speed)

    def follow(self, fleet: Fleet) -> Iterator[str]:
        """Look at the fleet once; yields what there is to say."""
        now_utc_s = self._site.clock.now_utc_s()
        if self._reached_now or self._site.clock.real_s_until(now_utc_s + 1) > 0.9:
            if not self._reached_now:
                self._reached_now = True
                yield "the clock has reached now and goes on at 1x"
            return
        steady_s = now_utc_s - self._changed_at_utc_s
        if self._fixed or not fleet.slowest_round_s or steady_s < _STEADY_INTERVALS * QUARTER_S:
            return
        possible = _SHARE * QUARTER_S / fleet.slowest_round_s
        wanted = float(round(min(HIGHEST_SPEED, max(1.0, possible))))
        if wanted > self.speed * _WORTH_SAYING or wanted < self.speed / _WORTH_SAYING:
            self._set(wanted)
            yield (
                f"the slowest line reads its meters in {fleet.slowest_round_s:.1f} s: "
                f"every interval closes at {wanted:.0f}x"
            )

    def _set(self, speed: float) -> None:
        self.speed = speed
        self._changed_at_utc_s = self._site.clock.now_utc_s()
        self._site.set_speed(speed)
