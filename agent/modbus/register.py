"""One value of a meter: where it lies, what its bytes mean, and when they mean nothing.

A register's bytes are a value, or the maker's mark for "not there", or a value
that this meter cannot show. The three are told apart here; nothing is guessed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from agent.modbus.planner import Field

FORMATS: Final = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_STRUCTS: Final = {kind: struct.Struct(code) for kind, code in FORMATS.items()}
BASE_UNIT: Final = {
    "kWh": ("Wh", 1000),
    "Wh": ("Wh", 1),
    "kvarh": ("varh", 1000),
    "varh": ("varh", 1),
    "kW": ("W", 1000),
    "W": ("W", 1),
    "kvar": ("var", 1000),
    "var": ("var", 1),
    "kVA": ("VA", 1000),
    "VA": ("VA", 1),
    "V": ("V", 1),
    "A": ("A", 1),
    "Hz": ("Hz", 1),
    "": ("", 1),
}
"""Unit of a register -> its base unit, and how many of those it is."""
ENERGY: Final = ("Wh", "varh")

WordOrder = Literal["big", "little"]
State = Literal["value", "unwired", "not_there", "out_of_range", "not_read"]
"""`unwired` is a phase that reads zero; `not_there` is what the maker marks as no value."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """What makes primary values of those that a meter shows on its transformers' secondary side."""

    current: Fraction = Fraction(1)
    voltage: Fraction = Fraction(1)

    def of(self, base_unit: str) -> Fraction:
        """The factor for a value in `base_unit`."""
        if base_unit == "A":
            return self.current
        if base_unit == "V":
            return self.voltage
        return Fraction(1) if base_unit in ("Hz", "") else self.current * self.voltage


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a meter: raw * factor, in base units (Wh, varh, V, A, W).

    The limits hold for the value as the meter shows it, before any ratio.
    """

    name: str
    address: int
    type: str
    factor: Fraction
    unit: str
    """The maker's unit, for example kWh; `base_unit` is that of `factor`."""
    sources: tuple[str, ...]
    word_order: WordOrder = "big"
    step: str = ""
    """Smallest step of an energy counter, in words where it varies."""
    zero_is_missing: bool = False
    missing: tuple[int | float, ...] = ()
    """Raw values that say that there is no value."""
    optional: bool = False
    """Some variants of the model lack it: its absence is no fault."""
    lowest: Fraction | None = None
    highest: Fraction | None = None
    rollover: Fraction | None = None
    """The first value that the counter never shows; None where no source names one."""

    @property
    def field(self) -> Field:
        return Field(self.address, self.size // 2)

    @property
    def size(self) -> int:
        """Bytes."""
        return _STRUCTS[self.type].size

    @property
    def base_unit(self) -> str:
        return BASE_UNIT[self.unit][0]

    def data(self, words: Mapping[int, bytes]) -> bytes:
        """This register's bytes among `words` (two bytes by wire address); b"" if not all there."""
        end = self.address + self.size // 2
        data = b"".join([words.get(at, b"") for at in range(self.address, end)])
        return data if len(data) == self.size else b""

    def decode(self, data: bytes) -> tuple[Fraction | None, State]:
        """The value in base units, as the meter shows it; None where the state says why."""
        if not data:
            return None, "not_read"
        if self.word_order == "little":
            data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
        (raw,) = _STRUCTS[self.type].unpack(data)
        if isinstance(raw, float) and not math.isfinite(raw):
            return None, "not_there"
        if raw in self.missing:
            return None, "not_there"
        if raw == 0 and self.zero_is_missing:
            return None, "unwired"
        numerator, denominator = raw.as_integer_ratio()
        value = Fraction(numerator * self.factor.numerator, denominator * self.factor.denominator)
        if (self.lowest is not None and value < self.lowest) or (
            self.highest is not None and value > self.highest
        ):
            return None, "out_of_range"
        return value, "value"

    def limits_text(self) -> str:
        """The plausible limits as a reader of a table wants them, for example "0..500 V"."""
        low = "" if self.lowest is None else f"{float(self.lowest):.10g}"
        high = "" if self.highest is None else f"{float(self.highest):.10g}"
        return f"{low}..{high} {self.base_unit}".rstrip()


def ones(kind: str) -> int:
    """The raw value of `kind` that makers fill in for "not there": all ones, positive if signed."""
    bits = 8 * _STRUCTS[kind].size
    return (1 << (bits - kind.startswith("int"))) - 1
