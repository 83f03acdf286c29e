"""Tells two concentrators that run with one identity from one that restarts.

Every start of an agent has a random boot id. One that comes back after another
was not replaced by it: two run, and take the connection from each other in
turn. A broker that was restored shows an old birth once, so one return proves
nothing yet. Remembered in memory only; it shows again within minutes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

RETURNS = 3
"""So many boot ids must come back within `WITHIN_S` to prove a clone."""
WITHIN_S = 3600.0
_BOOTS_REMEMBERED = 8


@dataclass(slots=True)
class _Births:
    boots: deque[str] = field(default_factory=lambda: deque(maxlen=_BOOTS_REMEMBERED))
    returned_s: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))


class Clones:
    """Births of all devices."""

    def __init__(self) -> None:
        self._births: dict[str, _Births] = {}

    def birth(self, device: str, boot: str, now_s: float) -> bool:
        """Take note of a birth (monotonic s); whether it proves that two are alive."""
        births = self._births.setdefault(device, _Births())
        if births.boots and births.boots[-1] == boot:
            return False
        if boot in births.boots:
            births.boots.remove(boot)
            births.returned_s.append(now_s)
        births.boots.append(boot)
        full = len(births.returned_s) == RETURNS
        return full and births.returned_s[0] >= now_s - WITHIN_S
