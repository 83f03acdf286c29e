"""What the meters of one transformer show, computed from the loads when somebody asks.

Energies are whole thousandths of a watt hour per quarter hour, so registers at
an edge, inside a quarter and in the load profile agree exactly. A day is worked
out once, when it is first needed, for all meters of the transformer; days are
worked out in order from the town's origin, because registers are cumulative.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hil.meters.shown import Gauges, Recorded, Registers
from hil.town.draws import Floats, keys, mix, normal, spread, uniform
from hil.town.loads import CustomerLoads, meter_number
from hil.town.seasons import QUARTER_S, QUARTERS_A_DAY
from hil.town.sweep import RadialGrid

if TYPE_CHECKING:
    from hil.town.town import Meter

DAY_S = 86_400
_MWH_PER_W_QUARTER = 250.0
_METER_NOISE = 0.0005


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of all meters; the check meter is the last row."""

    first_mwh: NDArray[np.int64]
    """Import, export and reactive import counters at midnight, in 1/1000 Wh [3][meter]."""
    net_mwh: NDArray[np.int32]
    """Import minus export of each quarter [meter][96]."""
    reactive_mvarh: NDArray[np.int32]
    voltage_dv: NDArray[np.int16]
    current_ca: NDArray[np.int32]


class TransformerFaces:
    """All meters behind one transformer and the check meter at its busbar."""

    def __init__(
        self,
        meters: Sequence[Meter],
        node_rows: Sequence[int],
        loads: CustomerLoads,
        grid: RadialGrid,
        *,
        seed: int,
        origin_utc_s: int,
    ) -> None:
        """`meters` are the customers' in row order, then the check meter; nodes per customer."""
        self.meters = tuple(meters)
        self.origin_utc_s = origin_utc_s
        self._origin_day = origin_utc_s // DAY_S
        self._node_rows = np.array(node_rows, dtype=np.int64)
        self._loads = loads
        self._grid = grid
        self._seeds = mix(
            np.array([meter_number(meter.id) for meter in meters], dtype=np.uint64)
            ^ mix(np.array([seed + 1], dtype=np.uint64))
        )
        self._single_phase = np.array([m.model == "eastron_sdm120" for m in meters])[:, None]
        self._days: list[Day] = []
        self._lock = threading.Lock()

    def faces(self) -> dict[str, MeterFace]:
        """One face per meter, by meter id."""
        return {m.id: MeterFace(self, row, m.serial) for row, m in enumerate(self.meters)}

    def day(self, day: int) -> Day:
        """The UTC day `day`; the town's first day stands for whatever lies before it."""
        position = max(0, day - self._origin_day)
        if position >= len(self._days):
            with self._lock:
                while position >= len(self._days):
                    self._days.append(self._work_out(self._origin_day + len(self._days)))
        return self._days[position]

    def _work_out(self, day: int) -> Day:
        customers = self._loads.power(day)
        load_va = np.zeros((len(self._grid.nodes), QUARTERS_A_DAY), dtype=np.complex128)
        np.add.at(load_va, self._node_rows, customers.active_w + 1j * customers.reactive_var)
        solution = self._grid.solve(load_va)
        active = np.vstack([customers.active_w, solution.busbar_va.real])
        reactive = np.vstack([customers.reactive_var, solution.busbar_va.imag])
        rows = np.append(self._node_rows, 0)
        volts = np.abs(solution.voltage_v)[rows] * self._meter_errors(day)
        net = np.rint(active * _MWH_PER_W_QUARTER).astype(np.int32)
        var = np.rint(np.maximum(reactive, 0.0) * _MWH_PER_W_QUARTER).astype(np.int32)
        apparent = np.hypot(active, reactive)
        amperes = apparent / volts / np.where(self._single_phase, 1.0, 3.0)
        return Day(
            self._counters_before(day),
            net,
            var,
            np.rint(volts * 10.0).astype(np.int16),
            np.rint(amperes * 100.0).astype(np.int32),
        )

    def _counters_before(self, day: int) -> NDArray[np.int64]:
        if day == self._origin_day:
            return self._initial_counters()
        last = self._days[-1]
        return np.stack(
            [
                last.first_mwh[0] + np.maximum(last.net_mwh, 0).sum(axis=1, dtype=np.int64),
                last.first_mwh[1] + np.maximum(-last.net_mwh, 0).sum(axis=1, dtype=np.int64),
                last.first_mwh[2] + last.reactive_mvarh.sum(axis=1, dtype=np.int64),
            ]
        )

    def _initial_counters(self) -> NDArray[np.int64]:
        """Counters of meters half a year to 4.5 years old, at the town's origin."""
        drawn = uniform(spread(self._seeds, 4))
        years = 0.5 + 4.0 * drawn[:, 0]
        import_wh = np.array([_YEARLY_IMPORT_WH[meter.kind] for meter in self.meters])
        export_wh = np.array([_YEARLY_EXPORT_WH[meter.kind] for meter in self.meters])
        counters = np.stack(
            [
                years * import_wh * (0.5 + drawn[:, 1]),
                years * export_wh * (0.5 + drawn[:, 2]),
                years * import_wh * (0.1 + 0.2 * drawn[:, 3]),
            ]
        )
        return np.asarray(np.rint(counters).astype(np.int64) * 1000 + 500)

    def _meter_errors(self, day: int) -> Floats:
        """Each meter's own small error of voltage, constant within a quarter [meter][96]."""
        drawn = normal(spread(keys(self._seeds, 5, day), QUARTERS_A_DAY))
        return 1.0 + _METER_NOISE * np.clip(drawn, -2.5, 2.5)


class MeterFace:
    """One meter; satisfies `hil.meters.shown.Shown`."""

    def __init__(self, transformer: TransformerFaces, row: int, serial: str) -> None:
        self._transformer = transformer
        self._row = row
        self._serial = serial
        self._recent: tuple[int, NDArray[np.int64]] | None = None

    @property
    def serial(self) -> str:
        return self._serial

    def registers(self, at_utc_s: float) -> Registers:
        """Counters at the instant; before the town's origin they stand still."""
        at_ms = max(math.floor(at_utc_s * 1000.0), self._transformer.origin_utc_s * 1000)
        day, in_day_ms = divmod(at_ms, DAY_S * 1000)
        quarter, in_quarter_ms = divmod(in_day_ms, QUARTER_S * 1000)
        edges = self._edges(day)
        before, after = edges[:, quarter], edges[:, quarter + 1]
        shown = before + (after - before) * in_quarter_ms // (QUARTER_S * 1000)
        return Registers(*(int(value) // 1000 for value in shown))

    def gauges(self, at_utc_s: float) -> Gauges:
        """Gauges at the instant; they keep still within a quarter hour, but for the frequency."""
        day, in_day_s = divmod(max(at_utc_s, float(self._transformer.origin_utc_s)), DAY_S)
        quarter = int(in_day_s // QUARTER_S)
        known = self._transformer.day(int(day))
        return Gauges(
            voltage_v=int(known.voltage_dv[self._row, quarter]) / 10.0,
            current_a=int(known.current_ca[self._row, quarter]) / 100.0,
            power_w=int(known.net_mwh[self._row, quarter]) / _MWH_PER_W_QUARTER,
            frequency_hz=_frequency_hz(at_utc_s),
        )

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        """Profile rows with ends in [first, last]; none before the town's first full quarter."""
        first = max(first_end_utc_s, self._transformer.origin_utc_s + QUARTER_S)
        first = -(-first // QUARTER_S) * QUARTER_S
        last = last_end_utc_s // QUARTER_S * QUARTER_S
        rows: list[Recorded] = []
        end = first
        while end <= last:
            day, quarter = divmod((end - QUARTER_S) // QUARTER_S, QUARTERS_A_DAY)
            stop = min(QUARTERS_A_DAY, quarter + (last - end) // QUARTER_S + 1)
            rows.extend(self._recorded_of_day(day, quarter, stop))
            end += (stop - quarter) * QUARTER_S
        return rows

    def _recorded_of_day(self, day: int, first: int, stop: int) -> list[Recorded]:
        known = self._transformer.day(day)
        wh = (self._edges(day)[:, first + 1 : stop + 1] // 1000).tolist()
        ends = range((day * QUARTERS_A_DAY + first + 1) * QUARTER_S, DAY_S * (day + 1) + 1, 900)
        volts = known.voltage_dv[self._row, first:stop].tolist()
        amperes = known.current_ca[self._row, first:stop].tolist()
        return [Recorded(*values) for values in zip(ends, *wh, volts, amperes, strict=False)]

    def _edges(self, day: int) -> NDArray[np.int64]:
        """Counters at the 97 edges of a day, in 1/1000 Wh [3][97]."""
        if self._recent is not None and self._recent[0] == day:
            return self._recent[1]
        known = self._transformer.day(day)
        edges = np.empty((3, QUARTERS_A_DAY + 1), dtype=np.int64)
        edges[:, 0] = known.first_mwh[:, self._row]
        net = known.net_mwh[self._row].astype(np.int64)
        np.cumsum(np.maximum(net, 0), out=edges[0, 1:])
        np.cumsum(np.maximum(-net, 0), out=edges[1, 1:])
        np.cumsum(known.reactive_mvarh[self._row], dtype=np.int64, out=edges[2, 1:])
        edges[:, 1:] += edges[:, :1]
        self._recent = (day, edges)
        return edges


def _frequency_hz(at_utc_s: float) -> float:
    """The grid's frequency: one value per second for the whole town."""
    drawn = normal(keys(np.array([7], dtype=np.uint64), 6, int(max(0.0, at_utc_s))))
    return round(50.0 + 0.015 * float(np.clip(drawn[0], -3.0, 3.0)), 3)


_YEARLY_IMPORT_WH = {
    "household": 4.5e6,
    "trade": 14.0e6,
    "charger": 1.5e6,
    "plant": 0.02e6,
    "check": 450.0e6,
}
_YEARLY_EXPORT_WH = {
    "household": 0.0,
    "trade": 0.0,
    "charger": 0.0,
    "plant": 8.0e6,
    "check": 3.0e6,
}
