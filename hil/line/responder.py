"""What sits at the far end of a simulated line: bytes in, answers with their delay out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes that a meter sends `delay_s` real seconds after the request's last byte."""

    data: bytes
    delay_s: float = 0.0
    then_baud: int | None = None
    """Rate, in Bd, at which the line goes on once it is sent; None: as before."""


class Responder(Protocol):
    """All meters of one line. Sans-I/O; called from the line's loop only."""

    def receive(self, data: bytes) -> list[Answer]:
        """Take bytes as they arrive from the master; return the answers that they complete."""
        ...
