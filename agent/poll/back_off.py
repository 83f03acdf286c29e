"""When a meter that does not answer is asked again, and who pays for the time.

The first failure in a row is looked into at once: most are a disturbed frame.
A meter that fails again is probed after ever longer pauses; time that others
would have wanted is taken from a small share of the line's. Whoever fails
again and again loses the right to be asked at once until it has answered for
a while, so a meter that comes and goes costs no more than a dead one.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.02
"""Share of a busy line's time that failing meters may take together."""
SHARE_OF_RECOVERY = 0.1
"""The same where load profiles are recovered, which can wait."""
RESTING_EARNS = 5.0
"""Time in which the line rests earns so many times more."""
MOST_OWED_S = 60.0
"""However many fail at once, one of them is asked again after this time."""
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
_LONGEST_PAUSE_OF_PROFILES_S = 20.0
_STRIKES = 2
_FORGIVEN = 3
"""Strikes up to which a failure is looked into at once; two a failure, one less an answer."""
_MOST_STRIKES = 12


@dataclass(slots=True)
class BackOff:
    """One meter's failures. Real, monotonic seconds."""

    keeps_profile: bool
    cost_s: float
    """What a failed read takes."""
    failures: int = 0
    """In a row."""
    probe_at_s: float = 0.0
    """When it may be asked again."""
    strikes: int = 0

    @property
    def at_once(self) -> bool:
        """Whether its next probe need not be earned."""
        return self.failures == 1 and self.strikes <= _FORGIVEN

    def due(self, now_s: float) -> bool:
        """Whether it fails and may be asked again."""
        return self.failures > 0 and self.probe_at_s <= now_s

    def answered(self) -> None:
        """It is in order again."""
        self.failures = 0
        self.strikes = max(0, self.strikes - 1)

    def failed(self, began_s: float, ended_s: float, wanted_s: float, *, probed: bool) -> float:
        """Note a failure that took `wanted_s` of time that others wanted.

        Returns how long the line has to earn that time, 0 if it need not be earned.
        """
        self.failures += 1
        self.strikes = min(_MOST_STRIKES, self.strikes + _STRIKES)
        self.cost_s = ended_s - began_s
        longest_s = _LONGEST_PAUSE_OF_PROFILES_S if self.keeps_profile else _LONGEST_PAUSE_S
        self.probe_at_s = ended_s + min(longest_s, _PAUSE_S * 2 ** min(self.failures - 1, 10))
        if not probed and (self.keeps_profile or self.strikes <= _FORGIVEN):
            return 0.0
        share = SHARE_OF_RECOVERY if self.keeps_profile else SHARE
        return wanted_s * (1 / share - 1)
