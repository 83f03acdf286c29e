"""One decoder, many damaged inputs: `python -m hil.fuzz.mutated_child NAME COUNT SEED CURRENT`.

The input in hand stands in the file CURRENT, so that it is known whatever ends
the process: an exception that the decoder may not raise, a signal, or an input
that takes longer than 10 s. What came of the others is one line of JSON.
"""

from __future__ import annotations

import json
import logging
import mmap
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hil.fuzz.decoders import decoders
from hil.fuzz.mutate import LONGEST_BYTES, mutations

SLOWEST_S: Final = 10.0
_SHOWN_EVERY: Final = 100_000
_LENGTH_BYTES: Final = 4


def main(arguments: Sequence[str]) -> None:
    """Give the decoder all of the inputs."""
    logging.disable(logging.CRITICAL)
    name, count, seed, current = arguments
    decoder = decoders()[name]
    seeds = decoder.seeds()
    for data in seeds:
        decoder.refused(data)
    _begin_peak()
    before_bytes, begun_s, refused = _peak_bytes(), time.monotonic(), 0
    with Path(current).open("r+b") as file, mmap.mmap(file.fileno(), 0) as shown:
        for number, data in enumerate(mutations(seeds, int(count), int(seed)), 1):
            shown[: _LENGTH_BYTES + len(data)] = len(data).to_bytes(_LENGTH_BYTES, "big") + data
            signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)
            refused += decoder.refused(data) is not None
            if number % _SHOWN_EVERY == 0:
                print(f"{name}: {number:,} inputs", file=sys.stderr, flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
    told = {
        "refused": refused,
        "seconds": round(time.monotonic() - begun_s, 1),
        "grown_bytes": _peak_bytes() - before_bytes,
    }
    print(json.dumps(told))


def make_current(file: Path) -> None:
    """The file as `main` expects it."""
    file.write_bytes(bytes(_LENGTH_BYTES + LONGEST_BYTES))


def read_current(file: Path) -> bytes:
    """The input that was in hand."""
    data = file.read_bytes()
    length = int.from_bytes(data[:_LENGTH_BYTES], "big")
    return data[_LENGTH_BYTES : _LENGTH_BYTES + length]


def _begin_peak() -> None:
    # proc(5): 5 sets the peak of resident memory to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split() for line in lines if line.startswith("VmHWM:"))
    return int(peak[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
