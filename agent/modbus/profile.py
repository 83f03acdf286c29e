"""Meter profiles: a data file per model says where its values lie and what they mean.

Adding a meter needs no code (docs/modbus.md). Each register names its sources;
each profile carries examples, answers with the reading that they must yield;
those marked `composed` were made from the map and never seen on a line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal

from agent.driver import CounterLimits
from agent.modbus.identity import IdentityRegister, IdentityRule
from agent.modbus.planner import Limits
from agent.modbus.profile_file import (
    Example,
    ProfileError,
    SerialDefaults,
    Table,
    read_defaults,
    read_example,
    read_identify,
    read_register,
    read_serial,
)
from agent.modbus.register import Ratio, Register, State, WordOrder
from agent.modbus.transaction import MAX_REGISTERS, READ_HOLDING, READ_INPUT
from wire.quality import Quality

__all__ = [
    "COUNTERS",
    "SAMPLE_SCALE",
    "Example",
    "Profile",
    "ProfileError",
    "Ratio",
    "Reading",
    "Register",
    "SerialDefaults",
    "ShownRegister",
    "find",
    "load",
    "models",
    "parse",
    "shipped",
]

Side = Literal["primary", "secondary", "either"]

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
_ADDED: Final = (*COUNTERS, "power_w")
"""Fields whose registers are added; those of the others are averaged."""
_FEEDS: Final = {
    "import_wh": "Wh",
    "export_wh": "Wh",
    "import_varh": "varh",
    "voltage_dv": "V",
    "current_ca": "A",
    "power_w": "W",
}
_NOTES: Final[Mapping[State, str]] = {
    "value": "",
    "unwired": "no value (zero: not wired)",
    "not_there": "no value",
    "not_read": "not read",
}
NO_RATIO: Final = Ratio()
_OVERLOAD: Final = 5
"""A meter may carry more than its maximum for a while; a wrong reading is far beyond."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Fields of a sample from one meter's registers; `flags` are bits of `Quality`."""

    values: dict[str, int | None]
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ShownRegister:
    """One register as a person reads it; `note` says why there is no value."""

    name: str
    address: int
    words: bytes
    """As sent; empty where the register was not read."""
    value: Fraction | None
    unit: str
    """The base unit (Wh, varh, W, var, VA, V, A, Hz, or empty)."""
    note: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What the agent knows about one model."""

    model: str
    title: str
    notes: tuple[str, ...]
    """What is odd about the meter."""
    phases: int
    function: int
    word_order: WordOrder
    side: Side
    """Whether a meter behind transformers shows primary values, secondary ones, or as it is set."""
    limits: Limits
    gap_s: float
    """Pause that the meter needs between two requests to it."""
    response_timeout_s: float
    turnaround_s: float
    """What the answer's first byte usually takes; the settable delay is a part of it."""
    settable_delay_s: float
    """A pause before each answer that the maker sets and an installer can take away."""
    settable_delay_how: str
    defaults: SerialDefaults
    most_power_w: int | None
    """The maker's maximum of the meter itself, before any ratio; None where no source says."""
    most_power_source: str
    serial: IdentityRegister | None
    identify: tuple[IdentityRule, ...]
    registers: tuple[Register, ...]
    sample: Mapping[str, tuple[Register, ...]]
    """Which registers feed a field of `Sample`: energies and powers are added, others averaged."""
    sources: Mapping[str, str]
    examples: tuple[Example, ...]

    def reading(self, words: Mapping[int, bytes], ratio: Ratio = NO_RATIO) -> Reading:
        """Fields of a sample from register bytes by wire address.

        None where a value is missing. What the meter marks as not there is
        flagged NO_VALUE if a counter needs it, what it cannot be OUT_OF_RANGE;
        what was not read is not flagged.
        """
        values: dict[str, int | None] = {}
        flags = Quality(0)
        for name in self.sample:
            values[name], flag = self._feed(name, words, ratio)
            flags |= flag
        return Reading(values, int(flags))

    def shown(
        self, words: Mapping[int, bytes], ratio: Ratio = NO_RATIO
    ) -> tuple[ShownRegister, ...]:
        """Every register of the profile, for a table."""
        rows = []
        for register in self.registers:
            data = register.data(words)
            value, state = register.decode(data)
            note = _NOTES.get(state) or ""
            if state == "out_of_range":
                note = f"out of range {register.limits_text()}"
            if value is not None:
                value *= ratio.of(register.base_unit)
            rows.append(
                ShownRegister(
                    register.name, register.address, data, value, register.base_unit, note
                )
            )
        return tuple(rows)

    def counter_limits(self, ratio: Ratio = NO_RATIO) -> CounterLimits:
        """What the sources say about the counters; a sum of two counters has no rollover."""
        rollover = {}
        for name in COUNTERS:
            registers = self.sample.get(name, ())
            if len(registers) == 1 and (modulus := registers[0].rollover) is not None:
                rollover[name] = round(modulus * ratio.of(_FEEDS[name]))
        if self.most_power_w is None:
            return CounterLimits(rollover)
        most = _OVERLOAD * self.most_power_w * ratio.of("Wh")
        return CounterLimits(rollover, math.ceil(most))

    def _feed(
        self, name: str, words: Mapping[int, bytes], ratio: Ratio
    ) -> tuple[int | None, Quality]:
        values: list[Fraction] = []
        flags = Quality(0)
        for register in self.sample[name]:
            value, state = register.decode(register.data(words))
            if value is not None:
                values.append(value)
            elif state == "out_of_range":
                flags |= Quality.OUT_OF_RANGE
            elif state == "not_there" and name in COUNTERS and not register.optional:
                flags |= Quality.NO_VALUE
        added = name in _ADDED
        if flags or not values or (added and len(values) < len(self.sample[name])):
            return None, flags
        total = values[0] if len(values) == 1 else sum(values, start=Fraction(0))
        shares = 1 if added else len(values)
        return round(total * ratio.of(_FEEDS[name]) * Fraction(SAMPLE_SCALE[name], shares)), flags


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
            f"model {model!r}: expected one of {', '.join(models())}, or the path of a profile "
            "ending in .toml; correct the name"
        )
    entry = resources.files("agent.modbus").joinpath("profiles", f"{model}.toml")
    return parse(entry.read_text(encoding="utf-8"), f"profiles/{model}.toml")


def find(model: str, folder: Path) -> Profile:
    """The profile that a configuration in `folder` names: a shipped model, or a path to a .toml.

    Raises ProfileError.
    """
    return load(folder / model) if model.endswith(".toml") else shipped(model)


def load(path: Path) -> Profile:
    """A profile from a file of one's own; raises ProfileError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(
            f"{path}: expected a readable profile, got: {error}; check the path"
        ) from error


def parse(text: str, where: str) -> Profile:
    """The profile that `text` (TOML) describes; raises ProfileError, which names `where`."""
    table = Table.of(text, where)
    sources = table.table("sources")
    for key, source in sources.items():
        if type(source) is not str:
            raise table.wrong(f"sources.{key}", "a text", source)
    word_order: WordOrder = table.one_of("word_order", ("big", "little"))
    ones_are_missing = table.get("ones_are_missing", bool, False)
    registers = tuple(
        read_register(inner, sources, word_order, ones_are_missing=ones_are_missing)
        for inner in table.inner("register")
    )
    by_name = {register.name: register for register in registers}
    if len(by_name) < len(registers):
        raise ProfileError(f"{where}: register names: expected each once; rename the second one")
    if not registers:
        raise table.wrong("register", "one table [[register]] or more", None)
    delay_ms = table.within("settable_delay_ms", 0, 5000, 0)
    most_power_w = table.within("most_power_w", 0, 10**9, 0) or None
    profile = Profile(
        model=table.get("model", str),
        title=table.get("title", str),
        notes=table.texts("notes", needed=False),
        phases=table.within("phases", 1, 3),
        function=table.one_of("function", (READ_HOLDING, READ_INPUT)),
        word_order=word_order,
        side=table.one_of("side", ("primary", "secondary", "either")),
        limits=_limits(table, registers),
        gap_s=table.within("gap_ms", 0, 5000, 0) / 1000,
        response_timeout_s=table.within("response_timeout_ms", 10, 10000, 500) / 1000,
        turnaround_s=table.within("turnaround_ms", 0, 5000, 40) / 1000,
        settable_delay_s=delay_ms / 1000,
        settable_delay_how=table.get("settable_delay_how", str, None if delay_ms else ""),
        defaults=read_defaults(table),
        most_power_w=most_power_w,
        most_power_source=table.get("most_power_source", str, None if most_power_w else ""),
        serial=read_serial(table, sources),
        identify=read_identify(table, sources),
        registers=registers,
        sample=_sample(table, by_name),
        sources=sources,
        examples=tuple(read_example(inner) for inner in table.inner("example")),
    )
    table.nothing_else()
    return profile


def _limits(table: Table, registers: Sequence[Register]) -> Limits:
    most = table.within("max_registers", 1, MAX_REGISTERS, MAX_REGISTERS)
    align = table.within("align", 1, 4, 1)
    barriers = table.whole_numbers("barriers", 0, 65535)
    for register in registers:
        words = -(-register.field.words // align) * align
        if words > most:
            raise table.wrong("max_registers", f"{words} or more for {register.name}", most)
        for barrier in barriers:
            if register.address <= barrier < register.address + words:
                raise table.wrong("barriers", f"none within {register.name}", barrier)
    return Limits(most, align, barriers)


def _sample(table: Table, by_name: Mapping[str, Register]) -> dict[str, tuple[Register, ...]]:
    sample = {}
    entries = table.table("sample")
    fields = Table(table.where, "sample.", entries)
    for field in entries:
        if field not in SAMPLE_SCALE:
            raise table.wrong(f"sample.{field}", f"one of {', '.join(SAMPLE_SCALE)}", field)
        names = fields.texts(field, needed=True)
        if len(set(names)) < len(names):
            raise table.wrong(f"sample.{field}", "each register once", list(names))
        for name in names:
            if name not in by_name:
                raise table.wrong(f"sample.{field}", "names of this profile's registers", name)
            if by_name[name].base_unit != _FEEDS[field]:
                expected = f"registers whose unit is a multiple of {_FEEDS[field]}"
                raise table.wrong(f"sample.{field}", expected, name)
        sample[field] = tuple(by_name[name] for name in names)
    if "import_wh" not in sample:
        raise table.wrong("sample.import_wh", "the counter of imported energy", None)
    return sample
