"""A serial port as the protocols see it: bytes, deadlines and the time that one character takes."""

from __future__ import annotations

import math
from typing import Protocol


class Port(Protocol):
    """Blocking, owned by one thread. Deadlines are `time.monotonic()` seconds."""

    @property
    def char_s(self) -> float:
        """Time of one character on the wire, s."""
        ...

    @property
    def opened_at_s(self) -> float:
        """When the port was last opened (monotonic); -inf before that."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`; raises PortLost."""
        ...

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        """What has come by when `at_least` bytes could have, counted from the first; may be empty.

        Sleeps until `due_s` without looking, then until the first byte is there
        or the deadline is over, then until the last is due (never past the
        deadline), rather than waking per byte. So it may return fewer bytes, or
        more. Raises PortLost.
        """
        ...

    def discard(self) -> bytes:
        """Take and return whatever waits unread, without blocking; raises PortLost."""
        ...


class PortLost(Exception):
    """The port vanished or refused; the line reopens it."""


class PortBusy(PortLost):
    """Another program holds the port; the message names it."""
