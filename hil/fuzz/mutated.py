"""`./dev soak fuzz --mutations N`: the same damaged inputs for every decoder on every machine.

Knows nothing of coverage and needs no atheris. Each decoder runs in a process
of its own, which may not grow by more than the decoder's own bound and some
for the interpreter. An input that ends the process is written to
`build/fuzz/crashes` and named together with the command that shows it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.fuzz.decoders import Decoder, decoders
from hil.fuzz.mutate import LONGEST_BYTES
from hil.fuzz.mutated_child import make_current, read_current
from hil.fuzz.run import FOLDER

CHILD: Final = ("-m", "hil.fuzz.mutated_child")
_SLACK_BYTES: Final = 32 * 1024 * 1024
"""What an interpreter may grow by over a million inputs of any kind: free lists, fragments."""


@dataclass(frozen=True, slots=True)
class Given:
    """What came of giving one decoder so many inputs."""

    decoder: str
    inputs: int
    refused: int
    seconds: float
    grown_bytes: int
    """By how much the process's peak of memory grew."""
    most_bytes: int
    crash: str | None = None
    """File with the input that ended the process; nothing else is known then."""

    @property
    def well(self) -> bool:
        return self.crash is None and self.grown_bytes <= self.most_bytes


def run_mutated(
    names: Sequence[str], count: int, seed: int, *, as_json: bool, folder: Path = FOLDER
) -> int:
    """Give the named decoders (none: all) `count` damaged inputs each.

    0: all were taken properly, 1: one was not or took too much memory, 2: it cannot be run
    as asked.
    """
    table = decoders()
    unknown = [name for name in names if name not in table]
    if unknown or count < 1:
        wrong = f"there is no decoder {', '.join(unknown)}" if unknown else f"--mutations {count}"
        _tell(f"fuzz: {wrong}; expected at least 1 input and names of: {', '.join(table)}")
        return 2
    outcomes = []
    for name in names or table:
        outcomes.append(_give(table[name], count, seed, folder))
        _tell(_line(outcomes[-1]))
    if as_json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        print(f"{'decoder':24} {'inputs':>10} {'refused':>10} {'per s':>8} {'grown MiB':>10} crash")
        for outcome in outcomes:
            print(_row(outcome))
    return 0 if all(outcome.well for outcome in outcomes) else 1


def _give(decoder: Decoder, count: int, seed: int, folder: Path) -> Given:
    crashes = folder / "crashes" / decoder.name
    crashes.mkdir(parents=True, exist_ok=True)
    current = folder / f"current-{decoder.name}"
    make_current(current)
    words = (decoder.name, str(count), str(seed), str(current))
    done = subprocess.run(
        [sys.executable, *CHILD, *words],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    most_bytes = decoder.most_bytes(LONGEST_BYTES) + _SLACK_BYTES
    if done.returncode:
        crash = _keep(crashes, read_current(current))
        _tell(
            f"{decoder.name}: ended with {done.returncode}; to see it again: "
            f"./dev soak fuzz {decoder.name} --input {crash}"
        )
        return Given(decoder.name, count, 0, 0.0, 0, most_bytes, str(crash))
    current.unlink()
    return Given(decoder.name, count, most_bytes=most_bytes, **json.loads(done.stdout))


def _keep(crashes: Path, data: bytes) -> Path:
    kept = crashes / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
    kept.write_bytes(data)
    return kept


def _line(outcome: Given) -> str:
    if outcome.crash is not None:
        return f"{outcome.decoder}: crash {outcome.crash}"
    grown, most = outcome.grown_bytes >> 20, outcome.most_bytes >> 20
    said = "" if outcome.well else ", MORE THAN IT MAY"
    return (
        f"{outcome.decoder}: {outcome.inputs:,} inputs, {outcome.refused:,} refused, "
        f"{outcome.seconds:.0f} s, grown by {grown} of {most} MiB{said}"
    )


def _row(outcome: Given) -> str:
    per_s = outcome.inputs / outcome.seconds if outcome.seconds else 0.0
    return (
        f"{outcome.decoder:24} {outcome.inputs:10,} {outcome.refused:10,} {per_s:8,.0f} "
        f"{outcome.grown_bytes / 2**20:10.1f} {outcome.crash or 'none'}"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
