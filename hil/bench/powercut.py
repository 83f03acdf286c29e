"""How many states a power cut may leave were opened, and how much that was promised was lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from hil.bench.figure import Figure
from hil.powercut.run import Wanted, prove


def powercut_figures() -> Iterator[Figure | str]:
    """Both sides with the command's own numbers, without starting the real processes."""
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="loadscape-powercut-") as folder:
        sides = prove(Path(folder), Wanted(starts=0), said.append)
    for side in sides:
        wrong = side.outcome.lossy + side.outcome.corrupt
        yield (
            f"{side.outcome.side}: {side.outcome.states} states at {side.outcome.cuts} cuts, "
            f"{wrong} of them wrong; the control, a disk that ignores flushes, loses in "
            f"{side.control.lossy} of {side.control.states}"
        )
    yield Figure("powercut.states", sum(side.outcome.states for side in sides), "states")
    yield Figure("powercut.lost", sum(side.outcome.lost for side in sides), "promises", limit=0)
    yield Figure("powercut.corrupt", sum(side.outcome.corrupt for side in sides), "states", limit=0)
    caught = [side.control.lossy / side.control.states for side in sides]
    yield Figure(
        "powercut.control_caught", min(caught), "of its states", limit=0.1, better="higher"
    )
