"""When the retained state is told again: at once what matters, seldom what only counts on.

Batches and receipts tell central most of it anyhow, and a state costs as much on a
metered link as a batch of thirty meters. So a change that somebody would act on goes
out at once, and once more a minute later with the numbers that have settled since;
numbers alone go out every `every_s`. No connection, no thread: time and state come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SOONEST_S: Final = 2.0
"""Between two tellings, whatever changes."""
SETTLED_S: Final = 60.0
EVERY_S: Final = 21_600
_AS_THEY_ARE: Final = (
    "online",
    "boot",
    "stream",
    "keyset",
    "versions",
    "clock",
    "clock_by",
    "certificate_ends_utc_s",
    "alarms",
)
_OUTBOX_STEP: Final = 8
"""Batches; above it the outbox is told whenever it has doubled or halved."""
_RECOVERY_STEPS: Final = 20


class Telling:
    """One connection's decisions; `now_s` is monotonic, in seconds."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._told: Mapping[str, Any] | None = None
        self._told_s = 0.0
        self._numbers_after_s = 0.0

    def begin(self) -> None:
        """A session began: the state is its birth message."""
        self._told = None

    def due(self, state: Mapping[str, Any], now_s: float) -> bool:
        """Whether to tell it now; the caller does, if so."""
        if self._told is not None:
            if now_s < self._told_s + SOONEST_S:
                return False
            matters = what_matters(state) != what_matters(self._told)
            if not matters and (now_s < self._numbers_after_s or _same(state, self._told)):
                return False
        else:
            matters = True
        self._told, self._told_s = state, now_s
        self._numbers_after_s = now_s + min(SETTLED_S if matters else self._every_s, self._every_s)
        return True


def without_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """As the broker may read it: how many meters fail, not which; `status` names them here."""
    told = dict(state)
    if "lines" in told:
        told["lines"] = [{**line, "failing": len(line["failing"])} for line in told["lines"]]
    clocks = told.get("meter_clocks")
    if clocks and clocks["worst"]:
        worst = {name: value for name, value in clocks["worst"].items() if name != "meter"}
        told["meter_clocks"] = {**clocks, "worst": worst}
    return told


def what_matters(state: Mapping[str, Any]) -> list[Any]:
    """What somebody would act on; numbers only as coarse as that."""
    recovery = state.get("recovery") or {}
    expected = recovery.get("expected") or 1
    clocks = state.get("meter_clocks") or {}
    return [
        *(state.get(name) for name in _AS_THEY_ARE),
        int(state.get("outbox") or 0) // _OUTBOX_STEP and int(state["outbox"]).bit_length(),
        bool(state.get("held")),
        round(min(1.0, recovery.get("known", 0) / expected) * _RECOVERY_STEPS),
        [clocks.get("untrusted"), clocks.get("off")],
        [(line["name"], line["open"], line["failing"]) for line in state.get("lines") or ()],
    ]


def _same(state: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """An age grows by itself; that alone is no change."""
    return {**state, "receipt_age_s": None} == {**told, "receipt_age_s": None}
