"""What `trace` shows: something that went over a line, and what it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["sent", "heard"]


@dataclass(frozen=True, slots=True)
class Passed:
    """Bytes that went over a line, or an APDU in them, and their verdict."""

    at_utc_s: float
    direction: Direction
    verdict: str
    data: bytes
    words: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""
    secret: bytes = b""
    """The part of `data` that is not to be shown."""

    def hex(self, between: str = "") -> str:
        """The bytes, two stars for each secret one."""
        before, secret, after = (
            self.data.partition(self.secret) if self.secret else (self.data, b"", b"")
        )
        shown = [f"{byte:02x}" for byte in before] + ["**"] * len(secret)
        return between.join([*shown, *(f"{byte:02x}" for byte in after)])
