"""Good inputs to begin from: what the bench's meters answer, and captures where there are any.

Captures are third parties' and stay outside the project: the environment
variable LOADSCAPE_VECTORS names the folder that holds `dlms_frames.json`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.selection import by_range
from agent.dlms.client import Client
from agent.dlms.errors import AccessRefused
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.security.settings import Security
from hil.line.responder import Responder
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.hdlc import Ear
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.password import LLS_PASSWORD

ADDRESS: Final = "1/17"
LAST_END_UTC_S: Final = 1_763_820_000
ROWS: Final = 20
_HABITS: Final[Sequence[dict[str, Any]]] = (
    {},
    {"longest_info": 64, "window": 3, "quirks": frozenset({"null clocks"})},
    {"lists": False, "max_pdu": 200},
    {"model": "transformer_check"},
)
_PROFILE: Final = Attribute.parse("7/1.0.99.1.0.255/2")
_REGISTERS: Final = tuple(
    map(
        Attribute.parse,
        ("1/0.0.96.1.0.255/2", "3/1.0.1.8.0.255/2", "3/1.0.2.8.0.255/2", "3/1.0.32.7.0.255/2"),
    )
)
_UNKNOWN: Final = Attribute.parse("3/9.9.9.9.9.255/2")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){2,}")


@dataclass(frozen=True, slots=True)
class Session:
    """What went over a line: whole frames with their flags, and the meter's APDUs in them."""

    frames: tuple[bytes, ...]
    apdus: tuple[bytes, ...]

    def answers(self, *first_bytes: int) -> list[bytes]:
        """The APDUs that begin with one of these bytes, each kind of length once."""
        kept = {(apdu[:2], len(apdu)): apdu for apdu in self.apdus if apdu[0] in first_bytes}
        return list(kept.values())


class StoppedClock:
    """Time stands still, so that the same inputs are made on every run."""

    def now_utc_s(self) -> float:
        return LAST_END_UTC_S + 303.0

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.now_utc_s()


class Wire:
    """A `Port` whose far end is a line of simulated meters; nothing takes time on it."""

    char_s = 1e-5
    opened_at_s = -math.inf

    def __init__(self, bus: Responder) -> None:
        self._bus = bus
        self._waiting = b""
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        for answer in self._bus.receive(data):
            self.heard.append(answer.data)
            self._waiting += answer.data

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def discard(self) -> bytes:
        data, self._waiting = self._waiting, b""
        return data


@lru_cache(maxsize=1)
def bench_session() -> Session:
    """What a client asks of meters with several habits: registers, profile, things that fail."""
    heard: list[bytes] = []
    for habits in _HABITS:
        wire = Wire(DlmsBus({ADDRESS: DlmsMeter(Climbing(), **habits)}, StoppedClock()))
        with _client(wire) as client:
            client.get_many(_REGISTERS)
            client.get_many([register.scaler_unit for register in _REGISTERS[1:]])
            client.get_many([replace(_PROFILE, index=4), replace(_PROFILE, index=3)])
            client.get_with_data(_REGISTERS[0], _PROFILE, _day())
            client.get_data(_PROFILE, _day())
            with suppress(AccessRefused):
                client.get(_UNKNOWN)
        heard += wire.heard
    return Session(tuple(heard), tuple(_apdus(heard)))


def _client(wire: Wire) -> Client:
    carrier = HdlcCarrier(
        wire,
        LinkSettings(gap_s=0.0),
        client_address=client_address(1),
        server_address=server_address(ADDRESS),
        name="bench",
    )
    return Client(carrier, Security("lls", password=LLS_PASSWORD), name="bench")


def _day() -> bytes:
    clock = MeterTime(60)
    first = clock.octets(LAST_END_UTC_S - (ROWS - 1) * 900)
    return by_range(first, clock.octets(LAST_END_UTC_S))


def _apdus(heard: Sequence[bytes]) -> Iterator[bytes]:
    whole = b""
    for data in heard:
        for frame in Ear().hear(data):
            if frame.control & 1 or not frame.payload:
                continue
            whole += frame.payload
            if not frame.more:
                yield whole[3:]
                whole = b""


@lru_cache(maxsize=1)
def captured() -> tuple[bytes, ...]:
    """Every byte string of the captures, frames and APDUs; empty where there are none."""
    folder = os.environ.get("LOADSCAPE_VECTORS")
    if folder is None:
        return ()
    cases = json.loads((Path(folder) / "dlms_frames.json").read_text())["cases"]
    found = {text for case in cases for text in _texts(case["input"]) if _HEX.fullmatch(text)}
    return tuple(bytes.fromhex(text) for text in sorted(found))


def captured_with(*first_bytes: int) -> list[bytes]:
    """The captures that begin with one of these bytes."""
    return [data for data in captured() if data[0] in first_bytes]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
