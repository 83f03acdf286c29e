"""Which town, or which part of one, an installation runs; the same in every process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hil.town import Town, load_town


@dataclass(frozen=True, slots=True)
class TownChoice:
    """A shipped town by name, or a folder like one; perhaps only a part of it."""

    name: str
    origin_utc_s: int
    """The instant at which the simulated meters began to count; a UTC midnight."""
    transformers: tuple[str, ...] = ()
    """None named: all of them, with all their meters."""
    meters_each: int = 0
    """Meters kept per named transformer, its check meter among them."""

    def load(self) -> Town:
        """The town, ready to be asked."""
        town = load_town(self.name, origin_utc_s=self.origin_utc_s)
        return town.subset(self.transformers, self.meters_each) if self.transformers else town

    def as_json(self) -> dict[str, Any]:
        """For a plan file; `from_json` reads it."""
        return {
            "name": self.name,
            "origin_utc_s": self.origin_utc_s,
            "transformers": list(self.transformers),
            "meters_each": self.meters_each,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> TownChoice:
        """What `as_json` made."""
        return cls(
            fields["name"],
            fields["origin_utc_s"],
            tuple(fields["transformers"]),
            fields["meters_each"],
        )
