"""Data-access and action results of the bench's meters (IEC 62056-5-3)."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0
DENIED: Final = 3
UNDEFINED: Final = 4
TYPE_UNMATCHED: Final = 12
NO_LONG_GET: Final = 16
NO_LONG_SET: Final = 18
BLOCK_UNAVAILABLE: Final = 19
ACTION_BLOCK_UNAVAILABLE: Final = 14
NO_LONG_ACTION: Final = 16
"""The last two of ACTION, where the numbers differ."""
OTHER_REASON: Final = 250
