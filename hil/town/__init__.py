"""Towns whose meters can be read: grid files, load shapes, and the sweep for the voltage."""

from __future__ import annotations

from hil.town.tables import TownFileError
from hil.town.town import Meter, Town, load_town, midnight_utc_s

__all__ = ["Meter", "Town", "TownFileError", "load_town", "midnight_utc_s"]
