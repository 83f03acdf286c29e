"""What a simulated meter shows, computed for any instant; the protocols only carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Registers:
    """Cumulative counters at one instant, floored to whole Wh and varh."""

    import_wh: int
    export_wh: int
    import_varh: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """Instantaneous values at one instant."""

    voltage_v: float
    current_a: float
    power_w: float
    frequency_hz: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row of the meter's own load profile, stamped at the interval's end."""

    end_utc_s: int
    import_wh: int
    export_wh: int
    import_varh: int
    voltage_dv: int
    current_ca: int


class Shown(Protocol):
    """One meter's face. Deterministic: the same instant always shows the same."""

    @property
    def serial(self) -> str: ...

    def registers(self, at_utc_s: float) -> Registers: ...

    def gauges(self, at_utc_s: float) -> Gauges: ...

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        """Profile rows with ends in [first, last], oldest first, as far back as it keeps them."""
        ...
