"""Reads the TOML file of a meter class: every key has a type and limits, and no key is ignored.

Errors name file, key, what was expected and what came, and the remedy. With
`like = "<shipped class>"` a file says only what is different there; `false`
takes an object or a column of the other class out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import ClassId, obis
from agent.dlms.link.frame import client_address
from agent.dlms.link.settings import LinkSettings
from agent.dlms.meter_class import (
    COLUMNS,
    EXPONENTS,
    FOLDER,
    SUMS,
    ClockSetting,
    EventLog,
    LoadProfile,
    MeterClass,
    MeterClassError,
    Quantity,
)
from wire.quality import Quality

_Parsed = TypeVar("_Parsed")
_BYTE_BITS: Final = 8
_STATUS_BITS: Final = 32
_LONGEST_ANSWER: Final = 1 << 24
_TOML_NAMES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    dict: "a table",
    list: "a list",
}


class Table:
    """One table of a class file: keys are taken out one by one, what is left over is an error.

    Every method raises MeterClassError.
    """

    def __init__(self, where: Path, name: str, entries: Mapping[str, Any]) -> None:
        self._where = where
        self._name = name
        self._entries = entries
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._taken.add(key)
        return key in self._entries

    def left(self) -> tuple[str, ...]:
        """Keys that nobody has asked for yet."""
        return tuple(key for key in self._entries if key not in self._taken)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        self._taken.add(key)
        value = self._entries.get(key, default)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise self.wrong(key, _TOML_NAMES[kind], value)
        return value

    def within(self, key: str, lowest: float, highest: float, default: Any = None) -> Any:
        """A number between limits, whole where the lower limit is."""
        value = self.get(key, type(lowest), default)
        if not lowest <= value <= highest:
            raise self.wrong(key, f"{lowest} to {highest}", value)
        return value

    def choice(self, key: str, choices: tuple[Any, ...], default: Any = None) -> Any:
        self._taken.add(key)
        value = self._entries.get(key, default)
        if type(value) not in (str, int) or value not in choices:
            raise self.wrong(key, f"one of {', '.join(map(repr, choices))}", value)
        return value

    def parsed(self, key: str, parse: Callable[[str], _Parsed]) -> _Parsed:
        """A text in a form of its own; `parse` raises ValueError where it is not."""
        text = self.get(key, str)
        try:
            return parse(text)
        except ValueError as error:
            raise self.bad(key, str(error)) from error

    def each(self, key: str, parse: Callable[[str], _Parsed]) -> tuple[_Parsed, ...]:
        """A text in a form of its own or a list of such, none twice; `parse` as in `parsed`."""
        if type(self._entries.get(key)) is not list:
            return (self.parsed(key, parse),)
        texts = self.get(key, list)
        if not texts or not all(type(text) is str for text in texts):
            raise self.wrong(key, "a text in quotes or a list of them", texts)
        try:
            parsed = tuple(map(parse, texts))
        except ValueError as error:
            raise self.bad(key, str(error)) from error
        if len(set(parsed)) < len(parsed):
            raise self.wrong(key, "each of the list once", texts)
        return parsed

    def optional(self, key: str, parse: Callable[[str], _Parsed]) -> _Parsed | None:
        return self.parsed(key, parse) if key in self else None

    def table(self, key: str, *, needed: bool = True) -> Table:
        name = f"{self._name}.{key}" if self._name else key
        return Table(self._where, name, self.get(key, dict, None if needed else {}))

    def finish(self) -> None:
        """Refuses what nobody has asked for: a misspelt key must not be ignored."""
        for key in self.left():
            known = ", ".join(sorted(self._taken)) or "none"
            raise self.bad(key, f"is no key of this table (known: {known})")

    def wrong(self, key: str, expected: str, value: object) -> MeterClassError:
        found = "nothing" if value is None else repr(value)
        return self.bad(key, f"expected {expected}, found {found}")

    def bad(self, key: str, what: str) -> MeterClassError:
        name = f"{self._name}.{key}" if self._name else key
        return MeterClassError(
            f"{self._where}: {name}: {what}; correct it there (docs/dlms.md has all keys)"
        )


def read_fields(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Path and content of a class file, with what it takes from the class that it is like."""
    path = folder / f"{name}.toml"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml"))) or "none"
        raise MeterClassError(
            f"no DLMS meter class {name!r} in {folder}; known are: {known}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MeterClassError(
            f"{path}: expected a readable text file, got: {error}; check the path and its rights"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise MeterClassError(f"{path}: not TOML: {error}; correct the line") from error
    like = fields.pop("like", None)
    if like is None:
        return path, fields
    if not isinstance(like, str) or like == name or not (FOLDER / f"{like}.toml").is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise MeterClassError(f"{path}: like: expected one of {known}, found {like!r}; correct it")
    return path, _merged(read_fields(like, FOLDER)[1], fields)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[key] = _merged(before, value)
        elif value is False and before is not None and not isinstance(before, bool):
            del merged[key]
        else:
            merged[key] = value
    return merged


def read_meter_class(name: str, folder: Path) -> MeterClass:
    """The class in `<folder>/<name>.toml`; raises MeterClassError."""
    path, fields = read_fields(name, folder)
    top = Table(path, "", fields)
    association, link, clock = top.table("association"), top.table("link"), top.table("clock")
    objects = top.table("objects")
    serial = objects.parsed("serial", Attribute.parse)
    mechanism = association.choice("security", ("none", "lls", "hls-gmac"))
    ciphering = association.choice("ciphering", ("none", "global", "dedicated", "general-global"),
        "global" if mechanism == "hls-gmac" else "none",
    )  # fmt: skip
    if mechanism == "hls-gmac" and ciphering == "none":
        raise association.wrong("ciphering", 'another word than "none" with hls-gmac', ciphering)
    if "source" in top:
        top.get("source", str)
    meter_class = MeterClass(
        name=name,
        title=top.get("title", str),
        client_sap=_client_sap(association),
        link=_link(association, link),
        address_bytes=link.choice("address_bytes", (1, 2, 4)) if "address_bytes" in link else None,
        utc_offset_min=clock.within("utc_offset_min", -720, 840),
        inverted_deviation=clock.choice("deviation", ("standard", "inverted")) == "inverted",
        serial=serial,
        quantities=_quantities(objects, tuple(EXPONENTS)),
        profile=_profile(top.table("profile")),
        clock_setting=_clock_setting(clock),
        logs=_logs(top.table("logs", needed=False)),
        mechanism=mechanism,
        ciphering=ciphering,
        suite=association.choice("suite", (0, 2), 0),
        counter_object=association.optional("counter_object", Attribute.parse),
    )
    for table in (association, link, clock, objects, top):
        table.finish()
    return meter_class


def _client_sap(association: Table) -> int:
    sap: int = association.get("client_sap", int)
    try:
        client_address(sap)
    except ValueError as error:
        raise association.bad("client_sap", str(error)) from error
    return sap


def _link(association: Table, link: Table) -> LinkSettings:
    usual = LinkSettings()
    return LinkSettings(
        max_info=link.within("max_info", 32, 2030, usual.max_info),
        window=link.within("window", 1, 7, usual.window),
        response_s=link.within("response_s", 0.05, 30.0, usual.response_s),
        tries=link.within("tries", 1, 10, usual.tries),
        pause_s=link.within("pause_s", 0.02, 5.0, usual.pause_s),
        gap_s=link.within("gap_s", 0.0, 5.0, usual.gap_s),
        exchange_s=link.within("exchange_s", 1.0, 600.0, usual.exchange_s),
        longest_answer=link.within("longest_answer", 256, _LONGEST_ANSWER, usual.longest_answer),
        max_pdu=association.within("max_pdu", 64, 0xFFFF, usual.max_pdu),
        lists=association.get("lists", bool, usual.lists),
        general_blocks=association.get("general_blocks", bool, usual.general_blocks),
        release=association.get("release", bool, usual.release),
    )


def _profile(table: Table) -> LoadProfile:
    columns = table.table("columns")
    clock = columns.parsed("clock", Attribute.parse)
    status = columns.optional("status", Attribute.parse)
    flags, wide_status = _status(table.table("status_bits", needed=False))
    profile = LoadProfile(
        buffer=Attribute(ClassId.PROFILE_GENERIC, table.parsed("object", obis), 2),
        clock=clock,
        status=status,
        columns=_quantities(columns, COLUMNS),
        status_flags=flags,
        slice_rows=table.within("slice_rows", 1, 100_000, 1000),
        widen_rows=table.within("widen_rows", 0, 100, 1),
        whole_hours=table.get("whole_hours", bool, False),
        null_is_previous=table.choice("null_value", ("previous", "missing"), "previous")
        == "previous",
        access=table.choice("access", ("range", "entry", "range, else entry"), "range, else entry"),
        order=table.choice("order", ("oldest first", "newest first"), "oldest first"),
        energies=table.choice("energies", ("counters", "deltas"), "counters"),
        side=table.choice("side", ("primary", "secondary"), "primary"),
        period_s=table.within("period_s", 60, 86400) if "period_s" in table else None,
        wide_status=wide_status,
    )
    columns.finish()
    table.finish()
    return profile


def _status(table: Table) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Flags for each value of the lowest byte, and of the single bits above it."""
    of_bit: dict[int, int] = {}
    for key in table.left():
        if not key.isdecimal() or int(key) >= _STATUS_BITS:
            raise table.bad(key, f"expected a bit number of 0 to {_STATUS_BITS - 1}")
        name = table.choice(key, tuple(Quality.__members__))
        of_bit[int(key)] = int(Quality[name])
    low = [of_bit.get(bit, 0) for bit in range(_BYTE_BITS)]
    flags = tuple(
        sum({flag for bit, flag in enumerate(low) if value >> bit & 1}) for value in range(256)
    )
    return flags, tuple(sorted((bit, flag) for bit, flag in of_bit.items() if bit >= _BYTE_BITS))


def _clock_setting(table: Table) -> ClockSetting:
    usual = ClockSetting()
    setting = ClockSetting(
        how=table.choice("set", ("never", "set", "shift"), usual.how),
        least_s=table.within("least_s", 1, 3600, usual.least_s),
        most_s=table.within("most_s", 1, 86400, usual.most_s),
        edge_s=table.within("edge_s", 0, 300, usual.edge_s),
    )
    if setting.least_s > setting.most_s:
        raise table.wrong("most_s", f"at least least_s ({setting.least_s})", setting.most_s)
    return setting


def _logs(table: Table) -> dict[str, EventLog]:
    logs = {}
    for name in table.left():
        entry = table.table(name)
        columns = entry.table("columns", needed=False)
        clock = entry.optional("clock", Attribute.parse)
        log = EventLog(
            buffer=Attribute(ClassId.PROFILE_GENERIC, entry.parsed("object", obis), 2),
            code=entry.optional("code", Attribute.parse),
            columns={key: columns.parsed(key, Attribute.parse) for key in columns.left()},
            **({} if clock is None else {"clock": clock}),
        )
        entry.finish()
        logs[name] = log
    return logs


def _quantities(table: Table, known: tuple[str, ...]) -> dict[str, Quantity]:
    quantities = {}
    for name in table.left():
        if name not in known:
            raise table.bad(name, f"expected one of {', '.join(known)}")
        entry = table.table(name)
        attributes = entry.each("object", Attribute.parse)
        if len(attributes) > 1 and name not in SUMS:
            raise entry.bad("object", f"expected one; several are added up for {', '.join(SUMS)}")
        quantities[name] = Quantity(attributes, entry.get("unit", str))
        entry.finish()
    return quantities
