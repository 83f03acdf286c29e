"""Meter profiles: a data file per model says where its values lie and what they mean.

Adding a meter needs no code. Each register names its sources; each profile
carries examples, answer bytes with the reading that they must yield; those
marked `composed` were made from the map and never seen on a line.
"""

from __future__ import annotations

import math
import struct
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from agent.modbus.planner import Field, Limits
from agent.modbus.transaction import MAX_REGISTERS, READ_HOLDING, READ_INPUT

_FORMATS: Final = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_BASE: Final = {"kWh": 1000, "kvarh": 1000, "kW": 1000, "Wh": 1, "varh": 1, "V": 1, "A": 1}
_PER_UNIT: Final = {**_BASE, "W": 1, "var": 1, "VA": 1, "Hz": 1, "": 1}
SAMPLE_SCALE: Final = {
    "import_wh": 1,
    "export_wh": 1,
    "import_varh": 1,
    "voltage_dv": 10,
    "current_ca": 100,
    "power_w": 1,
}
"""Fields of `Sample` that a profile can feed, with their units per base unit."""
COUNTERS: Final = ("import_wh", "export_wh", "import_varh")


class ProfileError(ValueError):
    """A profile does not say what it must; the message names file, key and remedy."""


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a meter: raw * factor, in base units (Wh, varh, V, A, W)."""

    name: str
    address: int
    type: str
    factor: Fraction
    unit: str
    sources: tuple[str, ...]
    zero_is_missing: bool
    step: str
    """Smallest step of an energy counter, in words where it varies."""
    rollover_wh: int | None
    """The counter begins anew after this; None where no modulus is known."""

    @property
    def field(self) -> Field:
        return Field(self.address, struct.calcsize(_FORMATS[self.type]) // 2)

    def value(self, data: bytes, word_order: str, ones_are_missing: bool) -> Fraction | None:
        """What the register's bytes mean in base units (Wh, W, V, A); None if it has no value."""
        if word_order == "little":
            data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
        (raw,) = struct.unpack(_FORMATS[self.type], data)
        if isinstance(raw, float):
            if not math.isfinite(raw):
                return None
        elif ones_are_missing and raw == self._all_ones(len(data)):
            return None
        if raw == 0 and self.zero_is_missing:
            return None
        numerator, denominator = raw.as_integer_ratio()
        return Fraction(numerator * self.factor.numerator, denominator * self.factor.denominator)

    def _all_ones(self, size: int) -> int:
        signed = self.type.startswith("int")
        return (1 << (8 * size - signed)) - 1


@dataclass(frozen=True, slots=True)
class Example:
    """Bytes of one answer (data only) from `address` on, and what a sample must make of them."""

    origin: Literal["composed", "captured"]
    reads: tuple[tuple[int, bytes], ...]
    expect: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """What the agent knows about one model."""

    model: str
    title: str
    function: int
    word_order: Literal["big", "little"]
    limits: Limits
    gap_s: float
    """Pause that the meter needs between two requests to it."""
    response_timeout_s: float
    turnaround_s: float
    ones_are_missing: bool
    registers: tuple[Register, ...]
    sample: Mapping[str, tuple[Register, ...]]
    """Which registers feed a field of `Sample`: counters are summed, gauges averaged."""
    sources: Mapping[str, str]
    examples: tuple[Example, ...]

    def reading(self, words: Mapping[int, bytes]) -> dict[str, int | None]:
        """Sample fields from register bytes by address; None where a value is missing."""
        return {name: self._feed(name, registers, words) for name, registers in self.sample.items()}

    def _feed(
        self, name: str, registers: tuple[Register, ...], words: Mapping[int, bytes]
    ) -> int | None:
        values: list[Fraction] = []
        for register in registers:
            field = register.field
            raw = b"".join([words.get(at, b"") for at in range(field.address, field.end)])
            if len(raw) == 2 * field.words:
                value = register.value(raw, self.word_order, self.ones_are_missing)
                if value is not None:
                    values.append(value)
        if not values or (name in COUNTERS and len(values) < len(registers)):
            return None
        total = values[0] if len(values) == 1 else sum(values, start=Fraction(0))
        shares = 1 if name in COUNTERS else len(values)
        return round(total * Fraction(SAMPLE_SCALE[name], shares))


def models() -> tuple[str, ...]:
    """Models that ship with the agent."""
    folder = resources.files("agent.modbus").joinpath("profiles")
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


@cache
def shipped(model: str) -> Profile:
    """The shipped profile of `model`; raises ProfileError."""
    if model not in models():
        raise ProfileError(
            f"model {model!r}: expected one of {', '.join(models())}; correct the name"
        )
    entry = resources.files("agent.modbus").joinpath("profiles", f"{model}.toml")
    return parse(entry.read_text(encoding="utf-8"), f"profiles/{model}.toml")


def load(path: Path) -> Profile:
    """A profile from a file of one's own; raises ProfileError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(
            f"{path}: expected a readable profile, got: {error}; check the path"
        ) from error


def parse(text: str, where: str) -> Profile:
    """The profile that `text` (TOML) describes; `where` names it in errors."""
    try:
        top = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{where}: expected TOML, got: {error}; correct the line") from error
    reader = _Reader(where, "", top)
    sources = {str(key): str(value) for key, value in reader.table("sources").items()}
    registers = tuple(
        _register(_Reader(where, f"register {number}: ", entry), sources)
        for number, entry in enumerate(reader.tables("register"), 1)
    )
    by_name = {register.name: register for register in registers}
    if len(by_name) < len(registers):
        raise ProfileError(f"{where}: register names: expected each once; rename the second one")
    profile = Profile(
        model=reader.get("model", str),
        title=reader.get("title", str),
        function=reader.one_of("function", (READ_HOLDING, READ_INPUT)),
        word_order=reader.one_of("word_order", ("big", "little")),
        limits=Limits(
            reader.within("max_registers", 1, MAX_REGISTERS, MAX_REGISTERS),
            reader.within("align", 1, 4, 1),
            tuple(reader.get("barriers", list, [])),
        ),
        gap_s=reader.within("gap_ms", 0, 5000, 0) / 1000,
        response_timeout_s=reader.within("response_timeout_ms", 10, 10000, 500) / 1000,
        turnaround_s=reader.within("turnaround_ms", 0, 5000, 40) / 1000,
        ones_are_missing=reader.get("ones_are_missing", bool, False),
        registers=registers,
        sample=_sample(reader, by_name),
        sources=sources,
        examples=tuple(
            _example(_Reader(where, f"example {number}: ", entry))
            for number, entry in enumerate(reader.tables("example"), 1)
        ),
    )
    reader.nothing_else()
    return profile


def _sample(reader: _Reader, by_name: Mapping[str, Register]) -> dict[str, tuple[Register, ...]]:
    sample = {}
    for field, names in reader.table("sample").items():
        if field not in SAMPLE_SCALE:
            raise reader.wrong(f"sample.{field}", f"one of {', '.join(SAMPLE_SCALE)}", field)
        if not isinstance(names, list) or not names:
            raise reader.wrong(f"sample.{field}", "a list of register names", names)
        for name in names:
            if name not in by_name:
                raise reader.wrong(f"sample.{field}", "names of this profile's registers", name)
        sample[field] = tuple(by_name[name] for name in names)
    if "import_wh" not in sample:
        raise reader.wrong("sample.import_wh", "the counter of imported energy", None)
    return sample


def _register(reader: _Reader, sources: Mapping[str, str]) -> Register:
    kind = reader.one_of("type", tuple(_FORMATS))
    unit = reader.one_of("unit", tuple(_PER_UNIT))
    register = Register(
        name=reader.get("name", str),
        address=reader.within("address", 0, 65535),
        type=kind,
        factor=Fraction(str(reader.get("scale", (int, float), 1))) * _PER_UNIT[unit],
        unit=unit,
        sources=tuple(reader.get("sources", list)),
        zero_is_missing=reader.get("zero_is_missing", bool, False),
        step=reader.get("step", str, ""),
        rollover_wh=reader.get("rollover_wh", int, 0) or None,
    )
    for source in register.sources:
        if source not in sources:
            raise reader.wrong("sources", "keys of the table [sources]", source)
    if unit in ("kWh", "kvarh", "Wh", "varh") and not register.step:
        raise reader.wrong("step", "the counter's smallest step", None)
    reader.nothing_else()
    return register


def _example(reader: _Reader) -> Example:
    reads = []
    for entry in reader.tables("read"):
        inner = _Reader(reader.where, reader.what + "read: ", entry)
        text = inner.get("data", str)
        try:
            reads.append((inner.within("address", 0, 65535), bytes.fromhex(text)))
        except ValueError as error:
            raise inner.wrong("data", "hexadecimal bytes", text) from error
    example = Example(
        reader.one_of("origin", ("composed", "captured")),
        tuple(reads),
        reader.table("expect"),
    )
    reader.nothing_else()
    return example


class _Reader:
    """One table of a profile: every key is asked for, with its type; what is left is an error."""

    def __init__(self, where: str, what: str, table: Mapping[str, Any]) -> None:
        self.where = where
        self.what = what
        self._table = table
        self._seen: set[str] = set()

    def get(self, key: str, kind: Any, default: Any = None) -> Any:
        self._seen.add(key)
        value = self._table.get(key, default)
        if value is None or not isinstance(value, kind) or (kind is int and value is True):
            name = kind.__name__ if isinstance(kind, type) else "number"
            raise self.wrong(key, name, value)
        return value

    def within(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        value = int(self.get(key, int, default))
        if not lowest <= value <= highest:
            raise self.wrong(key, f"{lowest}..{highest}", value)
        return value

    def one_of(self, key: str, choices: tuple[Any, ...]) -> Any:
        self._seen.add(key)
        value = self._table.get(key)
        if value not in choices:
            raise self.wrong(key, f"one of {', '.join(map(str, choices))}", value)
        return value

    def table(self, key: str) -> dict[str, Any]:
        return dict(self.get(key, dict))

    def tables(self, key: str) -> list[dict[str, Any]]:
        entries = self.get(key, list, [])
        if not all(isinstance(entry, dict) for entry in entries):
            raise self.wrong(key, "tables", entries)
        return list(entries)

    def nothing_else(self) -> None:
        for key in self._table:
            if key not in self._seen:
                raise ProfileError(
                    f"{self.where}: {self.what}{key}: not a key of a profile; remove or correct it"
                )

    def wrong(self, key: str, expected: str, value: object) -> ProfileError:
        came = "nothing" if value is None else repr(value)
        return ProfileError(
            f"{self.where}: {self.what}{key}: expected {expected}, got {came}; correct the profile"
        )
