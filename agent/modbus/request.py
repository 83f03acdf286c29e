"""What a master asks of a Modbus RTU unit, as bytes; and how another master's question looks."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from ext.checksum import crc16_modbus

READ_HOLDING: Final = 3
READ_INPUT: Final = 4
MAX_REGISTERS: Final = 125
"""The most that one request may ask (Modbus application protocol 1.1b3, 6.3)."""
REQUEST_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Asks `unit` for `count` registers from wire address `address` on; function 3 or 4."""

    unit: int
    function: int
    address: int
    count: int
    frame: bytes = field(init=False, repr=False, compare=False)
    """The request as sent, 8 bytes."""

    def __post_init__(self) -> None:
        if not 1 <= self.unit <= 247:
            raise ValueError(f"unit {self.unit}: expected 1..247")
        if self.function not in (READ_HOLDING, READ_INPUT):
            raise ValueError(f"function {self.function}: expected 3 or 4")
        if not 1 <= self.count <= MAX_REGISTERS or not 0 <= self.address <= 65536 - self.count:
            raise ValueError(
                f"{self.count} registers from {self.address}: expected 1..125 within 0..65535"
            )
        body = struct.pack(">BBHH", self.unit, self.function, self.address, self.count)
        # Asked for years: its bytes are made once.
        object.__setattr__(self, "frame", body + crc16_modbus(body).to_bytes(2, "little"))

    @property
    def answer_length(self) -> int:
        """Bytes of the whole answer."""
        return 5 + 2 * self.count

    def has_the_shape_for(self, frame: bytes) -> bool:
        """Whether the unit's sound `frame` could answer this, be it with an exception."""
        if frame[1] & 0x7F != self.function:
            return False
        return bool(frame[1] & 0x80) or frame[2] == 2 * self.count


def is_question(frame: bytes | bytearray) -> bool:
    """Whether `frame` is a sound request for registers (functions 3 and 4), no byte more."""
    return (
        len(frame) == REQUEST_LENGTH
        and frame[1] in (READ_HOLDING, READ_INPUT)
        and 1 <= int.from_bytes(frame[4:6]) <= MAX_REGISTERS
        and crc16_modbus(bytes(frame)) == 0
    )


def question_of(frame: bytes) -> ReadRequest:
    """The request that the sound `frame` of a master is."""
    unit, function, address, count = struct.unpack(">BBHH", frame[:6])
    # A question beyond the last register is answered by an exception of the same shape.
    return ReadRequest(unit, function, min(address, 65536 - count), count)
