"""The meters' own truth of a town, for tests that ask whether the chain kept it.

Taken straight from the simulated meters; shares no code with the agent, the
wire or the centre. Energies are registers at an interval's end, to the Wh; an
interval is stamped by its end, on the quarter hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hil.town import Meter, Town

INTERVAL_S = 900


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One interval of one meter as the meter itself keeps it."""

    meter: str
    serial: str
    end_utc_s: int
    import_wh: int
    export_wh: int
    import_varh: int
    voltage_dv: int
    current_ca: int


@dataclass(frozen=True, slots=True)
class Instant:
    """The registers that a meter shows at one instant."""

    import_wh: int
    export_wh: int
    import_varh: int


class Ledger:
    """What every meter of a town kept and showed."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._meters = {meter.id: meter for meter in town.meters}

    @property
    def meters(self) -> tuple[str, ...]:
        """Ids of all meters."""
        return tuple(self._meters)

    def meter(self, meter_id: str) -> Meter:
        """The meter of that id; raises KeyError."""
        return self._meters[meter_id]

    def rows(self, meter_id: str, first_end_utc_s: int, last_end_utc_s: int) -> list[LedgerRow]:
        """Intervals of one meter with ends in [first, last], oldest first."""
        meter = self._meters[meter_id]
        face = self._town.shown(meter.transformer)[meter_id]
        return [
            LedgerRow(
                meter_id, meter.serial, row.end_utc_s, row.import_wh, row.export_wh,
                row.import_varh, row.voltage_dv, row.current_ca,
            )
            for row in face.recorded(first_end_utc_s, last_end_utc_s)
        ]  # fmt: skip

    def all_rows(self, first_end_utc_s: int, last_end_utc_s: int) -> Iterator[LedgerRow]:
        """Intervals of all meters with ends in [first, last], meter by meter."""
        for meter_id in self._meters:
            yield from self.rows(meter_id, first_end_utc_s, last_end_utc_s)

    def shown_at(self, meter_id: str, at_utc_s: float) -> Instant:
        """The registers that a meter shows at an instant, to the Wh."""
        meter = self._meters[meter_id]
        shown = self._town.shown(meter.transformer)[meter_id].registers(at_utc_s)
        return Instant(shown.import_wh, shown.export_wh, shown.import_varh)
