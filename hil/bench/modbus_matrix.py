"""Runs the fault matrix on real PTYs, for our reader and for others, and prints it side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hil.bench.figure import Figure
from hil.bench.modbus_cases import CASES, MORE, Case, truth
from hil.bench.modbus_peers import BAUD, CANCELLABLE, MASTERS, OURS, Master, Step
from hil.line.pty import LineLoop, PtyLine, served
from hil.line.responder import Answer, Responder

AWAY_S: Final = 0.3
"""How long an adapter that was pulled out stays away."""
_PATIENCE_S: Final = 5.0
NOT_POSSIBLE: Final = "..."
"""In place of outcomes where a library has no such call."""


class _PullsOut:
    """Passes requests on until armed; the next one meets an adapter that is pulled out."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self.armed = False
        self.pull_out: Callable[[], None] = lambda: None

    def receive(self, data: bytes) -> list[Answer]:
        if self.armed:
            self.armed = False
            self.pull_out()
            return []
        return self._responder.receive(data)


def outcomes(case: Case, master: Master, folder: Path) -> str:
    """One letter per read: r right, W wrong, - none."""
    far_end = _PullsOut(case.far_end())
    line = PtyLine(folder / "line", far_end, baud=BAUD, paced=False, uart=case.uart)
    with served(line) as loop:
        steps = case.steps
        if case.pulled_before is not None:
            steps = _with_a_pull(case, far_end, loop, line)
        came = master(str(line.link), steps, case.gap_s)
    return "".join(
        "-" if data is None else "r" if data == truth(step) else "W"
        for step, data in zip(case.steps, came, strict=True)
    )


def _with_a_pull(case: Case, far_end: _PullsOut, loop: LineLoop, line: PtyLine) -> list[Step]:
    """The steps: before one of them the adapter is made to vanish, before later ones it is back."""
    far_end.pull_out = lambda: loop.pull_out(line, AWAY_S)

    def arm() -> None:
        far_end.armed = True

    def await_return() -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while not line.link.exists() and time.monotonic() < until_s:
            time.sleep(0.01)

    steps = []
    for at, step in enumerate(case.steps):
        if at == case.pulled_before:
            step = replace(step, before=arm)
        elif case.pulled_before is not None and at > case.pulled_before:
            step = replace(step, before=await_return)
        steps.append(step)
    return steps


@dataclass(frozen=True, slots=True)
class Row:
    """One case and what each master made of it."""

    case: Case
    letters: Mapping[str, str]


def run_matrix(
    cases: Sequence[Case] = CASES + MORE, masters: Mapping[str, Master] = MASTERS
) -> Iterator[Row]:
    """Each case with each master, the masters side by side on lines of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="loadscape-bench-") as root,
        ThreadPoolExecutor(len(masters)) as pool,
    ):
        for number, case in enumerate(cases):
            running = {}
            for name, master in masters.items():
                if name not in CANCELLABLE and any(step.cancelled for step in case.steps):
                    continue
                folder = Path(root) / f"{number}-{name}"
                running[name] = pool.submit(outcomes, case, master, folder)
            yield Row(
                case,
                {
                    name: running[name].result() if name in running else NOT_POSSIBLE
                    for name in masters
                },
            )


@dataclass(frozen=True, slots=True)
class Score:
    """Reads over some cases, by what became of them."""

    right: int
    wrong: int

    @classmethod
    def of(cls, rows: Sequence[Row], master: str, *, known: bool = True) -> Score:
        """Over the rows whose fault can (`known`) or cannot be told from a right answer."""
        letters = "".join(row.letters[master] for row in rows if row.case.known == known)
        return cls(letters.count("r"), letters.count("W"))


def matrix_figures() -> Iterator[Figure | str]:
    """The table, then `modbus.wrong_values` and `modbus.right_ratio_to_prototype`.

    The ratio is the smallest over the faults of the first comparison for which
    the prototype had right reads at all; the peer is the best of the others.
    """
    rows = list(run_matrix())
    yield table(rows)
    first = [row for row in rows if row.case in CASES]
    others = [name for name in MASTERS if name != OURS]
    careful = min(others, key=lambda name: Score.of(rows, name).wrong)
    yield Figure(
        "modbus.wrong_values",
        Score.of(rows, OURS).wrong,
        f"of {3 * sum(row.case.known for row in rows)} reads",
        limit=0,
        peer=careful,
        peer_value=Score.of(rows, careful).wrong,
    )
    best = max(others, key=lambda name: Score.of(first, name).right)
    prototype = sum(row.case.prototype or 0 for row in first)
    yield Figure(
        "modbus.right_ratio_to_prototype",
        min(
            row.letters[OURS].count("r") / row.case.prototype for row in first if row.case.prototype
        ),
        "least of 23 faults",
        limit=1.0,
        peer=f"{best}, all faults",
        peer_value=Score.of(first, best).right / prototype,
        better="higher",
    )


def table(rows: Sequence[Row]) -> str:
    """All rows side by side, with the sums."""
    masters = list(MASTERS)
    lines = [_line("fault, three reads each", "prototype", *masters)]
    for part, name in ((CASES, "first comparison"), (MORE, "further devices")):
        chosen = [row for row in rows if row.case in part]
        for row in chosen:
            prototype = "" if row.case.prototype is None else f"{row.case.prototype} right"
            mark = "" if row.case.known else " *"
            lines.append(_line(row.case.name + mark, prototype, *[row.letters[m] for m in masters]))
        scores = [Score.of(chosen, master) for master in masters]
        total = sum(row.case.prototype or 0 for row in chosen)
        lines.append(
            _line(
                f"= {name}: right / wrong",
                f"{total} / 0" if part is CASES else "",
                *[f"{score.right} / {score.wrong}" for score in scores],
            )
        )
    lines.append("r right, W wrong value taken, - none, . no such call")
    lines.append("* nothing in RTU tells this from a right answer; not in the sums")
    return "\n".join(lines)


def _line(name: str, prototype: str, *letters: str) -> str:
    return f"{name:38} {prototype:>10}" + "".join(f" {cell:>14}" for cell in letters)
