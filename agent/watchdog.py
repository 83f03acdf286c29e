"""Tells systemd how the agent is, and that it is alive, only while every loop of it moves.

Each loop (a line's polling, the writer, the network) has a deadline of its
own. The watchdog is fed only while all of them moved within theirs, so a line
that hangs in its driver ends in a restart although the rest goes on. Without
systemd (`NOTIFY_SOCKET` is not set) a loop that stands still is a fault in
status and nothing more. sd_notify(3) says what is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.health import Faults

_log = logging.getLogger("loadscape.agent")

LINE_S = 300.0
"""A slice of a load profile over a slow line takes minutes; nothing that a line does takes more."""
WRITER_S = 90.0
"""Committing, pruning or cutting again a piece of the outbox, on a slow card."""
NETWORK_S = 60.0
_STATUS_EVERY_S = 10.0
STARTING_S = 3600.0
"""Taking over row by row from a full, damaged store on a slow card; after that it is a hang."""
_STARTING_MORE_S = 60


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that must move: its name, and when it did last, monotonic s."""

    name: str
    deadline_s: float
    moved_s: Callable[[], float]


class Notifier:
    """The service manager's socket, or none."""

    def __init__(
        self,
        address: str | None,
        watchdog_s: float | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` begins with `/`, or with `@` for the abstract namespace."""
        self.watchdog_s = watchdog_s
        """How often systemd expects to be told that all is well at the latest; None: not at all."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._failed = False
        self._monotonic_s = monotonic_s
        self._made_s = monotonic_s()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """As systemd says; a watchdog that is another process's is not ours."""
        pid, usec = environ.get("WATCHDOG_PID"), environ.get("WATCHDOG_USEC", "")
        ours = usec.isdigit() and int(usec) > 0 and pid in (None, str(os.getpid()))
        return cls(environ.get("NOTIFY_SOCKET"), int(usec) / 1e6 if ours else None)

    def starting(self) -> None:
        """Not ready yet, and at work: not to be given up, for an hour from the start."""
        if self._monotonic_s() < self._made_s + STARTING_S:
            more_us = 1_000_000 * _STARTING_MORE_S
            self.send(f"EXTEND_TIMEOUT_USEC={more_us}", "STATUS=looks through the store")

    def send(self, *assignments: str) -> None:
        """E.g. `READY=1`; what cannot be sent is said once in the log."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.setblocking(False)
                to.sendto("\n".join(assignments).encode(), self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("systemd cannot be told %s: %s", " ".join(assignments), error)
            self._failed = True


class Watchdog:
    """`look` is called often, by the main thread."""

    def __init__(
        self,
        notifier: Notifier,
        loops: Sequence[Loop],
        faults: Faults,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._loops = loops
        self._faults = faults
        self._monotonic_s = monotonic_s
        # Twice as often as it must be, as sd_watchdog_enabled(3) advises.
        self._feed_every_s = (notifier.watchdog_s or _STATUS_EVERY_S) / 2
        self._feed_after_s = self._status_after_s = float("-inf")

    def idle_s(self) -> dict[str, float]:
        """How long ago each loop moved, s."""
        now_s = self._monotonic_s()
        return {loop.name: max(0.0, now_s - loop.moved_s()) for loop in self._loops}

    def look(self, status: Callable[[], str]) -> None:
        """Feed the watchdog if every loop moves; say `status` now and then."""
        now_s = self._monotonic_s()
        if now_s < self._feed_after_s:
            return
        self._feed_after_s = now_s + self._feed_every_s
        if now_s >= self._status_after_s:
            self._status_after_s = now_s + _STATUS_EVERY_S
            self._notifier.send(f"STATUS={status()}")
        idle_s = self.idle_s()
        late = [loop for loop in self._loops if idle_s[loop.name] > loop.deadline_s]
        if late:
            for loop in late:
                self._faults.report(
                    "watchdog",
                    f"{loop.name} has not moved for {idle_s[loop.name]:.0f} s, expected at most "
                    f"{loop.deadline_s:.0f} s; systemd starts the agent afresh",
                )
        else:
            self._faults.over("watchdog")
            self._notifier.send("WATCHDOG=1")
