"""From the number in a meter's register to whole Wh, varh, 0.1 V or 0.01 A.

Scaler and unit (attribute 3) never change for one meter: they are read once
and kept. Ratios of transformers are fractions and applied exactly; a value is
rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from agent.dlms.constants import UNITS
from agent.dlms.errors import AnswerMalformed, MeterDiffers, said_by

if TYPE_CHECKING:
    from agent.dlms.apdu.attribute import Attribute
    from agent.dlms.client import Client
    from agent.dlms.meter_class import Quantity

_WITH_CURRENT: Final = frozenset({"A", "W", "VA", "var", "Wh", "VAh", "varh"})
_WITH_VOLTAGE: Final = frozenset({"V", "W", "VA", "var", "Wh", "VAh", "varh"})
_ONE: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Transformers:
    """Ratios of the instrument transformers before a meter that shows secondary values."""

    current: Fraction = _ONE
    voltage: Fraction = _ONE

    def factor(self, unit: str) -> Fraction:
        """Primary by secondary of a value in `unit`."""
        return (self.current if unit in _WITH_CURRENT else _ONE) * (
            self.voltage if unit in _WITH_VOLTAGE else _ONE
        )


NO_TRANSFORMERS: Final = Transformers()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scaler and unit of a register: the value in `unit` is raw x 10^scaler."""

    scaler: int
    unit: str

    @classmethod
    def of(cls, scaler: object, unit: object) -> Scaling:
        """From the two elements of attribute 3; raises MeterDiffers."""
        if not isinstance(scaler, int) or not isinstance(unit, int) or abs(scaler) > 12:
            raise MeterDiffers(f"expected a scaler of -12 to 12 and a unit, came {scaler}, {unit}")
        return cls(scaler, UNITS.get(unit, f"unit {unit}"))

    def factor(self, exponent: int, transformers: Transformers = NO_TRANSFORMERS) -> Fraction:
        """What raw is multiplied with, 10^exponent being from the meter's unit to ours."""
        return Fraction(10) ** (self.scaler + exponent) * transformers.factor(self.unit)

    def whole(self, raw: int, exponent: int, transformers: Transformers = NO_TRANSFORMERS) -> int:
        """raw in our unit as an integer, halves away from zero."""
        return scaled(raw, self.factor(exponent, transformers))


def common(scalings: Sequence[Scaling]) -> tuple[Scaling, list[int]]:
    """The finest of several, and what a value of each is multiplied with to be added up in it."""
    finest = min(scalings, key=lambda scaling: scaling.scaler)
    return finest, [10 ** (scaling.scaler - finest.scaler) for scaling in scalings]


def scaled(raw: int, factor: Fraction) -> int:
    """raw x factor as an integer, halves away from zero."""
    numerator, divisor = abs(raw) * factor.numerator, factor.denominator
    magnitude = (2 * numerator + divisor) // (2 * divisor)
    return magnitude if raw >= 0 else -magnitude


class Scalings:
    """Scaler and unit of the registers of one meter, as far as they were read."""

    def __init__(self, meter: str, class_name: str) -> None:
        self._meter = meter
        self._class_name = class_name
        self._known: dict[Attribute, Scaling] = {}

    def __getitem__(self, attribute: Attribute) -> Scaling:
        return self._known[attribute]

    def forget(self) -> None:
        """Another meter answers now."""
        self._known.clear()

    def learn(self, client: Client, quantities: Iterable[Quantity]) -> None:
        """Read what is not known yet; raises MeterDiffers if a unit is not the class's."""
        wanted = {
            attribute: quantity.unit
            for quantity in quantities
            for attribute in quantity.attributes
            if attribute not in self._known
        }
        if not wanted:
            return
        answers = client.get_many([attribute.scaler_unit for attribute in wanted])
        for (attribute, unit), answer in zip(wanted.items(), answers, strict=True):
            self._known[attribute] = self._checked(attribute, unit, answer)

    def _checked(self, attribute: Attribute, unit: str, answer: Any) -> Scaling:
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise AnswerMalformed(
                f"{self._meter}: expected scaler and unit of {attribute}, came {answer!r}"
            )
        with said_by(f"{self._meter}: {attribute}"):
            scaling = Scaling.of(answer[0], answer[1])
        if scaling.unit != unit:
            raise MeterDiffers(
                f"{self._meter}: {attribute} is in {scaling.unit!r}, the meter class "
                f"{self._class_name} says {unit!r}; give the meter its right model"
            )
        return scaling
