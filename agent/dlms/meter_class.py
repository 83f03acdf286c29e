"""Meter classes as data: how to associate, which objects hold what, and the quirks as settings.

One TOML file per class, in `profiles/` or wherever the configuration points.
Errors name file, key and remedy.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import ClassId, obis
from agent.dlms.link.frame import client_address
from agent.dlms.link.settings import LinkSettings
from wire.quality import Quality

FOLDER: Final = Path(__file__).parent / "profiles"

EXPONENTS: Final[dict[str, int]] = {
    "import_wh": 0,
    "export_wh": 0,
    "import_varh": 0,
    "voltage_dv": 1,
    "current_ca": 2,
    "power_w": 0,
}
"""What a driver can read, and the power of ten from the meter's unit to ours (V to 0.1 V is 1)."""

_COLUMNS: Final = tuple(name for name in EXPONENTS if name != "power_w")


class MeterClassError(ValueError):
    """A file does not describe a class of DLMS meters."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An object that holds a quantity, and the unit that the meter must state for it."""

    attribute: Attribute
    unit: str


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """How the load profile is read and what its columns mean."""

    buffer: Attribute
    clock: Attribute
    status: Attribute | None
    columns: Mapping[str, Quantity]
    status_flags: tuple[int, ...]
    """Quality flags for each of the 256 values of the status byte."""
    slice_rows: int
    widen_rows: int
    whole_hours: bool
    null_is_previous: bool
    access: Literal["range", "entry", "range, else entry"] = "range, else entry"
    """How rows are selected; by entry where the range is refused or its answer is wrong."""
    energies: Literal["counters", "deltas"] = "counters"
    """Whether an energy column holds the counter at the row's stamp or the interval's energy."""
    side: Literal["primary", "secondary"] = "primary"
    """Secondary: registers and profile lack the transformers' ratios, which the agent applies."""
    period_s: int | None = None
    """Capture period of a profile whose attribute 4 says 0 (captured by an action)."""
    wide_status: tuple[tuple[int, int], ...] = ()
    """(bit number from 8, quality flags) of a status of more than one byte."""

    @property
    def capture_objects(self) -> Attribute:
        return Attribute(ClassId.PROFILE_GENERIC, self.buffer.name, 3)

    @property
    def capture_period(self) -> Attribute:
        return Attribute(ClassId.PROFILE_GENERIC, self.buffer.name, 4)


@dataclass(frozen=True, slots=True)
class ClockSetting:
    """Whether and how the agent may set the meter's clock."""

    how: Literal["never", "set", "shift"] = "never"
    """SET of attribute 2, or ACTION shift_time (IEC 62056-6-2, class 8, method 6)."""
    least_s: int = 3
    """A clock that is off by less is left alone: a read is no more exact than a second or two."""
    most_s: int = 300
    """A clock that is off by more is a matter for a person."""
    edge_s: int = 15
    """The clock is not set so close to an interval's edge, before or after."""


@dataclass(frozen=True, slots=True)
class EventLog:
    """One event log, a profile whose rows are entries."""

    buffer: Attribute
    clock: Attribute = Attribute(ClassId.CLOCK, obis("0.0.1.0.0.255"), 2)  # noqa: RUF009
    code: Attribute | None = None
    """Column of the event code; None: the one named 0.0.96.11.x.255."""
    columns: Mapping[str, Attribute] = field(default_factory=dict)
    """Further columns and what they are called in an event's detail."""

    @property
    def capture_objects(self) -> Attribute:
        return Attribute(ClassId.PROFILE_GENERIC, self.buffer.name, 3)


@dataclass(frozen=True, slots=True)
class MeterClass:
    """One class of DLMS meters."""

    name: str
    title: str
    client_sap: int
    needs_password: bool
    link: LinkSettings
    address_bytes: int | None
    utc_offset_min: int
    inverted_deviation: bool
    serial: Attribute
    quantities: Mapping[str, Quantity]
    profile: LoadProfile
    clock_setting: ClockSetting = ClockSetting()
    logs: Mapping[str, EventLog] = field(default_factory=dict)
    counter_object: Attribute | None = None
    """Where the public client reads the invocation counter that the meter has seen last."""


@lru_cache(maxsize=32)
def load_meter_class(name: str, folder: Path = FOLDER) -> MeterClass:
    """The class in `<folder>/<name>.toml`; raises MeterClassError."""
    path = folder / f"{name}.toml"
    try:
        fields = tomllib.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml"))) or "none"
        raise MeterClassError(
            f"no DLMS meter class {name!r} in {folder}; known are: {known}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise MeterClassError(f"{path}: not TOML: {error}") from error
    return _Reader(path, name).meter_class(fields)


class _Reader:
    """Turns the tables of one file into a `MeterClass`; knows the file for its errors."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def meter_class(self, fields: dict[str, Any]) -> MeterClass:
        association = self._table(fields, "association")
        clock = self._table(fields, "clock")
        objects = dict(self._table(fields, "objects"))
        sap = self._get(association, "association.client_sap", int)
        try:
            client_address(sap)
        except ValueError as error:
            raise self._wrong("association.client_sap", str(error)) from error
        link = self._table(fields, "link")
        return MeterClass(
            name=self._name,
            title=self._get(fields, "title", str),
            client_sap=sap,
            needs_password=self._choice(association, "association.security", "none", "lls"),
            link=self._link(association, link),
            address_bytes=self._get(link, "link.address_bytes", int)
            if "address_bytes" in link
            else None,
            utc_offset_min=self._get(clock, "clock.utc_offset_min", int),
            inverted_deviation=self._choice(clock, "clock.deviation", "standard", "inverted"),
            serial=self._attribute(objects.pop("serial", None), "objects.serial"),
            quantities=self._quantities(objects, "objects", tuple(EXPONENTS)),
            profile=self._profile(self._table(fields, "profile")),
        )

    def _link(self, association: dict[str, Any], link: dict[str, Any]) -> LinkSettings:
        settings = LinkSettings(
            max_info=self._get(link, "link.max_info", int),
            window=self._get(link, "link.window", int),
            response_s=float(self._get(link, "link.response_s", (int, float))),
            tries=self._get(link, "link.tries", int),
            pause_s=float(self._get(link, "link.pause_s", (int, float))),
            gap_s=float(self._get(link, "link.gap_s", (int, float))),
            max_pdu=self._get(association, "association.max_pdu", int),
            lists=self._get(association, "association.lists", bool),
            release=self._get(association, "association.release", bool),
        )
        limits = (("max_info", 32, 2030), ("window", 1, 7), ("tries", 1, 10))
        for key, lowest, highest in limits:
            if not lowest <= getattr(settings, key) <= highest:
                raise self._wrong(f"link.{key}", f"expected {lowest} to {highest}")
        if not 64 <= settings.max_pdu <= 0xFFFF:
            raise self._wrong("association.max_pdu", "expected 64 to 65535 bytes")
        return settings

    def _profile(self, table: dict[str, Any]) -> LoadProfile:
        columns = dict(self._table(table, "profile.columns"))
        clock = self._attribute(columns.pop("clock", None), "profile.columns.clock")
        status = columns.pop("status", None)
        try:
            name = obis(self._get(table, "profile.object", str))
        except ValueError as error:
            raise self._wrong("profile.object", str(error)) from error
        slice_rows = self._get(table, "profile.slice_rows", int)
        widen_rows = self._get(table, "profile.widen_rows", int)
        if slice_rows < 1 or widen_rows < 0:
            raise self._wrong("profile", "slice_rows must be at least 1, widen_rows at least 0")
        return LoadProfile(
            buffer=Attribute(ClassId.PROFILE_GENERIC, name, 2),
            clock=clock,
            status=None if status is None else self._attribute(status, "profile.columns.status"),
            columns=self._quantities(columns, "profile.columns", _COLUMNS),
            status_flags=self._status_flags(table),
            slice_rows=slice_rows,
            widen_rows=widen_rows,
            whole_hours=self._get(table, "profile.whole_hours", bool),
            null_is_previous=not self._choice(table, "profile.null_value", "previous", "missing"),
        )

    def _status_flags(self, table: dict[str, Any]) -> tuple[int, ...]:
        flags = [0] * 8
        for bit, name in self._table(table, "profile.status_bits").items():
            key = f"profile.status_bits.{bit}"
            if bit not in ("0", "1", "2", "3", "4", "5", "6", "7"):
                raise self._wrong(key, "expected a bit number of 0 to 7")
            if name not in Quality.__members__:
                known = ", ".join(Quality.__members__)
                raise self._wrong(key, f"expected one of {known}, found {name!r}")
            flags[int(bit)] = int(Quality[name])
        return tuple(
            sum({flag for bit, flag in enumerate(flags) if value >> bit & 1})
            for value in range(256)
        )

    def _quantities(
        self, table: dict[str, Any], key: str, known: tuple[str, ...]
    ) -> dict[str, Quantity]:
        quantities = {}
        for name, entry in table.items():
            if name not in known:
                raise self._wrong(f"{key}.{name}", f"expected one of {', '.join(known)}")
            if not isinstance(entry, dict) or set(entry) != {"object", "unit"}:
                raise self._wrong(f"{key}.{name}", "expected { object = …, unit = … }")
            attribute = self._attribute(entry["object"], f"{key}.{name}.object")
            quantities[name] = Quantity(attribute, entry["unit"])
        return quantities

    def _attribute(self, text: object, key: str) -> Attribute:
        try:
            return Attribute.parse(str(text))
        except ValueError as error:
            raise self._wrong(key, str(error)) from error

    def _table(self, fields: dict[str, Any], key: str) -> dict[str, Any]:
        table: dict[str, Any] = self._get(fields, key, dict)
        return table

    def _get(self, table: dict[str, Any], key: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        value = table.get(key.rpartition(".")[2])
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = kind.__name__ if isinstance(kind, type) else "number"
            raise self._wrong(key, f"expected a {wanted}, found {value!r}")
        return value

    def _choice(self, table: dict[str, Any], key: str, first: str, second: str) -> bool:
        """Whether the second of two words is chosen."""
        value = self._get(table, key, str)
        if value not in (first, second):
            raise self._wrong(key, f'expected "{first}" or "{second}", found {value!r}')
        return bool(value == second)

    def _wrong(self, key: str, what: str) -> MeterClassError:
        return MeterClassError(f"{self._path}: {key}: {what}; compare {FOLDER.name}/*.toml")
