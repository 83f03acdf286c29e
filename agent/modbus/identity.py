"""Who a meter is: its serial number and its model, read from registers that a maker names.

Both are facts of a profile: where they lie, as what, and which source says so.
A meter without a known register has no identity here; nothing is guessed. What
a meter leaves unset (all zeros, all ones, blanks) is no serial number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agent.driver import MeterRefused
from agent.modbus.register import WordOrder
from agent.modbus.transaction import (
    EXCEPTIONS,
    MAX_REGISTERS,
    READ_HOLDING,
    READ_INPUT,
    ReadRequest,
    Refused,
)

if TYPE_CHECKING:
    from agent.modbus.exchange import Exchange

IdentityType = Literal["uint16", "uint32", "uint64", "hex", "ascii"]

_WORDS: Final = {"uint16": 1, "uint32": 2, "uint64": 4}
_ATTEMPTS: Final = 2
_NOT_HERE: Final = (1, 2, 3)
"""Exceptions that say "no such register" rather than "not now"."""
_SHORTEST: Final = 2
"""Characters that a serial number in letters has at least."""


class NoSerialRegister(MeterRefused):
    """The meter refuses its model's serial register; asking again is of no use."""


@dataclass(frozen=True, slots=True)
class IdentityRegister:
    """`words` registers from wire address `address` on, read with `function`.

    `uint16`, `uint32` and `uint64` are numbers, shown in decimal. `hex` is a
    number whose hexadecimal digits are what the maker prints. `ascii` is one or
    two characters per register, the first in the high byte; the profile's word
    order does not apply to it. `block` is the first address and the number of
    the registers that the meter gives only as a whole. `sources` name who says
    so. Raises ValueError when the parts do not fit together.
    """

    function: int
    address: int
    words: int
    type: IdentityType
    sources: tuple[str, ...] = ()
    block: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.function not in (READ_HOLDING, READ_INPUT):
            raise ValueError(f"function: expected 3 or 4, got {self.function}")
        if self.type not in (*_WORDS, "hex", "ascii"):
            raise ValueError(
                f"type: expected one of {', '.join(_WORDS)}, hex, ascii, got {self.type!r}"
            )
        if self.words != (expected := _WORDS.get(self.type, self.words)):
            raise ValueError(f"words: expected {expected} for {self.type}, got {self.words}")
        if not 1 <= self.words <= MAX_REGISTERS:
            raise ValueError(f"words: expected 1..{MAX_REGISTERS}, got {self.words}")
        if not 0 <= self.address <= 65536 - self.words:
            raise ValueError(
                f"address: expected 0..{65536 - self.words} for {self.words} words, "
                f"got {self.address}"
            )
        at, count = self.read
        if not 1 <= count <= MAX_REGISTERS or not 0 <= at <= 65536 - count:
            raise ValueError(f"block: expected 1..{MAX_REGISTERS} registers, got {count} from {at}")
        if not at <= self.address <= at + count - self.words:
            raise ValueError(
                f"block: expected registers {self.address}..{self.address + self.words - 1} "
                f"within it, got {count} registers from {at}"
            )

    @property
    def read(self) -> tuple[int, int]:
        """First wire address and number of the registers that are asked for."""
        return self.block or (self.address, self.words)

    def request(self, unit: int) -> ReadRequest:
        """What asks `unit` for these registers."""
        return ReadRequest(unit, self.function, *self.read)

    def own(self, data: bytes) -> bytes:
        """The register's part of `data`, the answer to `request`.

        Raises ValueError for an answer of another length.
        """
        at, count = self.read
        if len(data) != 2 * count:
            raise ValueError(f"expected {2 * count} bytes from register {at}, got {len(data)}")
        start = 2 * (self.address - at)
        return data[start : start + 2 * self.words]

    def text(self, data: bytes, word_order: WordOrder) -> str | None:
        """What the answer `data` says, stripped; None where the meter has nothing set there.

        Characters that are not printable ASCII are no text: None as well.
        """
        raw = self.own(data)
        if not raw.strip(b"\x00") or not raw.strip(b"\xff"):
            return None
        if self.type == "ascii":
            # EM1xx and EM3xx fill the high byte of every character with zero, EM24 the end.
            text = raw.replace(b"\x00", b"").strip(b" \xff").decode("latin-1")
            return text if text and text.isascii() and text.isprintable() else None
        number = int.from_bytes(_big(raw, word_order), "big")
        return f"{number:0{4 * self.words}X}" if self.type == "hex" else str(number)


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """What a model's identity register holds: one of `equals`, or a text with one of `begins`.

    Numbers are compared with numeric registers (`hex` too), strings with
    `ascii` ones. Raises ValueError when they do not fit or none is given.
    """

    register: IdentityRegister
    equals: tuple[int | str, ...] = ()
    begins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kind = str if self.register.type == "ascii" else int
        if not self.equals and not self.begins:
            raise ValueError("equals: expected one value or more, got none")
        for value in self.equals:
            if type(value) is not kind:
                raise ValueError(
                    f"equals: expected {kind.__name__} for {self.register.type}, got {value!r}"
                )
        if self.begins and kind is not str:
            raise ValueError(f"begins: expected an ascii register, got {self.register.type}")
        if not all(isinstance(start, str) and start for start in self.begins):
            raise ValueError(f"begins: expected texts, got {self.begins!r}")

    def matches(self, data: bytes, word_order: WordOrder) -> bool:
        """Whether `data`, the answer to the register's request, is this model's."""
        if self.register.type != "ascii":
            return int.from_bytes(_big(self.register.own(data), word_order), "big") in self.equals
        text = self.register.text(data, word_order)
        return text is not None and (text in self.equals or text.startswith(self.begins))


def read_serial(
    exchange: Exchange,
    unit: int,
    register: IdentityRegister,
    word_order: WordOrder,
    deadline_s: float,
) -> str | None:
    """The serial number that `unit` tells now; None where it has none set.

    A text of one character is none: meters show that while they start (seen
    on Carlo Gavazzi meters: dbus-cgwacs, ac_sensor_updater.cpp). Raises
    NoSerialRegister when the meter has no such register, MeterRefused when it
    refuses for now, and whatever `exchange.ask` raises.
    """
    verdict = exchange.ask(register.request(unit), _ATTEMPTS, deadline_s)
    if isinstance(verdict, Refused):
        reason = f"exception {verdict.code} ({EXCEPTIONS.get(verdict.code, 'unknown')})"
        what = (
            f"Modbus unit {unit}: expected its serial number in {register.words} registers from "
            f"{register.address} (function {register.function}), got {reason}; "
        )
        if verdict.code in _NOT_HERE:
            raise NoSerialRegister(
                what + "set serial by hand in the configuration, or check the model with scan"
            )
        raise MeterRefused(what + "it is asked again later")
    text = register.text(verdict.data, word_order)
    begun = register.type == "ascii" and text is not None and len(text) < _SHORTEST
    return None if begun else text


def _big(data: bytes, word_order: WordOrder) -> bytes:
    """`data` with the high word first."""
    if word_order == "big":
        return data
    return b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
