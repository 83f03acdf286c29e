"""Answers in blocks, each asked for (IEC 62056-5-3): GET and ACTION with data blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.dlms.errors import AnswerMalformed, AnswerTooLarge


class Block(Protocol):
    """One block of an answer."""

    @property
    def data(self) -> bytes | None: ...
    @property
    def block(self) -> int:
        """Its number; 0 where the answer is not in blocks."""
        ...

    @property
    def last(self) -> bool: ...


def joined(
    first: Block,
    after: Callable[[int], Block],
    *,
    longest: int,
    in_time: Callable[[], None],
    what: str,
) -> bytes:
    """The data of all blocks; `after(number)` asks for the next one.

    A last block may be empty; one before it may not, so that no meter keeps us
    asking; `in_time` is called before each is asked for, and raises when all of
    them take too long. Raises AnswerMalformed, AnswerTooLarge (`longest` bytes)
    and what these two raise.
    """
    parts = [first.data or b""]
    size, number, last = len(parts[0]), first.block, first.last
    while not last:
        in_time()
        block = after(number)
        if block.block != number + 1:
            raise AnswerMalformed(f"{what}: expected block {number + 1}, came {block.block}")
        if not block.data and not block.last:
            raise AnswerMalformed(f"{what}: block {block.block} is empty")
        parts.append(block.data or b"")
        size, number, last = size + len(parts[-1]), block.block, block.last
        if size > longest:
            raise AnswerTooLarge(
                f"{what} is longer than {longest} bytes; ask for fewer rows at a time "
                "(slice_rows of the meter class)"
            )
    return b"".join(parts)
