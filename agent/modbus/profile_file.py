"""Tables of a profile file (TOML): every key has a type and limits, and no key is ignored.

Errors name the file, the key and what was expected there. What the keys mean
is in docs/modbus.md.
"""

from __future__ import annotations

import math
import struct
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal

from agent.modbus.identity import IdentityRegister, IdentityRule
from agent.modbus.register import BASE_UNIT, ENERGY, FORMATS, Register, WordOrder, ones
from agent.modbus.transaction import MAX_REGISTERS, READ_HOLDING, READ_INPUT
from ext.checksum import crc16_modbus
from wire.quality import Quality

UNKNOWN: Final = "unknown"
"""What a profile says where no source names a serial register or a rule."""
_REQUEST_LENGTH: Final = 8
_TOML_NAMES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point",
    str: "a text",
    list: "a list",
    dict: "a table",
}
_BAUDS: Final = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


class ProfileError(ValueError):
    """A profile does not say what it must; the message names file, key and remedy."""


@dataclass(frozen=True, slots=True)
class SerialDefaults:
    """How the maker sets the meter's line; None or empty where no source says."""

    baud: int | None = None
    parity: str | None = None
    """N, E or O."""
    stopbits: int | None = None
    unit: int | None = None
    bauds: tuple[int, ...] = ()
    """All speeds that can be set."""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """Answers of a meter, and what a sample must make of them."""

    origin: Literal["composed", "captured"]
    source: str
    """Where captured frames come from."""
    reads: tuple[tuple[int, bytes], ...]
    """Wire address and the answer's register bytes."""
    expect: Mapping[str, int]
    """Fields of the sample; one that is not here must come out as None."""
    flags: int = 0

    @property
    def words(self) -> dict[int, bytes]:
        """Two bytes by wire address."""
        return {
            address + at // 2: data[at : at + 2]
            for address, data in self.reads
            for at in range(0, len(data), 2)
        }


class Table:
    """One table of a profile: every key is asked for, with its type; what is left is an error."""

    def __init__(self, where: str, what: str, entries: Mapping[str, Any]) -> None:
        self.where = where
        self.what = what
        self._entries = entries
        self._seen: set[str] = set()

    @classmethod
    def of(cls, text: str, where: str) -> Table:
        """The whole file; raises ProfileError if it is no TOML."""
        try:
            return cls(where, "", tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(f"{where}: expected TOML, got: {error}; correct the line") from error

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str, kind: Any, default: Any = None) -> Any:
        self._seen.add(key)
        value = self._entries.get(key, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in kinds:
            raise self.wrong(key, " or ".join(_TOML_NAMES[each] for each in kinds), value)
        return value

    def within(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        value = int(self.get(key, int, default))
        if not lowest <= value <= highest:
            raise self.wrong(key, f"{lowest}..{highest}", value)
        return value

    def fraction(self, key: str) -> Fraction | None:
        """The exact decimal number that was written; None where the key is absent."""
        if key not in self._entries:
            return None
        value = self.get(key, (int, float))
        if not math.isfinite(value):
            raise self.wrong(key, "a finite number", value)
        return Fraction(str(value))

    def one_of(self, key: str, choices: tuple[Any, ...]) -> Any:
        self._seen.add(key)
        value = self._entries.get(key)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise self.wrong(key, f"one of {', '.join(map(str, choices))}", value)
        return value

    def optional(self, key: str, choices: tuple[Any, ...]) -> Any:
        return self.one_of(key, choices) if key in self._entries else None

    def whole_numbers(self, key: str, lowest: int, highest: int) -> tuple[int, ...]:
        values = self.get(key, list, [])
        for value in values:
            if type(value) is not int or not lowest <= value <= highest:
                raise self.wrong(key, f"whole numbers {lowest}..{highest}", value)
        return tuple(values)

    def table(self, key: str) -> dict[str, Any]:
        return dict(self.get(key, dict))

    def texts(self, key: str, *, needed: bool) -> tuple[str, ...]:
        """A list of texts; at least one if `needed`."""
        values = self.get(key, list, None if needed else [])
        if (needed and not values) or not all(type(value) is str for value in values):
            raise self.wrong(key, "a list of texts", values)
        return tuple(values)

    def inner(self, key: str) -> Iterator[Table]:
        """The tables [[key]], in order."""
        entries = self.get(key, list, [])
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict):
                raise self.wrong(key, "tables", entry)
            yield Table(self.where, f"{self.what}{key} {number}: ", entry)

    def nothing_else(self) -> None:
        for key in self._entries:
            if key not in self._seen:
                raise ProfileError(
                    f"{self.where}: {self.what}{key}: not a key of a profile; remove or correct it"
                )

    def wrong(self, key: str, expected: str, value: object) -> ProfileError:
        came = "nothing" if value is None else repr(value)
        return ProfileError(
            f"{self.where}: {self.what}{key}: expected {expected}, got {came}; correct the profile"
        )


def read_register(
    table: Table,
    sources: Mapping[str, str],
    word_order: WordOrder,
    *,
    ones_are_missing: bool,
) -> Register:
    """One [[register]]; raises ProfileError."""
    kind = table.one_of("type", tuple(FORMATS))
    unit = table.one_of("unit", tuple(BASE_UNIT))
    base_unit, per_unit = BASE_UNIT[unit]
    scale = table.fraction("scale") if "scale" in table else Fraction(1)
    if not scale:
        raise table.wrong("scale", "a number other than 0", 0)
    missing = tuple(table.get("missing", list, []))
    for value in missing:
        if type(value) not in (int, float):
            raise table.wrong("missing", "a list of raw numbers", value)
    if ones_are_missing and not kind.startswith("float"):
        missing += (ones(kind),)
    modulus = table.fraction("rollover")
    if modulus is not None and (modulus <= 0 or base_unit not in ENERGY):
        raise table.wrong("rollover", "a positive modulus of an energy counter", float(modulus))
    if modulus is not None:
        _known(table, "rollover_source", table.get("rollover_source", str), sources)
    register = Register(
        name=table.get("name", str),
        address=table.within("address", 0, 65535),
        type=kind,
        factor=scale * per_unit,
        unit=unit,
        sources=_sources(table, sources),
        word_order=word_order,
        step=table.get("step", str, ""),
        zero_is_missing=table.get("zero_is_missing", bool, False),
        missing=missing,
        optional=table.get("optional", bool, False),
        lowest=table.fraction("min"),
        highest=table.fraction("max"),
        rollover=None if modulus is None else modulus * per_unit,
    )
    if register.field.end > 65536:
        raise table.wrong(
            "address", f"0..{65536 - register.field.words} for {kind}", register.address
        )
    if base_unit in ENERGY and not register.step:
        raise table.wrong("step", "the counter's smallest step", None)
    low, high = register.lowest, register.highest
    if low is not None and high is not None and low >= high:
        raise table.wrong("max", f"more than min ({float(low):g})", float(high))
    table.nothing_else()
    return register


def read_defaults(table: Table) -> SerialDefaults:
    """The table [defaults]; raises ProfileError."""
    if "defaults" not in table:
        return SerialDefaults()
    inner = Table(table.where, "defaults.", table.table("defaults"))
    defaults = SerialDefaults(
        baud=inner.optional("baud", _BAUDS),
        parity=inner.optional("parity", ("N", "E", "O")),
        stopbits=inner.optional("stopbits", (1, 2)),
        unit=inner.within("unit", 1, 247) if "unit" in inner else None,
        bauds=inner.whole_numbers("bauds", 300, 1_000_000),
        source=inner.get("source", str),
    )
    inner.nothing_else()
    return defaults


def read_serial(table: Table, sources: Mapping[str, str]) -> IdentityRegister | None:
    """The table [serial], or `serial = "unknown"`; raises ProfileError."""
    entry = table.get("serial", (dict, str))
    if entry == UNKNOWN:
        return None
    if isinstance(entry, str):
        raise table.wrong("serial", f'a table, or "{UNKNOWN}" where no source names one', entry)
    inner = Table(table.where, "serial.", entry)
    register = _identity(inner, sources)
    inner.nothing_else()
    return register


def read_identify(table: Table, sources: Mapping[str, str]) -> tuple[IdentityRule, ...]:
    """The tables [[identify]], or `identify = "unknown"`; raises ProfileError."""
    if table.get("identify", (list, str), UNKNOWN) == UNKNOWN:
        return ()
    rules = []
    for inner in table.inner("identify"):
        register = _identity(inner, sources)
        equals = tuple(inner.get("equals", list, []))
        begins = tuple(inner.get("begins", list, []))
        try:
            rules.append(IdentityRule(register, equals, begins))
        except ValueError as error:
            raise _refused(inner, error) from error
        inner.nothing_else()
    return tuple(rules)


def read_example(table: Table) -> Example:
    """One [[example]]; raises ProfileError."""
    origin = table.one_of("origin", ("composed", "captured"))
    source = table.get("source", str, "" if origin == "composed" else None)
    reads = tuple(_read(inner) for inner in table.inner("read"))
    flags = Quality(0)
    for name in table.texts("flags", needed=False):
        if name not in Quality.__members__:
            raise table.wrong("flags", f"names of {', '.join(Quality.__members__)}", name)
        flags |= Quality[name]
    example = Example(
        origin,
        source,
        reads,
        _expected(table),
        int(flags),
    )
    table.nothing_else()
    return example


def _read(table: Table) -> tuple[int, bytes]:
    """One [[example.read]]: a request and its answer, whole frames with their CRC."""
    request, answer = _frame(table, "request"), _frame(table, "answer")
    if len(request) != _REQUEST_LENGTH or request[1] not in (READ_HOLDING, READ_INPUT):
        expected = f"{_REQUEST_LENGTH} bytes with function 3 or 4"
        raise table.wrong("request", expected, request.hex(" "))
    address, count = struct.unpack(">HH", request[2:6])
    if not 1 <= count <= MAX_REGISTERS:
        raise table.wrong("request", f"1..{MAX_REGISTERS} registers", count)
    head = request[:2] + bytes([2 * count])
    if answer[:3] != head or len(answer) != 5 + 2 * count:
        expected = f"{5 + 2 * count} bytes that begin {head.hex(' ')}"
        raise table.wrong("answer", expected, f"{len(answer)} bytes, {answer[:3].hex(' ')}")
    table.nothing_else()
    return address, answer[3:-2]


def _expected(table: Table) -> dict[str, int]:
    expected = table.table("expect")
    for name, value in expected.items():
        if type(value) is not int:
            raise table.wrong(f"expect.{name}", "a whole number", value)
    return expected


def _frame(table: Table, key: str) -> bytes:
    text = table.get(key, str)
    try:
        frame = bytes.fromhex(text)
    except ValueError as error:
        raise table.wrong(key, "hexadecimal bytes", text) from error
    checksum = crc16_modbus(frame[:-2]).to_bytes(2, "little")
    if frame[-2:] != checksum:
        raise table.wrong(key, f"a CRC of {checksum.hex(' ')}", frame[-2:].hex(" "))
    return frame


def _identity(table: Table, sources: Mapping[str, str]) -> IdentityRegister:
    try:
        return IdentityRegister(
            table.get("function", int),
            table.get("address", int),
            table.get("words", int),
            table.get("type", str),
            _sources(table, sources),
            (table.get("block_address", int), table.get("block_words", int))
            if "block_address" in table
            else None,
        )
    except ProfileError:
        raise
    except ValueError as error:
        raise _refused(table, error) from error


def _refused(table: Table, error: ValueError) -> ProfileError:
    return ProfileError(f"{table.where}: {table.what}{error}; correct the profile")


def _sources(table: Table, sources: Mapping[str, str]) -> tuple[str, ...]:
    names = table.texts("sources", needed=True)
    for name in names:
        _known(table, "sources", name, sources)
    return names


def _known(table: Table, key: str, name: str, sources: Mapping[str, str]) -> None:
    if name not in sources:
        raise table.wrong(key, "keys of the table [sources]", name)
