"""Every decoder that reads what a meter or a stranger may send: the one table for test and fuzzer.

A decoder takes any bytes and gives a value or one of its typed errors. It
takes no more Python lines and no more memory than its bounds say, both linear
in the length of the input; a block's are those of the most that any block may
hold. `./dev soak fuzz` and the tests go through this
table; whoever writes a decoder adds it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_FIXED_LINES: Final = 3_000
_FIXED_BYTES: Final = 32 * 1024
"""What a decoder may use whatever the input: its objects, its tables, the text of its error."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder: how it is run, what it may raise, what it may cost."""

    name: str
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    worst: Callable[[int], Sequence[bytes]] = lambda size: ()
    """Inputs of about `size` bytes made to cost as much as they can."""
    lines_per_byte: int = 20
    bytes_per_byte: int = 32
    fixed_bytes: int = _FIXED_BYTES

    def refused(self, data: bytes) -> Exception | None:
        """Run it; the typed error that it gave, None if it took the input. Others pass through."""
        try:
            self.run(data)
        except self.allowed as error:
            return error
        return None

    def most_lines(self, size: int) -> int:
        """Lines of Python that `size` bytes of input may cost."""
        return _FIXED_LINES + self.lines_per_byte * size

    def most_bytes(self, size: int) -> int:
        """Memory that `size` bytes of input may hold at once, result included."""
        return self.fixed_bytes + self.bytes_per_byte * size


def decoders() -> Mapping[str, Decoder]:
    """All of them by name; imported here, so that a fuzzer can watch the imports."""
    from hil.fuzz import apdu, client, driver, enrolment, link, messages, overheard, values

    table: Iterable[Decoder] = (
        *link.DECODERS,
        *values.DECODERS,
        *apdu.DECODERS,
        *client.DECODERS,
        *driver.DECODERS,
        *overheard.DECODERS,
        *messages.DECODERS,
        *enrolment.DECODERS,
    )
    return {decoder.name: decoder for decoder in table}
