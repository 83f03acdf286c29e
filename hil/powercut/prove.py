"""Every crash state of a recording, once: laid out, opened, judged.

A state counts once by the hash of its disk image. The states are drawn from a
seed, so a run can be done again.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hil.powercut.disk import Disk, Image, digest, lay_out
from hil.powercut.recorder import Kind, read_log
from hil.powercut.sides import Side

SHOWN: Final = 5
_DRAWN_AT_MOST: Final = 60
"""States drawn at one cut: where little is pending most of them are the same."""
_AT_THE_END: Final = 5
"""States drawn at the end of the recording, whose last promises no change follows."""
_MEMORY: Final = Path("/dev/shm")


@dataclass(slots=True)
class Outcome:
    """What the states of one side came to."""

    side: str
    states: int = 0
    cuts: int = 0
    """Moments at which the power was cut."""
    lossy: int = 0
    """States in which something promised was lost."""
    lost: int = 0
    """Promised intervals or batches lost, over all states."""
    corrupt: int = 0
    told: list[str] = field(default_factory=list)
    """The first faults."""
    kept: list[Image] = field(default_factory=list)
    """Some of the states, spread evenly, for the real process to start from."""

    @property
    def holds(self) -> bool:
        return not (self.lossy or self.corrupt)


def explore(
    side: Side,
    log: Path,
    *,
    states: int,
    seed: int,
    keep: int = 0,
    honours_flushes: bool = True,
    tell: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Judge up to `states` distinct crash states, spread evenly over the recording in `log`."""
    outcome = Outcome(side.name)
    judged = _Judged(side, outcome, keep_every=max(1, states // max(1, keep)), tell=tell)
    drawn = random.Random(seed)
    cuts = _cuts(log, honours_flushes)
    disk = Disk(honours_flushes=honours_flushes)
    for operation in read_log(log):
        if operation.kind is Kind.MARK:
            side.promised(operation.mark)
            judged.promises += 1
        elif disk.take(operation):
            outcome.cuts += 1
            # So many by now that the whole recording is covered evenly, and none is short at
            # its end.
            due = min(states, 1.05 * states * outcome.cuts / cuts)
            judged.take(disk.states(drawn, _DRAWN_AT_MOST), due)
    # The last promises were made after the last change.
    judged.take(disk.states(drawn, _DRAWN_AT_MOST), states + _AT_THE_END)
    return outcome


def garbage(images: Sequence[Image], seed: int) -> Iterator[Image]:
    """The images with each of their files in turn empty, cut in half, or full of random bytes."""
    drawn = random.Random(seed)
    for image in images:
        yield {path: drawn.randbytes(len(content)) for path, content in image.items()}
        for path, content in image.items():
            for damaged in (b"", content[: len(content) // 2], drawn.randbytes(len(content))):
                yield {**image, path: damaged}


def _cuts(log: Path, honours_flushes: bool) -> int:
    """How many operations of the recording change what a cut may leave behind."""
    disk = Disk(honours_flushes=honours_flushes)
    return max(1, sum(disk.take(operation) for operation in read_log(log)))


@dataclass(slots=True)
class _Judged:
    """Counts each image once; one that comes again is judged again if more was promised since."""

    side: Side
    outcome: Outcome
    keep_every: int
    tell: Callable[[int], None]
    promises: int = 0
    _seen: dict[bytes, int] = field(default_factory=dict)
    """By the image's hash, how many promises had been made when it was judged."""

    def take(self, images: Iterator[Image], due: float) -> None:
        """Judge images until `due` have been counted."""
        for image in images:
            if self.outcome.states >= due:
                return
            fingerprint = digest(image)
            judged = self._seen.get(fingerprint)
            if judged == self.promises:
                continue
            self._seen[fingerprint] = self.promises
            if judged is None:
                if self.outcome.states % self.keep_every == 0:
                    self.outcome.kept.append(image)
                self.outcome.states += 1
                self.tell(self.outcome.states)
            self._judge(image)

    def _judge(self, image: Image) -> None:
        memory = _MEMORY if _MEMORY.is_dir() else None
        folder = Path(tempfile.mkdtemp(prefix="powercut-", dir=memory))
        try:
            lay_out(image, folder)
            verdict = self.side.judge(folder)
        finally:
            shutil.rmtree(folder)
        outcome = self.outcome
        outcome.lossy += bool(verdict.lost)
        outcome.lost += verdict.lost
        outcome.corrupt += bool(verdict.corrupt)
        if (verdict.lost or verdict.corrupt) and len(outcome.told) < SHOWN:
            told = "; ".join(verdict.corrupt) or f"{verdict.lost} lost"
            outcome.told.append(f"state {outcome.states} after {outcome.cuts} changes: {told}")
