"""Data-access and action results of the bench's meters (IEC 62056-5-3)."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0
DENIED: Final = 3
UNDEFINED: Final = 4
TYPE_UNMATCHED: Final = 12
NO_LONG_GET: Final = 16
BLOCK_UNAVAILABLE: Final = 19
OTHER_REASON: Final = 250
