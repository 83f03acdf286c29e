"""A meter's face whose counters climb evenly and which has recorded every interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hil.meters.shown import Gauges, Recorded, Registers

PERIOD_S: Final = 900


@dataclass(frozen=True, slots=True)
class Climbing:
    """3 kW import, 36 W export, 360 var all the time; counters since 2025-01-01 UTC."""

    serial: str = "LS0000001"

    def registers(self, at_utc_s: float) -> Registers:
        passed_s = int(at_utc_s) - 1_735_689_600
        return Registers(passed_s * 3_000 // 3_600, passed_s // 100, passed_s // 10)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(231.2, 13.0, 3_000.0, 50.0)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> list[Recorded]:
        """Rows of the quarter hours whose end lies in [first, last]."""
        first = first_end_utc_s + -first_end_utc_s % PERIOD_S
        rows = []
        for end_utc_s in range(first, last_end_utc_s + 1, PERIOD_S):
            shown = self.registers(end_utc_s)
            rows.append(
                Recorded(end_utc_s, shown.import_wh, shown.export_wh, shown.import_varh, 2312, 1300)
            )
        return rows
