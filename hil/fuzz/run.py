"""`./dev soak fuzz`: coverage-guided fuzzing of the decoders, one after the other.

What is found interesting stays in `build/fuzz/corpus` and is where the next
run begins. An input that a decoder does not take properly is written to
`build/fuzz/crashes` and named together with the command that shows it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.fuzz.decoders import Decoder, decoders
from hil.fuzz.mutate import LONGEST_BYTES

FOLDER: Final = Path("build/fuzz")
SLOWEST_S: Final = 10
MOST_MIB: Final = 1024
_SHOWN_EVERY_S: Final = 10.0
_STATUS: Final = re.compile(r"^#(\d+)\s+\S+.*?cov: (\d+).*?corp: (\d+)")
_EXECUTED: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)")
_STOPPED: Final = re.compile(r"Test unit written to (\S+)")
_TOLD_LINES: Final = 200


@dataclass(slots=True)
class Outcome:
    """What fuzzing one decoder came to."""

    decoder: str
    executions: int = 0
    coverage: int = 0
    """Branches of the instrumented code that were reached, as libFuzzer counts them."""
    corpus: int = 0
    seconds: float = 0.0
    crashes: list[str] = dataclasses.field(default_factory=list)
    """Files with inputs that were not taken properly."""


def run_fuzz(
    names: Sequence[str],
    minutes: float,
    *,
    as_json: bool,
    replayed: Path | None,
    folder: Path = FOLDER,
) -> int:
    """Fuzz the named decoders (none: all) for so many minutes each.

    0: nothing found, 1: something found, 2: it cannot be run as asked.
    """
    table = decoders()
    unknown = [name for name in names if name not in table]
    if unknown or minutes <= 0:
        wrong = f"there is no decoder {', '.join(unknown)}" if unknown else f"--minutes {minutes:g}"
        return _refuse(f"{wrong}; expected more than 0 minutes and names of: {', '.join(table)}")
    if replayed is not None:
        return _replay([table[name] for name in names], replayed)
    if importlib.util.find_spec("atheris") is None:
        return _refuse(
            "atheris is not installed; its wheels are for CPython 3.11 to 3.13 on x86_64 Linux. "
            "There `./dev soak fuzz` installs it; elsewhere run the fuzzer on such a machine. The "
            "tests in tests/hil/fuzz hold the same decoders against damaged input everywhere."
        )
    outcomes = []
    for name in names or table:
        outcomes.append(_fuzz(table[name], minutes, folder))
        _tell(_line(outcomes[-1]))
    if as_json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        _print(outcomes)
    return 1 if any(outcome.crashes for outcome in outcomes) else 0


def _fuzz(decoder: Decoder, minutes: float, folder: Path) -> Outcome:
    corpus, crashes = folder / "corpus" / decoder.name, folder / "crashes" / decoder.name
    for made in (corpus, crashes):
        made.mkdir(parents=True, exist_ok=True)
    for seed in decoder.seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    outcome = Outcome(decoder.name)
    begun_s = time.monotonic()
    command = [
        sys.executable,
        *("-m", "hil.fuzz.child", decoder.name),
        str(corpus),
        f"-artifact_prefix={crashes}/",
        f"-max_total_time={max(1, round(minutes * 60))}",
        f"-max_len={LONGEST_BYTES}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        "-print_final_stats=1",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        told = _follow(process, outcome)
    outcome.seconds = round(time.monotonic() - begun_s, 1)
    if process.returncode and not outcome.crashes:
        told_text = "\n".join(told)
        raise RuntimeError(
            f"{decoder.name}: the fuzzer ended with {process.returncode}:\n{told_text}"
        )
    for crash in outcome.crashes:
        _tell("\n".join(told))
        _tell(f"{decoder.name}: to see it again: ./dev soak fuzz {decoder.name} --input {crash}")
    return outcome


def _follow(process: subprocess.Popen[str], outcome: Outcome) -> list[str]:
    """Read what libFuzzer tells, into `outcome`; the last lines of it that are no status."""
    assert process.stdout is not None
    told: list[str] = []
    shown_s = time.monotonic()
    for line in process.stdout:
        if status := _STATUS.match(line):
            outcome.executions, outcome.coverage, outcome.corpus = map(int, status.groups())
        elif executed := _EXECUTED.match(line):
            outcome.executions = int(executed[1])
        elif not line.startswith(("INFO:", "\tNEW", "stat::")):
            told = [*told[-_TOLD_LINES:], line.rstrip()]
        if stopped := _STOPPED.search(line):
            outcome.crashes.append(stopped[1])
        if time.monotonic() - shown_s >= _SHOWN_EVERY_S:
            shown_s = time.monotonic()
            _tell(_line(outcome))
    return told


def _replay(chosen: Sequence[Decoder], file: Path) -> int:
    """Run one decoder on one file. What it may not raise passes, so that its trace is seen."""
    if len(chosen) != 1 or not file.is_file():
        return _refuse(f"--input {file}: expected the name of one decoder and a file to give it")
    (decoder,) = chosen
    refused = decoder.refused(file.read_bytes())
    print(f"{decoder.name}: " + ("takes it" if refused is None else f"refuses it: {refused!r}"))
    return 0


def _line(outcome: Outcome) -> str:
    return (
        f"{outcome.decoder}: {outcome.executions:,} executions, coverage {outcome.coverage}, "
        f"{outcome.corpus} inputs kept, {len(outcome.crashes)} crashes"
    )


def _print(outcomes: Sequence[Outcome]) -> None:
    print(
        f"{'decoder':24} {'executions':>12} {'per s':>8} {'coverage':>9} {'kept':>6} {'crashes':>8}"
    )
    for outcome in outcomes:
        per_s = outcome.executions / outcome.seconds if outcome.seconds else 0.0
        print(
            f"{outcome.decoder:24} {outcome.executions:12,} {per_s:8,.0f} {outcome.coverage:9} "
            f"{outcome.corpus:6} {len(outcome.crashes):8}"
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _refuse(why: str) -> int:
    _tell(f"fuzz: {why}")
    return 2
