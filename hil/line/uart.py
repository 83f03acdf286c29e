"""What a UART hears when its settings are not the sender's: the bits on the wire, read anew.

A receiver waits for the edge of a start bit and then looks at the middle of
each bit by its own clock. With the sender's settings it hears what was sent;
with others it hears bytes that nobody sent, fewer or more of them. Bytes with
a wrong parity or stop bit are handed over as they were read, as Linux does
for a raw line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Uart:
    """8 data bits, `baud` in Bd; at 0 Bd, as of a line that is hung up, nothing is heard."""

    baud: int
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1


def misread(data: bytes, sender: Uart, reader: Uart) -> bytes:
    """What `reader` hears of `data`, sent without a pause by `sender` on an idle line."""
    if not (sender.baud and reader.baud):
        return b""
    if not (sender.baud and reader.baud):
        return b""
    if sender == reader:
        return data
    levels = [bit for byte in data for bit in _bits(byte, sender)]
    # In units in which both a sender's bit and half a reader's bit are whole numbers.
    sent_bit, half_bit = 2 * reader.baud, sender.baud
    heard = bytearray()
    looked_at = 0
    while (start := _falling_edge(levels, -(-looked_at // sent_bit))) is not None:
        begun = start * sent_bit
        looks = [_level(levels, (begun + half_bit * (2 * bit + 1)) // sent_bit) for bit in range(9)]
        bits = 10 + (reader.parity != "N")
        looked_at = begun + half_bit * (2 * bits - 1)
        if looks[0] == 0:
            heard.append(sum(level << place for place, level in enumerate(looks[1:])))
    return bytes(heard)


def _bits(byte: int, uart: Uart) -> list[int]:
    """Start bit, data with the lowest bit first, parity, stop bits."""
    data = [byte >> place & 1 for place in range(8)]
    parity = [] if uart.parity == "N" else [sum(data) % 2 ^ (uart.parity == "O")]
    return [0, *data, *parity, *[1] * uart.stopbits]


def _falling_edge(levels: list[int], first: int) -> int | None:
    for at in range(first, len(levels)):
        if levels[at] == 0 and _level(levels, at - 1) == 1:
            return at
    return None


def _level(levels: list[int], at: int) -> int:
    """The line is idle, high, before and after what was sent."""
    return levels[at] if 0 <= at < len(levels) else 1
