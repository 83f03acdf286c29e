"""The registers of the bench's meters, by model: value, type, scaler and unit.

Names: IEC 62056-6-1; scalers and units: IEC 62056-6-2, 4.3.2. What a face
does not tell is derived from what it tells: tariffs, quadrants and phases are
shares of the totals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag, obis
from hil.meters.dlms import names
from hil.meters.dlms.meter import MODELS, DlmsMeter
from hil.meters.dlms.profile_rows import quadrants, wrapped
from hil.meters.shown import Gauges, Registers

_W, _WH, _VARH, _A, _V, _HZ, _PERCENT, _NO_UNIT = 27, 30, 32, 33, 35, 44, 56, 255


class Seen:
    """What one meter shows at one instant; its face is looked at once, and only if need be."""

    def __init__(self, meter: DlmsMeter, at_utc_s: float) -> None:
        self.meter = meter
        self.at_utc_s = at_utc_s

    @cached_property
    def counted(self) -> Registers:
        return self.meter.shown.registers(self.at_utc_s)

    @cached_property
    def gauges(self) -> Gauges:
        return self.meter.shown.gauges(self.at_utc_s)

    @property
    def counters(self) -> Registers | None:
        """The counters, if they were looked at."""
        found: Registers | None = self.__dict__.get("counted")
        return found


@dataclass(frozen=True, slots=True)
class Register:
    """One register; `tag` None is as wide as the model's energies are."""

    scaler: int
    unit: int
    tag: int | None
    value: Callable[[Seen], int]

    def attribute(self, index: int, seen: Seen) -> bytes | None:
        """Value (2) or scaler and unit (3), encoded; None for what there is not."""
        if index == 3:
            return axdr.structure(
                axdr.number(Tag.I8, self.scaler), axdr.number(Tag.ENUM, self.unit)
            )
        if index != 2:
            return None
        tag = MODELS[seen.meter.model].energy_tag if self.tag is None else self.tag
        return axdr.number(tag, wrapped(tag, self.value(seen)))


def _energy(unit: int, value: Callable[[Seen], int]) -> Register:
    return Register(0, unit, None, value)


_VOLTAGE = Register(-1, _V, Tag.U16, lambda seen: round(seen.gauges.voltage_v * 10))
_CURRENT = Register(-2, _A, Tag.U32, lambda seen: round(abs(seen.gauges.current_a) * 100))
_FREQUENCY = Register(-2, _HZ, Tag.U16, lambda seen: round(seen.gauges.frequency_hz * 100))
_PHASE_POWER = Register(0, _W, Tag.U32, lambda seen: max(0, round(seen.gauges.power_w / 3)))
_ZERO_WH, _ZERO_VARH = _energy(_WH, lambda _: 0), _energy(_VARH, lambda _: 0)

_COMMON: Final[dict[bytes, Register]] = {
    names.IMPORT: _energy(_WH, lambda seen: seen.counted.import_wh),
    names.EXPORT: _energy(_WH, lambda seen: seen.counted.export_wh),
    names.REACTIVE: _energy(_VARH, lambda seen: seen.counted.import_varh),
    names.VOLTAGE: _VOLTAGE,
    names.MEAN_VOLTAGE: _VOLTAGE,
    names.CURRENT: _CURRENT,
    names.MEAN_CURRENT: _CURRENT,
    names.POWER_IN: Register(0, _W, Tag.U32, lambda seen: max(0, round(seen.gauges.power_w))),
    names.POWER_OUT: Register(0, _W, Tag.U32, lambda seen: max(0, -round(seen.gauges.power_w))),
}
_TARIFFS: Final[dict[bytes, Register]] = {
    obis("1.0.1.8.1.255"): _energy(
        _WH, lambda seen: seen.counted.import_wh - seen.counted.import_wh // 3
    ),
    obis("1.0.1.8.2.255"): _energy(_WH, lambda seen: seen.counted.import_wh // 3),
    obis("1.0.1.8.3.255"): _ZERO_WH,
    obis("1.0.1.8.4.255"): _ZERO_WH,
}
_CT: Final[dict[bytes, Register]] = {
    names.QUADRANTS[0]: _energy(_VARH, lambda seen: quadrants(seen.counted.import_varh)[0]),
    names.QUADRANTS[1]: _energy(_VARH, lambda seen: quadrants(seen.counted.import_varh)[1]),
    obis("1.0.7.8.0.255"): _ZERO_VARH,
    obis("1.0.8.8.0.255"): _ZERO_VARH,
    obis("1.0.4.8.0.255"): _ZERO_VARH,
    obis("1.0.13.7.0.255"): Register(-3, _NO_UNIT, Tag.U16, lambda seen: _cos_phi(seen.gauges)),
    names.FREQUENCY: _FREQUENCY,
}
_CHECK: Final[dict[bytes, Register]] = {
    **{obis(f"1.0.{phase}.7.0.255"): _VOLTAGE for phase in (52, 72)},
    **{obis(f"1.0.{phase}.7.0.255"): _CURRENT for phase in (51, 71)},
    **{obis(f"1.0.{phase}.7.0.255"): _PHASE_POWER for phase in (21, 41, 61)},
    # Distortion has no name in the standard: 128 to 199 are the maker's.
    obis("1.0.128.7.0.255"): Register(-1, _PERCENT, Tag.U16, lambda _: 23),
    names.FREQUENCY: _FREQUENCY,
}
REGISTERS: Final[Mapping[str, Mapping[bytes, Register]]] = {
    "idis_residential": _COMMON | _TARIFFS,
    "ct_meter": _COMMON | _CT,
    "transformer_check": _COMMON | _CHECK,
}
"""By model."""


def _cos_phi(gauges: Gauges) -> int:
    apparent_va = gauges.voltage_v * abs(gauges.current_a)
    return min(1000, round(1000 * abs(gauges.power_w) / apparent_va)) if apparent_va else 1000
