"""One measured figure, beside the limit that it keeps or the peer that it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """A value of this run. A peer that the run did not measure has no value."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    peer: str | None = None
    peer_value: float | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def keeps_limit(self) -> bool:
        """True also where there is no limit."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit
