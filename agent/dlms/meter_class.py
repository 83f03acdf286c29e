"""Meter classes as data: how to associate, which objects hold what, and the quirks as settings.

One TOML file per class, in `profiles/` or beside the configuration; how it is
read stands in `meter_class_file.py`, what its keys mean in docs/dlms.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import ClassId, obis
from agent.dlms.link.settings import LinkSettings
from agent.dlms.security.settings import Ciphering, Mechanism

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

COLUMNS: Final = tuple(name for name in EXPONENTS if name != "power_w")
"""What a load profile can hold of it."""

SUMS: Final = ("import_wh", "export_wh", "import_varh", "power_w")
"""What several objects may add up to: tariffs, quadrants, phases."""


class MeterClassError(ValueError):
    """A file does not describe a class of DLMS meters."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """The object that holds a quantity, or several whose values are added up."""

    attributes: tuple[Attribute, ...]
    unit: str
    """What the meter must state for each."""


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
    order: Literal["oldest first", "newest first"] = "oldest first"
    """In which order the buffer is: entry 1 is its first row, a null repeats the row above it."""
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
    link: LinkSettings
    address_bytes: int | None
    utc_offset_min: int
    inverted_deviation: bool
    serial: Attribute
    quantities: Mapping[str, Quantity]
    profile: LoadProfile
    clock_setting: ClockSetting = ClockSetting()
    logs: Mapping[str, EventLog] = field(default_factory=dict)
    mechanism: Mechanism = "none"
    ciphering: Ciphering = "none"
    suite: Literal[0, 2] = 0
    counter_object: Attribute | None = None
    """Where the public client reads the invocation counter that the meter has seen last."""

    @property
    def needs_password(self) -> bool:
        """Whether the association shows a password."""
        return self.mechanism == "lls"


@lru_cache(maxsize=32)
def load_meter_class(name: str, folder: Path = FOLDER) -> MeterClass:
    """The class in `<folder>/<name>.toml`; raises MeterClassError."""
    # Reading needs the values above, and whoever needs the values need not know how they are read.
    from agent.dlms.meter_class_file import read_meter_class

    return read_meter_class(name, folder)


def find_meter_class(model: str, beside: Path) -> MeterClass:
    """The class that a configuration in the folder `beside` names; raises MeterClassError.

    A shipped class by its name, or a file by a path that ends in .toml.
    """
    if not model.endswith(".toml"):
        return load_meter_class(model)
    path = beside / model
    return load_meter_class(path.stem, path.parent)
