"""One clock for every process: intervals, receipts, keysets and the clock floor.

Serial deadlines, MQTT and TLS stay on real time; they never ask a `Clock`.
In production the clock is the system's. In demo and bench all processes share
one file that says which instant is shown and how fast time runs; a shared
clock never shows an instant later than the system's, so a demo that started
some days ago goes on at 1x when it reaches now.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Shows UTC as seconds since 1970-01-01."""

    def now_utc_s(self) -> float:
        """The instant that the clock shows, s."""
        ...

    def real_s_until(self, utc_s: float) -> float:
        """Real seconds until the clock shows `utc_s` at its present speed; <= 0 when past.

        The speed may change: whoever waits asks again at least once a second.
        """
        ...


class SystemClock:
    """The operating system's UTC."""

    def now_utc_s(self) -> float:
        return time.time()

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - time.time()


class ClockFileError(ValueError):
    """The clock file does not hold what `set_shared_clock` writes."""


class SharedClock:
    """A clock that several processes on one machine read from a small file.

    The file is looked at again at most every 50 ms, so a change of speed
    reaches all processes within that time.
    """

    _LOOK_AGAIN_S = 0.05

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at_s = float("-inf")
        self._mtime_ns = -1
        self._anchor_monotonic_s = 0.0
        self._anchor_utc_s = 0.0
        self._speed = 1.0
        self._follow()

    @property
    def speed(self) -> float:
        """Seconds shown per real second."""
        self._follow()
        return self._speed

    def now_utc_s(self) -> float:
        self._follow()
        elapsed_s = time.monotonic() - self._anchor_monotonic_s
        return min(self._anchor_utc_s + elapsed_s * self._speed, time.time())

    def real_s_until(self, utc_s: float) -> float:
        now_utc_s = self.now_utc_s()
        if self._speed == 0.0:
            return 0.0 if utc_s <= now_utc_s else float("inf")
        wall_s = time.time()
        if utc_s <= wall_s:
            return (utc_s - now_utc_s) / self._speed
        return (wall_s - now_utc_s) / self._speed + (utc_s - wall_s)

    def _follow(self) -> None:
        looked_at_s = time.monotonic()
        if looked_at_s - self._looked_at_s < self._LOOK_AGAIN_S:
            return
        self._looked_at_s = looked_at_s
        mtime_ns = os.stat(self._path).st_mtime_ns
        if mtime_ns == self._mtime_ns:
            return
        try:
            fields = json.loads(self._path.read_text())
            self._anchor_monotonic_s = float(fields["anchor_monotonic_s"])
            self._anchor_utc_s = float(fields["anchor_utc_s"])
            self._speed = float(fields["speed"])
        except (KeyError, TypeError, ValueError) as error:
            raise ClockFileError(
                f"{self._path}: expected the numbers anchor_monotonic_s, anchor_utc_s and speed, "
                f"found something else ({error}); let set_shared_clock write the file"
            ) from error
        self._mtime_ns = mtime_ns


def set_shared_clock(path: Path, utc_s: float, speed: float) -> None:
    """Let every `SharedClock` on `path` show `utc_s` now and run `speed` times real time."""
    fields = {"anchor_monotonic_s": time.monotonic(), "anchor_utc_s": utc_s, "speed": speed}
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(fields))
    os.replace(beside, path)
