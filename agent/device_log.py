"""What goes into the concentrator's own log: gathered from all threads, within bounds.

The writer takes what is gathered and appends it to the chain in the store
(`agent/store/log_table.py`). Faults that come and go are taken up so many an
hour; how many were left out is said, what they were is not. An entry that was
gathered and not yet taken is lost with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

CODES = {
    "start": "the agent starts: its version, boot, a hash of agent.toml, keyset, who vouches for "
    "the clock",
    "stop": "it ends because it was told to, or after `failed`",
    "failed": "it ends by itself: why",
    "fault": "something begins to be wrong: what, as in status",
    "recovery": "it is over",
    "left_out": "so many faults and recoveries were not logged, as they came too often",
    "clock_step": "the agent's clock was set, forward or back (-)",
    "clock_trusted": "who vouches for it from now on",
    "clock_untrusted": "nobody does any more",
    "restamped": "so many held intervals got their right ends, the last moved by so much",
    "stamps_unknown": "so many held intervals keep the flag of an untrusted clock",
    "keyset": "a newer keyset was taken",
    "renewed": "new keys and their certificate are in use: which key, until when",
    "stream": "a new stream was begun: why",
    "gone": "central can no longer open a batch whose rows are no longer there",
    "lost": "intervals or events without a receipt were dropped: how many, why",
}
"""What an entry may be, and what its detail says."""

AT_ONCE = frozenset({"start", "clock_step", "clock_trusted", "renewed"})
"""Cut when they are appended; others wait for the next batch of intervals.

What central answers to these batches shows the time, when nobody else does;
`renewed` is the first that it sees of a new key.
"""
_OFTEN = frozenset({"fault", "recovery"})
_MOST_AN_HOUR = 60
_HOUR_S = 3600.0


class DeviceLog:
    """Entries on their way to the store; safe from every thread, never waits."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str]] = []
        self._hour_ends_s = monotonic_s() + _HOUR_S
        self._this_hour = 0
        self._left_out = 0

    def add(self, code: str, detail: str = "") -> None:
        """Something happened; `code` is a word of small letters, digits and `_`."""
        with self._lock:
            self._turn_hour()
            if code in _OFTEN:
                self._this_hour += 1
                if self._this_hour > _MOST_AN_HOUR:
                    self._left_out += 1
                    return
            self._waiting.append((code, detail))

    def take(self) -> list[tuple[str, str]]:
        """The (code, detail) that were added since the last time, in their order."""
        with self._lock:
            self._turn_hour()
            taken, self._waiting = self._waiting, []
            return taken

    def _turn_hour(self) -> None:
        if self._monotonic_s() < self._hour_ends_s:
            return
        self._hour_ends_s = self._monotonic_s() + _HOUR_S
        self._this_hour = 0
        if self._left_out:
            self._waiting.append(("left_out", f"entries={self._left_out}"))
            self._left_out = 0
