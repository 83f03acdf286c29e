"""A random schedule: what happens to one concentrator, its broker and its centre, step by step.

The same seed draws the same steps. What a step meets depends on the steps
before alone, not on time or on the machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

STEPS: Final = (25, 60)
"""Fewest and most steps of a schedule."""

_KEPT: Final = {"rotate": 2, "destroy": 4}
_BARE: Final = {"days": 3}
_WEIGHTS: Final = {
    "read": 24,
    "late": 3,
    "event": 3,
    "flow": 10,
    "send": 16,
    "puback": 14,
    "take": 10,
    "hear": 8,
    "look": 5,
    "cut": 3,
    "reconnect": 3,
    "wipe": 5,
    "drop_up": 6,
    "drop_down": 4,
    "repeat_up": 3,
    "repeat_down": 3,
    "swap_up": 5,
    "swap_down": 2,
    "replay_up": 2,
    "replay_down": 2,
    "power_cut": 3,
    "central_cut": 5,
    "image": 4,
    "restore": 4,
    "restore_database": 2,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. `number` picks one of several, `cut` is a power cut in the midst."""

    kind: str
    number: int
    wait_s: float
    cut: int | None
    """After so many durable writes of the step, None: not at all."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All steps of one trial."""

    seed: int
    bare: bool
    """The agent keeps no history; without it epoch keys may be destroyed."""
    steps: Sequence[Step]


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    drawn = random.Random(seed)
    bare = drawn.random() < 0.5
    weights = _WEIGHTS | (_BARE if bare else _KEPT)
    kinds = drawn.choices(list(weights), list(weights.values()), k=drawn.randint(*STEPS))
    steps = [
        Step(
            kind,
            drawn.randrange(1 << 30),
            drawn.choice((0.1, 1.0, 5.0, 40.0)),
            drawn.randrange(4) if drawn.random() < 0.05 else None,
        )
        for kind in kinds
    ]
    return Schedule(seed, bare, steps)
