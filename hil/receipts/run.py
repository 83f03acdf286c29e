"""`./dev soak receipts`: random schedules of the receipt protocol, as many as one likes.

Several processes take seeds in turn. Each wrong schedule is printed with its
seed, which alone replays it; the controls show that wrong ones are seen.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from hil.receipts.bench import Templates
from hil.receipts.controls import CONTROLS, FULL, Variant
from hil.receipts.schedule import draw
from hil.receipts.trial import Outcome

SCHEDULES: Final = 20_000
_CHUNK: Final = 50
_PROGRESS_EVERY_S: Final = 10.0
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Chunk:
    control: str
    first: int
    count: int


def trials(variant: Variant, seeds: Sequence[int]) -> Generator[Outcome, None, None]:
    """The outcome of each seed's schedule, in this process."""
    # So that the store's migrations run in this process and not each in one of its own.
    import sqlite_utils  # noqa: F401

    templates = Templates()
    try:
        with variant.broken():
            for seed in seeds:
                yield variant.trial(templates, draw(seed)).run()
    finally:
        templates.remove()


def run_receipts(schedules: int, seed: int, *, control: str | None, as_json: bool) -> int:
    """Run, count, report; 0: as it should be, 1: not, 2: the options cannot be used.

    The full protocol should break its promise nowhere, a control somewhere.
    """
    if schedules < 1 or (control is not None and control not in CONTROLS):
        known = ", ".join(CONTROLS)
        print(
            f"soak receipts: --schedules {schedules} --control {control}: expected at least 1, and "
            f"one of {known}",
            file=sys.stderr,
        )
        return 2
    began_s = time.monotonic()
    wrong = _all(schedules, seed, control or "")
    seconds = time.monotonic() - began_s
    variant = CONTROLS[control] if control else FULL
    report = {
        "variant": variant.what,
        "schedules": schedules,
        "first_seed": seed,
        "lost": sum(outcome.lost > 0 for outcome in wrong),
        "double": sum(outcome.double > 0 for outcome in wrong),
        "stuck": sum(outcome.stuck for outcome in wrong),
        "seconds": round(seconds, 1),
    }
    if as_json:
        print(json.dumps({**report, "wrong": [asdict(outcome) for outcome in wrong[:_SHOWN]]}))
    else:
        for outcome in wrong[:_SHOWN]:
            print(f"wrong: {outcome}")
        print(
            f"{report['variant']}: of {schedules} schedules {report['lost']} with loss, "
            f"{report['double']} with doubles, {report['stuck']} stuck ({seconds:.0f} s)"
        )
    return int(bool(wrong) == (control is None))


def _all(schedules: int, seed: int, control: str) -> list[Outcome]:
    """The wrong ones of all schedules, by seed."""
    chunks = [
        _Chunk(control, first, min(_CHUNK, seed + schedules - first))
        for first in range(seed, seed + schedules, _CHUNK)
    ]
    wrong: list[Outcome] = []
    done, said_s = 0, time.monotonic()
    with _workers(len(chunks)) as each:
        for chunk, outcomes in each(_chunk, chunks):
            done += chunk.count
            wrong += outcomes
            if time.monotonic() - said_s > _PROGRESS_EVERY_S:
                said_s = time.monotonic()
                print(f"{done} of {schedules} schedules, {len(wrong)} wrong", file=sys.stderr)
    return sorted(wrong, key=lambda outcome: outcome.seed)


@contextmanager
def _workers(chunks: int) -> Iterator[Callable[..., Iterable[tuple[_Chunk, list[Outcome]]]]]:
    """A map over as many processes as there are processors; in this one if it is one chunk."""
    if chunks == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield pool.imap_unordered


def _chunk(chunk: _Chunk) -> tuple[_Chunk, list[Outcome]]:
    logging.disable(logging.WARNING)
    variant = CONTROLS[chunk.control] if chunk.control else FULL
    outcomes = trials(variant, range(chunk.first, chunk.first + chunk.count))
    return chunk, [outcome for outcome in outcomes if outcome.wrong]


def first_wrong(variant: Variant, most: int) -> Outcome | None:
    """The first of at most `most` schedules that breaks the promise, None if none does."""
    with closing(trials(variant, range(most))) as outcomes:
        return next((outcome for outcome in outcomes if outcome.wrong), None)
