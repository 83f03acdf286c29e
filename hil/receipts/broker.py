"""A broker without a network: queues that lose, repeat, reorder and forget what passes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from central.collect.reception import Message

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Broker:
    """Between one agent and the collector. It keeps what passed, as a hostile one would."""

    up: list[Message] = field(default_factory=list)
    """Taken from the agent and PUBACKed; not yet acknowledged by the collector."""
    down: list[bytes] = field(default_factory=list)
    passed_up: list[Message] = field(default_factory=list)
    passed_down: list[bytes] = field(default_factory=list)

    def take_up(self, message: Message) -> None:
        """From the agent."""
        self.up.append(message)
        self.passed_up.append(message)

    def take_down(self, message: bytes) -> None:
        """From the collector."""
        self.down.append(message)
        self.passed_down.append(message)

    def wipe(self) -> None:
        """Forget all that waits, PUBACKed or not."""
        self.up.clear()
        self.down.clear()


def drop(queue: list[_Item], number: int) -> None:
    """Lose one."""
    if queue:
        del queue[number % len(queue)]


def repeat(queue: list[_Item], number: int) -> None:
    """Deliver one once more."""
    if queue:
        queue.append(queue[number % len(queue)])


def swap(queue: list[_Item], number: int) -> None:
    """Deliver one before the others."""
    if queue:
        queue.insert(0, queue.pop(number % len(queue)))


def replay(queue: list[_Item], passed: list[_Item], number: int) -> None:
    """Deliver something from the past."""
    if passed:
        queue.append(passed[number % len(passed)])
