"""A serial port as the protocols see it: bytes, deadlines and the time that one character takes."""

from __future__ import annotations

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

    def read(self, at_least: int, deadline_s: float) -> bytes:
        """What has arrived as soon as it is `at_least` bytes, or at the deadline (may be empty).

        Sleeps until the last byte is due rather than waking per byte; raises PortLost.
        """
        ...

    def discard(self) -> bytes:
        """Take and return whatever waits unread, without blocking; raises PortLost."""
        ...


class PortLost(Exception):
    """The port vanished or refused; the line reopens it."""


class PortBusy(PortLost):
    """Another program holds the port; the message names it."""
