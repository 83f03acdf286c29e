"""`./dev powercut`: record, explore, start, report."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.powercut.prove import Outcome, explore, garbage
from hil.powercut.recorder import RecorderError
from hil.powercut.recording import Recorded, record
from hil.powercut.sides import AgentSide, CollectorSide, Side
from hil.powercut.starting import Started, start_agent_from, start_collector_from

STATES: Final = 2_000
STARTS: Final = 50
SECONDS: Final = 30.0
_GARBAGE_OF: Final = 10
"""Images whose files are filled with garbage."""
_STARTS_OF_GARBAGE: Final = 5
_CONTROL_AT_LEAST: Final = 50
"""States of the control, however few are wanted."""
_TOLD_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much is to be done."""

    states: int = STATES
    starts: int = STARTS
    seconds: float = SECONDS
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Proved:
    """One side: its states, the control's, and how many the real process came up from."""

    outcome: Outcome
    control: Outcome
    garbage: int
    """States of garbage that the side's own code opened."""
    refused: tuple[str, ...]
    """What it said to garbage that it did not open."""
    started: Started

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing corrupt, everything comes up, and the control was caught."""
        caught = self.control.lossy > 0
        return self.outcome.holds and caught and not (self.refused or self.started.failures)


def add_powercut_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Records what a real agent and a real collector write and flush in a short run, replays "
        "the states that a power cut may leave on their disks, opens each with the product's own "
        "code, and starts the real processes from some of them. The control, a disk that ignores "
        "flushes, must lose what was promised."
    )
    parser.epilog = "Exit codes: 0 nothing is lost, 1 something is, 2 it cannot be run."
    default = Wanted()
    parser.add_argument(
        "--states", type=int, default=default.states, help=f"distinct per side ({STATES})"
    )
    parser.add_argument(
        "--starts",
        type=int,
        default=default.starts,
        help=f"states per side that the real process starts from ({STARTS})",
    )
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help=f"of recording ({SECONDS:.0f})"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="which states are drawn (1)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run_powercut(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit code."""
    wanted = Wanted(options.states, options.starts, options.seconds, options.seed)
    try:
        with tempfile.TemporaryDirectory(prefix="loadscape-powercut-") as folder:
            proved = prove(Path(folder), wanted, _tell)
    except RecorderError as error:
        _tell(f"powercut: {error}")
        return 2
    if options.json:
        print(json.dumps([_as_json(side) for side in proved], indent=1))
    else:
        for side in proved:
            print("\n".join(_lines(side)))
    return 0 if all(side.holds for side in proved) else 1


def prove(root: Path, wanted: Wanted, tell: Callable[[str], None]) -> list[Proved]:
    """Both sides; raises RecorderError, and what an installation raises."""
    # Migrations of a state then run in this process, and what the states say stays unsaid.
    import sqlite_utils  # noqa: F401

    recorded = record(root, wanted.seconds, tell)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return [
            _agent(recorded, wanted, tell),
            _collector(recorded, wanted, tell),
        ]
    finally:
        logging.disable(before)


def _agent(recorded: Recorded, wanted: Wanted, tell: Callable[[str], None]) -> Proved:
    side = AgentSide(recorded)
    outcome, control = _explored(side, AgentSide(recorded), recorded.agent_log, wanted, tell)
    damaged = list(garbage(outcome.kept[-_GARBAGE_OF:], wanted.seed))
    refused = tuple(problem for image in damaged if (problem := side.opens(image)))
    images = outcome.kept[: wanted.starts]
    if images and damaged:
        images += damaged[:: max(1, len(damaged) // _STARTS_OF_GARBAGE)]
    tell(f"agent: starting the real process from {len(images)} states")
    started = start_agent_from(recorded.site, images)
    return Proved(outcome, control, len(damaged) - len(refused), refused, started)


def _collector(recorded: Recorded, wanted: Wanted, tell: Callable[[str], None]) -> Proved:
    side, again = CollectorSide(recorded), CollectorSide(recorded)
    outcome, control = _explored(side, again, recorded.collector_log, wanted, tell)
    images = outcome.kept[: wanted.starts]
    tell(f"collector: starting the real process from {len(images)} states")
    return Proved(outcome, control, 0, (), start_collector_from(recorded.site, images))


def _explored(
    side: Side, again: Side, log: Path, wanted: Wanted, tell: Callable[[str], None]
) -> tuple[Outcome, Outcome]:
    """Of a disk that honours flushes, and of the control; `again` is the side anew."""
    keep = max(wanted.starts, _GARBAGE_OF)
    progress = _Progress(side.name, wanted.states, tell)
    outcome = explore(
        side, log, states=wanted.states, seed=wanted.seed, keep=keep, tell=progress.reached
    )
    fewer = max(_CONTROL_AT_LEAST, wanted.states // 10)
    return outcome, explore(again, log, states=fewer, seed=wanted.seed, honours_flushes=False)


class _Progress:
    """Says how far one side is, every few seconds."""

    def __init__(self, name: str, states: int, tell: Callable[[str], None]) -> None:
        self._name, self._states, self._tell = name, states, tell
        self._said_s = time.monotonic()

    def reached(self, states: int) -> None:
        if time.monotonic() - self._said_s >= _TOLD_EVERY_S:
            self._said_s = time.monotonic()
            self._tell(f"{self._name}: {states} of {self._states} states")


def _as_json(side: Proved) -> dict[str, object]:
    fields = dataclasses.asdict(dataclasses.replace(side.outcome, kept=[]))
    del fields["kept"]
    return {
        **fields,
        "control_lossy": side.control.lossy,
        "garbage_opened": side.garbage,
        "garbage_refused": list(side.refused),
        "started": side.started.up,
        "start_failures": list(side.started.failures),
        "holds": side.holds,
    }


def _lines(side: Proved) -> list[str]:
    outcome = side.outcome
    lines = [
        f"{outcome.side}: {outcome.states} states at {outcome.cuts} cuts: {outcome.lost} promised "
        f"things lost in {outcome.lossy} of them, {outcome.corrupt} corrupt",
        f"  control (flushes ignored): {side.control.lossy} of {side.control.states} states lose",
        f"  real process up from {side.started.up} states, not from {len(side.started.failures)}",
    ]
    if side.garbage:
        lines.append(
            f"  garbage: {side.garbage} states opened, {len(side.refused)} refused"
        )  # fmt: skip
    wrong = [*outcome.told, *side.refused[:3], *side.started.failures[:3]]
    return lines + [f"  wrong: {text}" for text in wrong]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
