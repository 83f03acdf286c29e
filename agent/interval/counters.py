"""Whether successive counters can belong together: rollover, reset, jump, standing still.

Steps are judged between samples that were used, with nothing but what the
meter's limits say. A rollover is taken only where the modulus is known and the
step through it is one that the meter can make; every other fall is a reset. A
counter that rolled over goes on growing in here, so that an edge is
interpolated exactly; what leaves is what the meter shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from agent.driver import CounterLimits
from wire.quality import Quality

COUNTERS = ("import_wh", "export_wh", "import_varh")
"""A sample's counters, in the order of the registers here."""
MOST_COUNTER = 1 << 53
"""What no meter counts to, Wh or varh, and the centre does not take."""

_ENERGIES = (COUNTERS.index("import_wh"), COUNTERS.index("export_wh"))
_IMPORT, _EXPORT = _ENERGIES
_HOUR_MS = 3_600_000
_SLACK_MS = 360_000
"""Meters refresh their counters late and clocks are set: so much longer a step may have taken."""
_STEPS = 3
"""So many steps must be missing before counters are said to stand still."""
_UNSEEN_STEP_WH = 10_000
"""Taken for the step of a counter that was never seen to move: 0.1 kWh behind a ratio of 100."""


class Evidence(Enum):
    """What a step of the counters says about the meter."""

    NONE = "the step is one that the meter can make"
    FELL = "a counter fell and did not roll over"
    JUMPED = "a counter gained more than the meter can count in the time"


class CounterWatch:
    """The counters of one meter, from one used sample to the next."""

    def __init__(self, limits: CounterLimits, interval_s: int) -> None:
        self._limits = limits
        self._interval_ms = interval_s * 1000
        self.restart()

    def restart(self) -> None:
        """Forget everything: what comes next is another meter's."""
        self._at_ms: int | None = None
        self._shown: tuple[int, ...] = ()
        self._modulus = [self._limits.rollover.get(name) for name in COUNTERS]
        self._added = [0] * len(COUNTERS)
        self._edge_turns = [0] * len(COUNTERS)
        self._power_w: int | None = None
        self._still_since_ms: int | None = None
        self._unseen_w_ms = 0
        self._step_wh: int | None = None

    def resume(self, at_utc_ms: int, registers: Sequence[int]) -> None:
        """Go on from registers that are known, as after a restart of the agent."""
        self.restart()
        self._at_ms = at_utc_ms
        self._shown = tuple(registers)

    def is_later(self, at_utc_ms: int) -> bool:
        """Whether a sample of this instant comes after the last one."""
        return self._at_ms is None or at_utc_ms > self._at_ms

    @property
    def shown(self) -> tuple[int, ...]:
        """The registers of the last sample that was used, as the meter showed them."""
        return self._shown

    @property
    def frozen(self) -> bool:
        """Whether the counters stand still although the meter shows that power flows.

        So it is when they did not move for an interval and the power shown
        since amounts to three of the smallest steps seen of them.
        """
        if self._at_ms is None or self._still_since_ms is None:
            return False
        step_wh = _UNSEEN_STEP_WH if self._step_wh is None else self._step_wh
        still_ms = self._at_ms - self._still_since_ms
        missing = self._unseen_w_ms >= _STEPS * step_wh * _HOUR_MS
        return still_ms >= self._interval_ms and missing

    def judge(self, at_utc_ms: int, registers: Sequence[int]) -> Evidence:
        """What the step to these registers says; changes nothing."""
        if self._at_ms is None or at_utc_ms <= self._at_ms:
            return Evidence.NONE
        most = self._most(at_utc_ms - self._at_ms)
        jumped = False
        for position, (before, after) in enumerate(zip(self._shown, registers, strict=True)):
            if after < before:
                if not self._rolls(position, after, most):
                    return Evidence.FELL
            elif most is not None and after - before > most:
                jumped = True
        return Evidence.JUMPED if jumped else Evidence.NONE

    def take(
        self, at_utc_ms: int, registers: Sequence[int], power_w: int | None
    ) -> tuple[int, ...]:
        """Use a sample later than the last; its registers, going on past a rollover.

        A counter that fell for good falls in what is returned too.
        """
        if self._at_ms is not None:
            most = self._most(at_utc_ms - self._at_ms)
            for position, (before, after) in enumerate(zip(self._shown, registers, strict=True)):
                self._carry_over(position, before, after, most)
        self._watch_movement(at_utc_ms, registers, power_w)
        self._at_ms = at_utc_ms
        self._shown = tuple(registers)
        self._power_w = power_w
        return tuple(shown + added for shown, added in zip(self._shown, self._added, strict=True))

    def as_shown(self, edge: Sequence[int]) -> tuple[int, ...]:
        """An edge's registers, gone on past a rollover, as the meter would show them."""
        return tuple(
            register % modulus if added and modulus is not None else register
            for register, added, modulus in zip(edge, self._added, self._modulus, strict=True)
        )

    def close(self, edge: Sequence[int]) -> Quality:
        """The next edge's registers, gone on past a rollover: ROLLOVER if one lies before it.

        That is, between this edge and the one closed before.
        """
        turns = [
            register // modulus if added and modulus is not None else 0
            for register, added, modulus in zip(edge, self._added, self._modulus, strict=True)
        ]
        rolled = any(now > before for before, now in zip(self._edge_turns, turns, strict=True))
        self._edge_turns = turns
        return Quality.ROLLOVER if rolled else Quality(0)

    def _most(self, elapsed_ms: int) -> int | None:
        """What a counter can at most gain in the time, rounded up."""
        if self._limits.most_per_hour is None:
            return None
        return -(-self._limits.most_per_hour * (elapsed_ms + _SLACK_MS) // _HOUR_MS)

    def _rolls(self, position: int, after: int, most: int | None) -> bool:
        modulus, before = self._modulus[position], self._shown[position]
        if modulus is None or most is None or before >= modulus:
            return False
        # After a time in which it could have gone half round, a fall says too little.
        return most <= modulus // 2 and after + modulus - before <= most

    def _carry_over(self, position: int, before: int, after: int, most: int | None) -> None:
        modulus = self._modulus[position]
        if after < before:
            if modulus is not None and self._rolls(position, after, most):
                self._added[position] += modulus
            else:
                self._added[position] = self._edge_turns[position] = 0
        if modulus is not None and after >= modulus:
            # It shows what it should never show, so where it rolls over is not known.
            self._modulus[position] = None
            self._added[position] = self._edge_turns[position] = 0

    def _watch_movement(
        self, at_utc_ms: int, registers: Sequence[int], power_w: int | None
    ) -> None:
        if self._at_ms is None:
            self._still_since_ms = at_utc_ms
            return
        changes = [registers[position] - self._shown[position] for position in _ENERGIES]
        if any(changes):
            self._still_since_ms, self._unseen_w_ms = at_utc_ms, 0
            for gained in changes:
                if gained > 0 and (self._step_wh is None or gained < self._step_wh):
                    self._step_wh = gained
            return
        if self._still_since_ms is None:
            self._still_since_ms = at_utc_ms
        elapsed_ms = at_utc_ms - self._at_ms
        if elapsed_ms <= self._interval_ms:
            self._unseen_w_ms += elapsed_ms * self._countable_w(power_w)

    def _countable_w(self, power_w: int | None) -> int:
        """The smaller power of the two samples, if there is a counter for its direction."""
        before_w = self._power_w
        if before_w is None or power_w is None or before_w * power_w <= 0:
            return 0
        if power_w < 0 and not self._shown[_EXPORT]:
            # A meter of imports alone rests while power flows back.
            return 0
        return min(abs(before_w), abs(power_w))
