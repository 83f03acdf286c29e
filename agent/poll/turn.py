"""How one meter stands with its line: when it was asked, when it is due, what a read takes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.poll.back_off import BackOff

SPACING_S = 1.0
"""The cycle asks a meter no faster than this in real time, however fast the clock runs."""
_LEAD = 1.1
_LEAD_MORE_S = 0.02
_IN_ORDER_LONGEST = 2.0
"""A meter in order may take its longest read so many times: repeats, and the serial number."""
_SMOOTHING = 0.1
_MANY_ENDS = 16
"""Slices with fewer interval ends tell little about the time that one takes."""

Why = Literal["after edge", "before edge", "cycle", "name", "probe", "recover", "chore"]


@dataclass(frozen=True, slots=True)
class Now:
    """One instant on both clocks."""

    real_s: float
    """Monotonic."""
    utc_s: float
    """What the agent's clock shows."""
    real_per_utc: float = 1.0
    """Real seconds in which the clock shows one second more; inf while it stands."""


class Known(Protocol):
    """What is known of a meter's reads; may change as the meter is learned. Real s."""

    @property
    def keeps_profile(self) -> bool:
        """Whether it is asked for a load profile, not for samples."""
        ...

    @property
    def expected_s(self) -> float:
        """A read that goes well."""
        ...

    @property
    def longest_s(self) -> float:
        """A read in which every answer comes at its last moment."""
        ...


@dataclass(frozen=True, slots=True)
class MeterOnLine:
    """`Known` of a meter that nothing is learned of."""

    keeps_profile: bool
    expected_s: float = 0.05
    longest_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the meter at `index` now."""

    index: int
    why: Why
    edge_utc_s: int = 0
    """The edge next to which a sample is wanted."""
    until_s: float = math.inf
    """Monotonic instant after which nothing may be begun or awaited."""
    most: int = 0
    """Most interval ends of a load profile."""
    free_until_s: float = -math.inf
    """Nobody else wants the line before; monotonic."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Everything that belongs to this edge has been asked."""

    edge_utc_s: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is due before this monotonic instant."""

    until_s: float


@dataclass(slots=True)
class Turn:
    """One meter's place in the order. Real seconds, unless named otherwise."""

    index: int
    known: Known
    phase_utc_s: float
    """When in the sampling cycle it is due."""
    read_s: float
    """Smoothed time of one read."""
    back_off: BackOff
    asked_s: float = -math.inf
    asked_utc_s: float = -math.inf
    due_utc_s: float = -math.inf
    before_edge_utc_s: int = 0
    """The edge right before which it was asked last."""
    expected_s: float = 0.0
    """What the plan at the last answer said of one read."""
    measured: int = 0
    """Reads that `read_s` is made of."""
    end_s: float = 0.05
    """Smoothed time per interval end of a slice, association included; at first that of 9600 Bd."""
    slices: int = 0
    """Slices that `end_s` is made of."""
    chore_at_s: float = -math.inf
    """When its last chore ended."""

    @property
    def in_order(self) -> bool:
        """Whether it answered the last time, or was not asked yet."""
        return not self.back_off.failures

    def until_s(self, now: Now) -> float:
        """Monotonic instant by which a read in order must be over."""
        return now.real_s + _IN_ORDER_LONGEST * self.known.longest_s

    def asked(self, ask: Ask, began: Now, sample_s: int) -> None:
        """Note that it was asked, whatever came of it."""
        self.asked_s, self.asked_utc_s = began.real_s, began.utc_s
        if ask.why == "before edge":
            self.before_edge_utc_s = ask.edge_utc_s
        # An early sample, as at an edge, replaces the one due if that is nearer than half a cycle.
        early = began.utc_s < self.due_utc_s
        cycles = (began.utc_s - self.phase_utc_s) / sample_s + (0.5 if early else 0.0)
        next_utc_s = self.phase_utc_s + (math.floor(cycles) + 1) * sample_s
        back = began.utc_s < self.due_utc_s - 2 * sample_s
        self.due_utc_s = max(self.due_utc_s, next_utc_s) if early and not back else next_utc_s

    def answered(self, ask: Ask, taken_s: float, ends: int) -> None:
        """Learn from a read that took `taken_s` and brought so many intervals with data."""
        # A read across an edge, a first one and a probe ask for the serial number too: they do not
        # tell what the cycle takes.
        first = self.due_utc_s == -math.inf
        self.expected_s = self.known.expected_s
        if self.known.keeps_profile or (ask.why in ("cycle", "before edge") and not first):
            self.measured += 1
            weight = max(_SMOOTHING, 1 / self.measured)
            self.read_s += weight * (taken_s - self.read_s)
        if ends >= _MANY_ENDS:
            self.slices += 1
            weight = max(_SMOOTHING, 1 / self.slices)
            self.end_s += weight * (taken_s / ends - self.end_s)
        self.back_off.answered()

    def due_in_s(self, now: Now) -> float:
        """Real time until the cycle wants it; <= 0 if it is due."""
        spaced_s = self.asked_s + SPACING_S - now.real_s
        if now.utc_s < self.asked_utc_s or self.due_utc_s == -math.inf:
            # The clock was set back, or the port is new.
            return spaced_s
        wait_utc_s = self.due_utc_s - now.utc_s
        return max(spaced_s, wait_utc_s * now.real_per_utc if wait_utc_s > 0 else 0.0)


def lead_s(turns: Collection[Turn]) -> float:
    """How long before an edge the first of these samples is begun."""
    return _LEAD * sum(turn.read_s for turn in turns) + _LEAD_MORE_S if turns else 0.0


def oldest(turn: Turn) -> tuple[float, int]:
    """Sorts by who was asked longest ago."""
    return turn.asked_s, turn.index


def longest_waiting(turn: Turn) -> tuple[float, int]:
    """Sorts failing meters by who may be asked again for the longest time."""
    return turn.back_off.probe_at_s, turn.index
