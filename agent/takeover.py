"""Another client with this agent's name: a copy of its card, told by how often it shows.

The broker lets one client of a name in and sends the other one away. Once may
be a broker's mistake; again within the hour is another concentrator that runs
with the same certificate, and comes back whenever this one does.
"""

from __future__ import annotations

WITHIN_S = 3600.0
ALARM_S = 86_400.0
"""How long the alarm stays after the last take-over."""


class TakeOvers:
    """Instants are monotonic seconds."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._alarmed = False

    def seen(self, now_s: float) -> bool:
        """The connection was taken over; whether that proves that another one runs."""
        again = now_s - self._last_s <= WITHIN_S
        self._last_s = now_s
        self._alarmed = self._alarmed or again
        return self._alarmed

    def over(self, now_s: float) -> bool:
        """Whether an alarm ends now; told once."""
        ends = self._alarmed and now_s - self._last_s > ALARM_S
        if ends:
            self._alarmed = False
        return ends
