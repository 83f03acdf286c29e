"""Whether the concentrator's clock can be believed, and the clock that the agent goes by.

Many concentrators have no clock that outlives a power cut, and some sites no
time server. So the agent goes by a clock of its own: the monotonic one (which
also counts sleep), plus an offset that changes only by decisions made here.
It never shows an instant below the floor: the newest of the program's build,
the keyset, the newest receipt, and the machine's own clock (which the kernel
sets from the RTC). It is trusted once the kernel or systemd-timesyncd say that
they are in step with a time server, or a receipt shows it to agree with
central; it is doubted again when the machine's clock is stepped and nobody
vouches for the step. The machine's clock itself is never set.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from wire.clock import Clock, SystemClock

BUILT_UTC_S = 1_793_491_200
"""2026-11-01: no instant before this program was written is believed."""
STEP_S = 1.0
"""What the machine's clock moves by between two looks, beyond the monotonic one: a step."""
FLOOR_SLACK_S = 60.0
"""Central's clock may be ahead of a right one by so much."""
WITNESS_SPAN_S = 60.0
"""A receipt that took longer says too little about the time."""
WITNESS_OFF_S = 5.0
"""A clock that agrees with central's word to so much is right; intervals need no more."""
_TIMESYNCD_FILE = Path("/run/systemd/timesync/synchronized")
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_ASK_EVERY_S = 5.0
_DOUBT_S = 120.0
"""So long nobody may vouch for the clock before it is a fault: starting takes a while."""
_TIME_ERROR = 5
"""What adjtimex(2) returns while nobody keeps the clock right."""


class Trust(Protocol):
    """What the store asks about the clock by whose time rows are stamped."""

    @property
    def trusted(self) -> bool:
        """Whether stamps are right."""
        ...

    @property
    def boot(self) -> bytes:
        """Names what `boottime_s` counts from, 8 bytes."""
        ...

    def boottime_s(self) -> float:
        """Time since the machine was started, sleep included, s."""
        ...

    def witness(self, utc_s: int, span_s: float | None) -> None:
        """A verified receipt: central's clock showed `utc_s`, at most `span_s` ago if known."""
        ...


class Believed:
    """A clock that somebody else answers for: demo, bench, and `clock_trust = "system"`."""

    trusted = True
    trusted_by = "system"
    boot = bytes(8)
    correction_s = 0.0
    steps = 0

    def __init__(self, clock: Clock) -> None:
        self.now_utc_s = clock.now_utc_s
        self.real_s_until = clock.real_s_until

    def boottime_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def witness(self, utc_s: int, span_s: float | None) -> None:
        """Nothing has to be shown."""

    def look(self) -> None:
        """Nothing is to be seen."""

    def tls_utc_s(self) -> float:
        """What certificates are held against, also where `clock` is one of a bench."""
        return time.time()

    def take_set_back_s(self) -> float:
        """It is never set back."""
        return 0.0

    def fault(self) -> str | None:
        """Nothing is wrong with it."""
        return None


@dataclass(frozen=True, slots=True)
class _Reckoning:
    """UTC is boot time plus `system_s` (the machine's clock) plus `correction_s` (ours)."""

    system_s: float
    correction_s: float = 0.0
    trusted_by: str = ""
    """Who vouches for it, empty while nobody does."""


class AgentClock:
    """A `wire.clock.Clock` and the `Trust` in it. `look` is called often, from one thread."""

    def __init__(
        self,
        *,
        floor_utc_s: float,
        sources: Mapping[str, Callable[[], bool]],
        tell: Callable[[str, str], None],
        system_utc_s: Callable[[], float] = time.time,
        boottime_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        boot: bytes | None = None,
    ) -> None:
        """`sources` are asked by name whether the machine's clock is right.

        `tell` hears of steps and of trust as code and detail of the device log.
        """
        self._floor_utc_s = max(float(BUILT_UTC_S), floor_utc_s)
        self._sources = sources
        self._tell = tell
        self._system_utc_s = system_utc_s
        self.boottime_s = boottime_s
        self.boot = boot or boot_name()
        self._lock = threading.Lock()
        self._now = self._floored(_Reckoning(self._system_offset_s()))
        self._asked_s = float("-inf")
        self._doubted_s = self.boottime_s()
        self._set_back_s = 0.0
        self.steps = 0
        """How often it was set, by whomever, since the start."""
        self.off_s = 0.0
        """How far the newest receipt since the last step shows it off, though others vouch, s."""
        self.look()

    # --- the clock

    def now_utc_s(self) -> float:
        now = self._now
        return self.boottime_s() + now.system_s + now.correction_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.now_utc_s()

    def tls_utc_s(self) -> float:
        """What certificates are held against."""
        return self.now_utc_s()

    # --- the trust in it

    @property
    def trusted(self) -> bool:
        """Whether somebody vouches for it."""
        return bool(self._now.trusted_by)

    @property
    def trusted_by(self) -> str:
        """Who vouches for it: a source's name or `receipt`; empty while nobody does."""
        return self._now.trusted_by

    @property
    def correction_s(self) -> float:
        """How far this clock is ahead of the machine's, s."""
        return self._now.correction_s

    def take_set_back_s(self) -> float:
        """By how much it was set back at once at most since this was last asked, s."""
        with self._lock:
            taken_s, self._set_back_s = self._set_back_s, 0.0
            return taken_s

    def fault(self) -> str | None:
        """What is wrong with this clock, if anything is."""
        if self.off_s:
            return (
                f"{self.trusted_by} vouches for this clock, and central's newest receipt shows it "
                f"{self.off_s:+.0f} s off; set the time servers right, here or there"
            )
        if not self.trusted and self.boottime_s() > self._doubted_s + _DOUBT_S:
            return (
                "nobody vouches for the clock: expected a time server, or a receipt of central; "
                "readings are held until then. Connect the agent, or set up systemd-timesyncd"
            )
        return None

    def look(self) -> None:
        """Follow the machine's clock, see its steps, ask the sources."""
        with self._lock:
            before, system_s = self._now, self._system_offset_s()
            stepped = abs(system_s - before.system_s) >= STEP_S
            source = self._ask(at_once=stepped)
            if source and self._reaches_floor(system_s):
                # Whatever we made of it ourselves: a time server knows better.
                self._take(_Reckoning(system_s, 0.0, source))
            elif stepped:
                self._take(self._floored(_Reckoning(system_s)))
            else:
                self._take(_Reckoning(system_s, before.correction_s, before.trusted_by))

    def witness(self, utc_s: int, span_s: float | None) -> None:
        """Central's signed word: raises the floor; vouches for this clock, or sets it right."""
        with self._lock:
            self._floor_utc_s = max(self._floor_utc_s, float(utc_s))
            now = self._now
            if span_s is None or span_s > WITNESS_SPAN_S:
                self._take(self._floored(now))
                return
            ahead_s = self.now_utc_s() - (utc_s + span_s / 2)
            agrees = abs(ahead_s) <= span_s / 2 + WITNESS_OFF_S
            vouched = now.trusted_by not in ("", "receipt") and bool(self._ask(at_once=True))
            self.off_s = ahead_s if vouched and not agrees else 0.0
            if not vouched:
                correction_s = now.correction_s - (0.0 if agrees else ahead_s)
                self._take(_Reckoning(now.system_s, correction_s, "receipt"))

    # ---

    def _take(self, new: _Reckoning) -> None:
        before, self._now = self._now, new
        by_s = new.system_s + new.correction_s - before.system_s - before.correction_s
        if abs(by_s) >= STEP_S:
            self.steps += 1
            self.off_s = 0.0
            self._set_back_s = max(self._set_back_s, -by_s)
            self._tell("clock_step", f"by_s={by_s:.1f}")
        if before.trusted_by and not new.trusted_by:
            self._doubted_s = self.boottime_s()
        if new.trusted_by != before.trusted_by:
            code = "clock_trusted" if new.trusted_by else "clock_untrusted"
            self._tell(code, f"by={new.trusted_by}" if new.trusted_by else "")

    def _ask(self, *, at_once: bool) -> str:
        """Who vouches for the machine's clock now; empty while nobody does, or it is too early."""
        now_s = self.boottime_s()
        if not at_once and now_s < self._asked_s + _ASK_EVERY_S:
            return ""
        self._asked_s = now_s
        return next((name for name, says in self._sources.items() if says()), "")

    def _floored(self, new: _Reckoning) -> _Reckoning:
        below_s = self._floor_utc_s - (self.boottime_s() + new.system_s + new.correction_s)
        if below_s <= FLOOR_SLACK_S:
            return new
        return _Reckoning(new.system_s, new.correction_s + below_s)

    def _reaches_floor(self, system_s: float) -> bool:
        return self.boottime_s() + system_s >= self._floor_utc_s - FLOOR_SLACK_S

    def _system_offset_s(self) -> float:
        return self._system_utc_s() - self.boottime_s()


def boot_name() -> bytes:
    """8 bytes that name this start of the machine; of this process where it is not told."""
    try:
        return hashlib.sha256(_BOOT_FILE.read_bytes()).digest()[:8]
    except OSError:
        return os.urandom(8)


def kernel_says() -> bool:
    """Whether adjtimex(2) reports a clock that is kept right (ntpd, chrony, timesyncd, PTP)."""
    import ctypes

    asked = ctypes.create_string_buffer(512)
    state: int = ctypes.CDLL(None).adjtimex(asked)
    return 0 <= state < _TIME_ERROR


def timesyncd_says() -> bool:
    """Whether systemd-timesyncd has heard a time server since the machine was started."""
    return _TIMESYNCD_FILE.exists()


WORDS: Final = ("auto", "timesyncd", "kernel", "receipt", "system")
"""What `clock_trust` may say; `system` believes the machine's clock whatever it shows."""
_SOURCES: Mapping[str, Mapping[str, Callable[[], bool]]] = {
    "auto": {"timesyncd": timesyncd_says, "kernel": kernel_says},
    "timesyncd": {"timesyncd": timesyncd_says},
    "kernel": {"kernel": kernel_says},
    "receipt": {},
}
"""Who is asked beside central's receipts."""


def build_clock(
    word: str, floor_utc_s: float, tell: Callable[[str, str], None]
) -> AgentClock | Believed:
    """The clock by the word in `clock_trust`."""
    if word == "system":
        return Believed(SystemClock())
    return AgentClock(floor_utc_s=floor_utc_s, sources=_SOURCES[word], tell=tell)
