"""The fleet's progress, as the API tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fleet:
    """All concentrators together."""

    online: int
    known: int
    """Meter-intervals recovered from the meters' own load profiles."""
    expected: int
    """Meter-intervals to be recovered."""
    idle: bool
    """Whether every concentrator's outbox is empty."""
    last_end_utc_s: int | None
    """End of the newest interval that every concentrator has closed."""

    slowest_round_s: float
    """Longest real time that any line took after the last edge."""

    @property
    def recovered_share(self) -> float:
        """0..1; 0 while nothing is expected yet."""
        return self.known / self.expected if self.expected else 0.0


def fleet_of(devices: list[dict[str, Any]]) -> Fleet:
    """Sum the API's list of devices."""
    states = [device["state"] for device in devices if device["online"] and device["state"]]
    recoveries = [state["recovery"] for state in states]
    ends = [state.get("last_end_utc_s") for state in states]
    lines = [line for state in states for line in state["lines"]]
    return Fleet(
        online=len(states),
        known=sum(recovery["known"] for recovery in recoveries),
        expected=sum(recovery["expected"] for recovery in recoveries),
        idle=all(state["outbox"] == 0 for state in states),
        last_end_utc_s=min(ends) if ends and None not in ends else None,
        slowest_round_s=max((line["round_ms"] for line in lines), default=0) / 1000,
    )
