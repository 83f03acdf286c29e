"""Simulated DLMS meters on one line: association and GET over the bench's own HDLC.

Public client (SAP 16) sees clock, serial number and device name; any other
client associates with the password (LLS) and sees everything. GET normal, with
list, block transfer and selective access to the load profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from agent.dlms import axdr
from hil.line.responder import Answer
from hil.meters.dlms_objects import (
    CLOCK,
    DENIED,
    DEVICE_NAME,
    SERIAL,
    SUCCESS,
    DlmsMeter,
    Objects,
)
from hil.meters.hdlc_server import Ear, Station
from hil.meters.shown import Registers

__all__ = ["DlmsBus", "DlmsMeter", "OnRead"]

OnRead = Callable[[str, float, Registers], None]
"""Called with serial, instant and registers whenever a meter answers for its energy registers."""

_PUBLIC_SAP = 16
_PUBLIC_NAMES = (CLOCK, SERIAL, DEVICE_NAME)
_LLC = b"\xe6\xe7\x00"
_CONTEXT = bytes.fromhex("060760857405080101")
_LLS = bytes.fromhex("60857405080201")
_GET, _SET, _SELECTIVE, _BLOCKS, _LISTS = 0x10, 0x08, 0x04, 0x1000, 0x200
_TYPE_UNMATCHED = 12
_SERVICE_NOT_ALLOWED = b"\xd8\x01\x01"
_SERVICE_UNKNOWN = b"\xd8\x02\x02"
_MAX_REQUEST = 1024


class MeterClock(Protocol):
    """What the meters' clocks follow."""

    def now_utc_s(self) -> float: ...


class DlmsBus:
    """All DLMS meters of one line, by server address (`logical/physical` or `logical`)."""

    def __init__(
        self,
        meters: Mapping[str, DlmsMeter],
        clock: MeterClock,
        reaction_s: float = 0.0,
        *,
        on_read: OnRead | None = None,
    ) -> None:
        """`reaction_s` is what each meter takes from a request's last byte to its answer."""
        self._reaction_s = reaction_s
        self._ear = Ear()
        self._stations: dict[bytes, Station] = {}
        for address, meter in meters.items():
            application = _Application(meter, clock, on_read)
            station = Station(
                application.serve,
                application.reset,
                longest_info=meter.longest_info,
                window=meter.window,
                client_window=meter.client_window,
                deaf_to_others=meter.deaf_to_others,
            )
            for form in _addresses(address):
                self._stations[form] = station

    def receive(self, data: bytes) -> list[Answer]:
        answers = []
        for heard in self._ear.hear(data):
            station = self._stations.get(heard.to)
            if station is not None:
                sent = station.receive(heard)
                if sent:
                    answers.append(Answer(sent, self._reaction_s))
        return answers


def _addresses(text: str) -> list[bytes]:
    """The forms in which a meter hears its address."""
    numbers = [int(part) for part in text.split("/")]
    if len(numbers) == 1:
        return [bytes([numbers[0] * 2 + 1])]
    upper, lower = numbers
    four = bytes([upper >> 7 << 1, upper % 128 * 2, lower >> 7 << 1, lower % 128 * 2 + 1])
    if max(numbers) > 127:
        return [four]
    return [bytes([upper * 2, lower * 2 + 1]), four]


class _Application:
    """One meter's association and its GET service; a new link begins without association."""

    def __init__(self, meter: DlmsMeter, clock: MeterClock, on_read: OnRead | None) -> None:
        self._meter = meter
        self._clock = clock
        self._on_read = on_read
        self.reset()

    def reset(self) -> None:
        self._associated = False
        self._public = False
        self._longest = 0
        self._lists = False
        self._rest = b""
        self._block = 0

    def serve(self, sap: int, request: bytes) -> bytes:
        """The answer to one LLC frame's worth of request."""
        apdu = request[3:]
        try:
            if request[:3] != b"\xe6\xe6\x00" or not apdu:
                return _LLC + _SERVICE_UNKNOWN
            if apdu[0] == 0x60:
                return _LLC + self._associate(sap, apdu)
            if apdu[0] == 0x62:
                self.reset()
                return _LLC + bytes.fromhex("6303800100")
            if not self._associated:
                return _LLC + _SERVICE_NOT_ALLOWED
            if apdu[0] == 0xC0 and len(apdu) >= 4:
                return _LLC + self._get(apdu)
            if apdu[:2] == b"\xc1\x01" and self._meter.settable:
                return _LLC + b"\xc5\x01" + bytes([apdu[2], self._set(apdu)])
        except (axdr.AxdrError, IndexError):
            return _LLC + b"\xd8\x01\x03"
        return _LLC + _SERVICE_UNKNOWN

    def _associate(self, sap: int, apdu: bytes) -> bytes:
        fields = dict(_elements(apdu[2:] if apdu[1] < 0x80 else apdu[3:]))
        self._public = sap == _PUBLIC_SAP
        initiate = fields.get(0xBE, b"")
        at = initiate.find(b"\x5f\x1f\x04\x00")
        result, diagnostic = 0, 0
        if fields.get(0xA1) != _CONTEXT or at < 0:
            result, diagnostic = 1, 2
        elif not self._public and self._meter.password is not None:
            if fields.get(0x8B) != _LLS:
                result, diagnostic = 1, 14
            elif fields.get(0xAC, b"")[2:] != self._meter.password:
                result, diagnostic = 1, 13
        conformance = 0
        if at >= 0:
            wanted = int.from_bytes(initiate[at + 4 : at + 7], "big")
            offered = _GET | _SELECTIVE | _BLOCKS | (_LISTS if self._meter.lists else 0)
            offered |= _SET if self._meter.settable else 0
            conformance = wanted & offered
            limit = int.from_bytes(initiate[at + 7 : at + 9], "big")
            self._longest = min(limit or 0xFFFF, self._meter.max_pdu)
        self._associated = result == 0
        self._lists = bool(conformance & _LISTS)
        answer = (
            b"\xa1\x09"
            + _CONTEXT
            + bytes([0xA2, 3, 2, 1, result, 0xA3, 5, 0xA1, 3, 2, 1, diagnostic])
            + b"\xbe\x10\x04\x0e\x08\x00\x06\x5f\x1f\x04\x00"
            + conformance.to_bytes(3, "big")
            + _MAX_REQUEST.to_bytes(2, "big")
            + b"\x00\x07"
        )
        return bytes([0x61, len(answer)]) + answer

    def _get(self, apdu: bytes) -> bytes:
        kind, invoke = apdu[1], apdu[2]
        if kind == 2:
            return self._next_block(invoke, int.from_bytes(apdu[3:7], "big"))
        if kind not in (1, 3) or (kind == 3 and not self._lists):
            return _SERVICE_UNKNOWN
        at_utc_s = self._clock.now_utc_s()
        objects = Objects(self._meter, at_utc_s)
        if kind == 1:
            result, value, _ = self._attribute(objects, apdu, 3)
            data = value
            if result != SUCCESS:
                return bytes([0xC4, 1, invoke, 1, result])
            head = bytes([0xC4, 1, invoke, 0])
        else:
            data = self._list(objects, apdu)
            head = bytes([0xC4, 3, invoke])
        if self._on_read is not None and objects.registers_read is not None:
            self._on_read(self._meter.shown.serial, at_utc_s, objects.registers_read)
        if len(head) + len(data) <= self._longest:
            return head + data
        self._rest, self._block = data, 0
        return self._next_block(invoke, 0)

    def _set(self, apdu: bytes) -> int:
        """The data-access result of a SET; only the clock's time can be set."""
        if self._public or apdu[3:13] != b"\x00\x08" + CLOCK + b"\x02\x00":
            return DENIED
        value, _ = axdr.decode(apdu, 13)
        taken = isinstance(value, bytes) and self._meter.set_clock(value, self._clock.now_utc_s())
        return SUCCESS if taken else _TYPE_UNMATCHED

    def _list(self, objects: Objects, apdu: bytes) -> bytes:
        count, at = axdr.read_length(apdu, 3)
        results = [axdr.length(count)]
        for _ in range(count):
            result, value, at = self._attribute(objects, apdu, at)
            results.append(bytes([1, result]) if result != SUCCESS else b"\x00" + value)
        return b"".join(results)

    def _attribute(self, objects: Objects, apdu: bytes, at: int) -> tuple[int, bytes, int]:
        """Result and value of the attribute that is described at `at`, and where that ends."""
        class_id = int.from_bytes(apdu[at : at + 2], "big")
        name, index, selects = apdu[at + 2 : at + 8], apdu[at + 8], apdu[at + 9]
        end = at + 10
        selection = b""
        if selects:
            _, end = axdr.decode(apdu, at + 11)
            selection = apdu[at + 10 : end]
        if self._public and name not in _PUBLIC_NAMES:
            return DENIED, b"", end
        result, value = objects.read(class_id, name, index, selection)
        return result, value, end

    def _next_block(self, invoke: int, received: int) -> bytes:
        """The block after `received`; block 0 is none, and the first block has number 1."""
        if received != self._block or (received and not self._rest):
            self._rest = b""
            return bytes([0xC4, 2, invoke, 1]) + received.to_bytes(4, "big") + bytes([1, 19])
        size = max(16, self._longest - 16)
        part, self._rest = self._rest[:size], self._rest[size:]
        self._block += 1
        return (
            bytes([0xC4, 2, invoke, not self._rest])
            + self._block.to_bytes(4, "big")
            + b"\x00"
            + axdr.length(len(part))
            + part
        )


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the BER elements in `data`, short lengths only."""
    found, at = [], 0
    while at + 1 < len(data):
        size = data[at + 1]
        found.append((data[at], data[at + 2 : at + 2 + size]))
        at += 2 + size
    return found
