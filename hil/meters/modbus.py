"""Simulated Modbus meters on one line: requests in, answers out, registers as the maker has them.

Which value lies where comes from `modbus_maps.json`, the bench's own data.
Counters have the real meter's resolution: a float32 counter is rounded to
float32, an integer one floored to its step. Units that are not on the line
stay silent, as do broadcasts and damaged requests.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Protocol

from ext.checksum import crc16_modbus
from hil.line.responder import Answer
from hil.meters.modbus_identity import IdentityBlock, identity_blocks
from hil.meters.shown import Gauges, Registers, Shown

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3

_READ_LENGTH: Final = 8
_FORMATS: Final = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_ENERGIES: Final = {
    "active_energy_import": "import_wh",
    "active_energy_export": "export_wh",
    "reactive_energy_import": "import_varh",
}

OnRead = Callable[[str, float, Registers], None]
"""Serial number, instant (UTC s) and the counters as the meter showed them."""


class UnknownModel(KeyError):
    """The map file has no meter of this name."""


class ShowsUtc(Protocol):
    """The part of a clock that a meter needs."""

    def now_utc_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class MappedRegister:
    """One value of a map: `words` registers from `address` on hold value / scale."""

    name: str
    address: int
    type: str
    scale: float
    unit: str

    @property
    def words(self) -> int:
        return struct.calcsize(_FORMATS[self.type]) // 2

    def raw(self, value: float) -> int | float:
        """The number that the meter keeps for `value` (in base units: W, Wh, V, A)."""
        quotient = value / (self.scale * (1000 if self.unit in ("kWh", "kvarh") else 1))
        if self.type.startswith("float"):
            return float(quotient)
        # The small allowance undoes binary division: 230.0 / 0.1 must not floor to 2299.
        whole = math.floor(quotient + 1e-6)
        width = self.words * 16
        lowest = -(1 << (width - 1)) if self.type.startswith("int") else 0
        highest = lowest + (1 << width) - 1
        return min(max(whole, lowest), highest)

    def shown(self, value: float) -> float:
        """`value` as a reader of the register sees it, in base units."""
        raw = self.raw(value)
        if self.type.startswith("float"):
            (raw,) = struct.unpack(_FORMATS[self.type], struct.pack(_FORMATS[self.type], raw))
        return raw * self.scale * (1000 if self.unit in ("kWh", "kvarh") else 1)

    def encode(self, value: float, word_order: str) -> list[int]:
        data = struct.pack(_FORMATS[self.type], self.raw(value))
        words = list(struct.unpack(f">{self.words}H", data))
        return words if word_order == "big" else words[::-1]


@dataclass(frozen=True, slots=True)
class ModelMap:
    """What the registers of one model hold and what its requests may ask."""

    phases: int
    functions: tuple[int, ...]
    word_order: str
    max_registers: int
    whole_values: bool
    """Whether an odd number of registers is refused."""
    hole: int
    registers: tuple[MappedRegister, ...]
    identity: tuple[IdentityBlock, ...] = ()

    def covers(self, address: int, count: int) -> bool:
        """Whether each of the registers lies in one of the map's blocks (holes <= 64 allowed)."""
        spans = sorted((r.address, r.address + r.words) for r in self.registers)
        blocks = [list(spans[0])]
        for start, end in spans[1:]:
            if start - blocks[-1][1] <= 64:
                blocks[-1][1] = end
            else:
                blocks.append([start, end])
        return any(start <= address and address + count <= end for start, end in blocks)


@cache
def _maps() -> dict[str, ModelMap]:
    text = resources.files("hil.meters").joinpath("modbus_maps.json").read_text()
    models: dict[str, dict[str, Any]] = json.loads(text)["models"]
    return {
        name: ModelMap(
            fields["phases"],
            tuple(fields["functions"]),
            fields["word_order"],
            fields["max_registers"],
            fields["whole_values"],
            fields["hole"],
            tuple(MappedRegister(*register) for register in fields["registers"]),
            identity_blocks(fields["identity"]),
        )
        for name, fields in models.items()
    }


def models() -> tuple[str, ...]:
    """Names of all meters that can be simulated."""
    return tuple(_maps())


def model_map(model: str) -> ModelMap:
    """The map of `model`; raises UnknownModel."""
    try:
        return _maps()[model]
    except KeyError:
        raise UnknownModel(
            f"no Modbus meter {model!r} in hil/meters/modbus_maps.json; it has: "
            + ", ".join(_maps())
        ) from None


class ModbusMeter:
    """One simulated meter: a model's map over what the meter shows.

    Without `tells_identity` it is one of those that refuse the registers of
    serial number and model, as older hardware does.
    """

    def __init__(
        self, model: str, shown: Shown, *, turnaround_s: float = 0.0, tells_identity: bool = True
    ) -> None:
        self.map = model_map(model)
        self.shown = shown
        self.turnaround_s = turnaround_s
        self._identity = self.map.identity if tells_identity else ()

    def read(self, function: int, address: int, count: int, at_utc_s: float) -> bytes | int:
        """The registers' bytes, or the exception code with which the meter refuses."""
        for block in self._identity:
            if count and block.answers(function, address, count):
                return block.read(address, count, self.shown.serial)
        if function not in self.map.functions:
            return ILLEGAL_FUNCTION
        if not 1 <= count <= self.map.max_registers or (self.map.whole_values and count % 2):
            return ILLEGAL_VALUE
        if not self.map.covers(address, count):
            return ILLEGAL_ADDRESS
        words = dict.fromkeys(range(address, address + count), self.map.hole)
        gauges = self.shown.gauges(at_utc_s)
        registers = self.shown.registers(at_utc_s)
        for register in self.map.registers:
            if register.address < address + count and address < register.address + register.words:
                value = _value(register.name, registers, gauges, self.map.phases)
                for offset, word in enumerate(register.encode(value, self.map.word_order)):
                    if register.address + offset in words:
                        words[register.address + offset] = word
        return struct.pack(f">{count}H", *words.values())

    def shows_counter(self, address: int, count: int) -> bool:
        """Whether one of the energy counters lies in the registers asked for."""
        return any(
            r.name in _ENERGIES and r.address < address + count and address < r.address + r.words
            for r in self.map.registers
        )

    def counters(self, at_utc_s: float) -> Registers:
        """The counters in the meter's own resolution, to the nearest Wh; 0 where it has none."""
        registers = self.shown.registers(at_utc_s)
        shown = dict.fromkeys(_ENERGIES.values(), 0)
        for register in self.map.registers:
            if register.name in _ENERGIES:
                field = _ENERGIES[register.name]
                shown[field] = round(register.shown(getattr(registers, field)))
        return Registers(**shown)


def _value(name: str, registers: Registers, gauges: Gauges, phases: int) -> float:
    """What a register of this name holds, in base units; phases share the power equally."""
    quantity = name.removesuffix("_f32")
    if quantity in _ENERGIES:
        return float(getattr(registers, _ENERGIES[quantity]))
    if quantity == "active_energy_total":
        return float(registers.import_wh + registers.export_wh)
    apparent_va = max(gauges.voltage_v * gauges.current_a * phases, abs(gauges.power_w))
    total = {
        "voltage": gauges.voltage_v,
        "current": gauges.current_a,
        "frequency": gauges.frequency_hz,
        "active_power": gauges.power_w,
        "apparent_power": apparent_va,
        "reactive_power": math.sqrt(apparent_va**2 - gauges.power_w**2),
        "power_factor": gauges.power_w / apparent_va if apparent_va else 1.0,
        "reactive_energy_export": 0.0,
    }
    of_phase = quantity[-3:] in ("_l1", "_l2", "_l3")
    kind = quantity[:-3] if of_phase else quantity.removesuffix("_total")
    return total[kind] / phases if of_phase and kind == "active_power" else total[kind]


class ModbusBus:
    """All meters of one line, by unit; `on_read` sees every answer with an energy counter."""

    def __init__(
        self, meters: Mapping[int, ModbusMeter], clock: ShowsUtc, on_read: OnRead | None = None
    ) -> None:
        self._meters = meters
        self._clock = clock
        self._on_read = on_read
        self._heard = bytearray()

    def receive(self, data: bytes) -> list[Answer]:
        self._heard += data
        answers = []
        while (frame := self._next_frame()) is not None:
            answer = self._answer(frame)
            if answer is not None:
                answers.append(answer)
        return answers

    def _next_frame(self) -> bytes | None:
        """The next whole request; bytes before it that belong to none are dropped."""
        start = 0
        while len(self._heard) - start >= _READ_LENGTH:
            length = self._length(start)
            frame = bytes(self._heard[start : start + length])
            if len(frame) == length and crc16_modbus(frame[:-2]) == int.from_bytes(
                frame[-2:], "little"
            ):
                del self._heard[: start + length]
                return frame
            start += 1
        # What cannot begin a request of the longest kind any more is noise.
        del self._heard[: max(0, len(self._heard) - 256)]
        return None

    def _length(self, start: int) -> int:
        if self._heard[start + 1] in (0x0F, 0x10):
            return 9 + self._heard[start + 6]
        return _READ_LENGTH

    def _answer(self, frame: bytes) -> Answer | None:
        unit, function, address, count = struct.unpack(">BBHH", frame[:6])
        meter = self._meters.get(unit)
        if meter is None:
            return None
        at_utc_s = self._clock.now_utc_s()
        result = meter.read(function, address, count, at_utc_s)
        if isinstance(result, int):
            return Answer(_sealed(bytes([unit, function | 0x80, result])), meter.turnaround_s)
        if self._on_read is not None and meter.shows_counter(address, count):
            self._on_read(meter.shown.serial, at_utc_s, meter.counters(at_utc_s))
        return Answer(_sealed(bytes([unit, function, len(result)]) + result), meter.turnaround_s)


def _sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")
