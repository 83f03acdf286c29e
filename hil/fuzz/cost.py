"""What one run of a decoder costs: lines of Python executed, and the most memory held at once.

Lines are counted rather than seconds, so that a bound holds on every machine
and at any load. What C code does for one line (a search, a copy, a checksum)
is not seen; it is linear in what it is given.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(run: Callable[[], object]) -> int:
    """Lines of Python that `run` executes."""
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return on_event

    before = sys.gettrace()
    sys.settrace(on_event)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes that `run` and its result held at once, beyond what was held before."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        kept = run()
        _, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        if not was_tracing:
            tracemalloc.stop()
    return peak - held
