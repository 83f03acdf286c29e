"""Which meters stay when a town is cut down to a few transformers with a few meters each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hil.town.tables import TownFileError

if TYPE_CHECKING:
    from hil.town.town import Town


def kept_meters(town: Town, transformers: Sequence[str], each: int) -> frozenset[str]:
    """Ids of the check meters and of `each` - 1 customers per transformer.

    Up to two plants, two chargers, one trade and one Modbus household of every
    transformer come first; DLMS households fill up, and where they do not
    suffice all others.
    """
    kept: set[str] = set()
    for transformer in transformers:
        meters = town.meters_of(transformer)
        if len(meters) < each or each < 8:
            raise TownFileError(
                f"expected 8 to {len(meters)} meters for {transformer}, came {each}"
            )
        first = [meter for meter in meters if meter.kind == "check"]
        for kind, count in (("plant", 2), ("charger", 2), ("trade", 1)):
            first += [meter for meter in meters if meter.kind == kind][:count]
        homes = [meter for meter in meters if meter.kind == "household"]
        first += [meter for meter in homes if meter.protocol == "modbus"][:1]
        homes = [meter for meter in homes if meter.protocol == "dlms"]
        # A dict keeps the order and takes each meter once.
        chosen = list(dict.fromkeys(meter.id for meter in (*first, *homes, *meters)))
        kept.update(chosen[:each])
    return frozenset(kept)
