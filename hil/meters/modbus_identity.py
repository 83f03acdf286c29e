"""Who a simulated Modbus meter says it is: serial number and model, as the maker lays them out.

The serial number is that of the meter's face, so an exchanged meter tells
another one. Where it does not fit the register (letters in a number) the
registers read zero, as in a meter whose number was never set.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["number", "digits", "pairs", "padded", "letters"]


@dataclass(frozen=True, slots=True)
class IdentityField:
    """`words` registers from `address` on; `value` None stands for the meter's serial number."""

    address: int
    words: int
    form: Form
    value: int | str | None

    def encode(self, serial: str) -> bytes:
        """What the registers hold."""
        size = 2 * self.words
        text = serial if self.value is None else str(self.value)
        if self.form in ("number", "digits"):
            base = 16 if self.form == "digits" else 10
            number = int(text, base) if text.isdecimal() else 0
            return number.to_bytes(size, "big") if number < 1 << 8 * size else bytes(size)
        if self.form == "letters":
            # A longer number keeps its end, which is what differs between meters.
            return b"".join(bytes([0, letter]) for letter in text.encode("ascii")[-self.words :])
        return text.encode("ascii")[:size].ljust(size, b" " if self.form == "padded" else b"\0")


@dataclass(frozen=True, slots=True)
class IdentityBlock:
    """Registers beside the map that tell who the meter is; a `whole` block comes in one piece."""

    functions: tuple[int, ...]
    address: int
    words: int
    whole: bool
    fields: tuple[IdentityField, ...]

    def answers(self, function: int, address: int, count: int) -> bool:
        """Whether a request is answered from this block."""
        if function not in self.functions:
            return False
        if self.whole:
            return (address, count) == (self.address, self.words)
        return self.address <= address and address + count <= self.address + self.words

    def read(self, address: int, count: int, serial: str) -> bytes:
        """The registers' bytes; zero where no field lies."""
        block = bytearray(2 * self.words)
        for field in self.fields:
            start = 2 * (field.address - self.address)
            data = field.encode(serial).ljust(2 * field.words, b"\0")
            struct.pack_into(f"{len(data)}s", block, start, data)
        start = 2 * (address - self.address)
        return bytes(block[start : start + 2 * count])


def identity_blocks(entries: Sequence[dict[str, Any]]) -> tuple[IdentityBlock, ...]:
    """The blocks as `modbus_maps.json` has them: a field is name, address, words, form, value."""
    return tuple(
        IdentityBlock(
            tuple(entry["functions"]),
            entry["address"],
            entry["words"],
            entry["whole"],
            tuple(
                IdentityField(address, words, form, None if name == "serial" else value[0])
                for name, address, words, form, *value in entry["fields"]
            ),
        )
        for entry in entries
    )
