"""What was on the wire, for whoever watches a line: frame by frame, with what was made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that went over the line, and their verdict.

    `at_utc_s` is when they were sent or judged, by the reader's clock.
    `verdict` is "request" for what was sent; for what was heard "answer",
    "exception 2 (illegal data address)" with the unit's code, or why it was
    rejected (`agent.modbus.transaction.Reason`); "silence", without bytes,
    when nothing came in time.
    """

    at_utc_s: float
    direction: Literal["sent", "heard"]
    data: bytes
    verdict: str


Observer = Callable[[Frame], None]
