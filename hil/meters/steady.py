"""A meter's face that never changes, for tests and for trying a line out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.meters.shown import Gauges, Recorded, Registers


@dataclass(frozen=True, slots=True)
class Steady:
    """Shows the same at every instant; keeps no profile. Wh, varh, V, A, W, Hz."""

    serial: str = "21000035"
    import_wh: int = 12_345_678
    export_wh: int = 45_678
    import_varh: int = 234_567
    voltage_v: float = 230.4
    current_a: float = 5.0
    power_w: float = 3_000.0
    frequency_hz: float = 50.0

    def registers(self, at_utc_s: float) -> Registers:
        return Registers(self.import_wh, self.export_wh, self.import_varh)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(self.voltage_v, self.current_a, self.power_w, self.frequency_hz)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        return ()
