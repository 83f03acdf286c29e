"""Which channels a reading has, in which order, unit and scale: the schema registry.

Append-only: a schema id never changes its meaning; a new channel is a new
schema. Registers are the meter's cumulative counters **at the interval's
end**; an interval's energy is the difference of two successive ends. Gauges
are the interval's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["register", "gauge", "flags"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One column of an interval block; `name` carries the base unit of its integers."""

    name: str
    kind: Kind
    unit: str
    scale: float
    """Multiplied with the integer gives the value in `unit`."""


@dataclass(frozen=True, slots=True)
class Schema:
    """An ordered set of channels; the last one is always `flags`."""

    id: int
    name: str
    channels: tuple[Channel, ...]

    def index(self, name: str) -> int:
        """Position of the channel `name`; raises KeyError if the schema has none."""
        for position, channel in enumerate(self.channels):
            if channel.name == name:
                return position
        raise KeyError(f"schema {self.id} ({self.name}) has no channel {name!r}")


IMPORT_WH = Channel("import_wh", "register", "Wh", 1)
EXPORT_WH = Channel("export_wh", "register", "Wh", 1)
IMPORT_VARH = Channel("import_varh", "register", "varh", 1)
VOLTAGE_DV = Channel("voltage_dv", "gauge", "V", 0.1)
CURRENT_CA = Channel("current_ca", "gauge", "A", 0.01)
FLAGS = Channel("flags", "flags", "", 1)

PROFILE_SCHEMA = Schema(
    1,
    "meter with a load profile",
    (IMPORT_WH, EXPORT_WH, IMPORT_VARH, VOLTAGE_DV, CURRENT_CA, FLAGS),
)

SAMPLED_SCHEMA = Schema(
    2,
    "meter without a load profile",
    (
        IMPORT_WH,
        EXPORT_WH,
        IMPORT_VARH,
        VOLTAGE_DV,
        CURRENT_CA,
        Channel("raw_import_wh", "register", "Wh", 1),
        Channel("raw_export_wh", "register", "Wh", 1),
        Channel("raw_import_varh", "register", "varh", 1),
        Channel("raw_age_ms", "gauge", "s", 0.001),
        Channel("voltage_min_dv", "gauge", "V", 0.1),
        Channel("voltage_max_dv", "gauge", "V", 0.1),
        Channel("power_w", "gauge", "W", 1),
        Channel("power_min_w", "gauge", "W", 1),
        Channel("power_max_w", "gauge", "W", 1),
        Channel("samples", "gauge", "", 1),
        FLAGS,
    ),
)

SCHEMAS: dict[int, Schema] = {schema.id: schema for schema in (PROFILE_SCHEMA, SAMPLED_SCHEMA)}
