"""GET, SET and ACTION of one association, in one piece or in blocks (IEC 62056-5-3, 6.9 to 6.11).

Plain APDUs only: ciphers and general blocks are around this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.dlms import axdr
from hil.meters.dlms.association import ACTION, LISTS, SET
from hil.meters.dlms.names import CLOCK, COUNTER, DEVICE_NAME, SERIAL
from hil.meters.dlms.objects import Objects
from hil.meters.dlms.results import (
    ACTION_BLOCK_UNAVAILABLE,
    BLOCK_UNAVAILABLE,
    DENIED,
    NO_LONG_ACTION,
    NO_LONG_GET,
    NO_LONG_SET,
    SUCCESS,
)

SERVICE_NOT_ALLOWED = b"\xd8\x01\x01"
SERVICE_UNKNOWN = b"\xd8\x02\x02"
MALFORMED = b"\xd8\x01\x03"
_PUBLIC_NAMES = (CLOCK, SERIAL, DEVICE_NAME, COUNTER)
_BLOCK_HEAD_BYTES = 16


@dataclass(slots=True)
class _LongRequest:
    """A SET or ACTION of which blocks are still to come."""

    target: bytes
    """Class, name, and attribute or method."""
    data: bytes = b""
    number: int = 0

    def takes(self, number: int, part: bytes) -> bool:
        """Adds a block; a repeated one is right, one out of turn is not."""
        if number == self.number + 1:
            self.number = number
            self.data += part
        return number == self.number


class Services:
    """The services that one client was granted; `room` is the longest answer in bytes."""

    def __init__(
        self,
        look: Callable[[], Objects],
        *,
        public: bool,
        conformance: int,
        room: int,
        quirks: frozenset[str],
    ) -> None:
        """`look` gives the objects as they are at this instant."""
        self._look = look
        self._public = public
        self._conformance = conformance
        self._room = room
        self._quirks = quirks
        self._rest: list[bytes] = []
        self._block = 0
        self._long: _LongRequest | None = None

    def serve(self, apdu: bytes) -> bytes:
        """The answer to a plain request; raises AxdrError or IndexError for a malformed one."""
        service, kind = apdu[0], apdu[1]
        if service == 0xC0:
            return self._get(kind, apdu)
        if service == 0xC1 and self._conformance & SET:
            return self._set(kind, apdu)
        if service == 0xC3 and self._conformance & ACTION:
            return self._act(kind, apdu)
        return SERVICE_UNKNOWN

    def _get(self, kind: int, apdu: bytes) -> bytes:
        invoke = apdu[2]
        if kind == 2:
            return self._get_block(invoke, int.from_bytes(apdu[3:7], "big"))
        if kind not in (1, 3) or (kind == 3 and not self._conformance & LISTS):
            return SERVICE_UNKNOWN
        objects = self._look()
        if kind == 1:
            result, data, _ = self._attribute(objects, apdu, 3)
            if result != SUCCESS:
                return bytes([0xC4, 1, invoke, 1, result])
            head = bytes([0xC4, 1, invoke, 0])
            data += b"\x00\x00" if "tail after value" in self._quirks else b""
        else:
            data = self._list(objects, apdu)
            head = bytes([0xC4, 3, invoke])
        empty_last = "empty last block" in self._quirks
        if len(head) + len(data) <= self._room and not empty_last:
            return head + data
        self._cut(data)
        self._rest += [b""] if empty_last else []
        return self._get_block(invoke, 0)

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
        end, selection = at + 10, b""
        if selects:
            _, end = axdr.decode(apdu, at + 11)
            selection = apdu[at + 10 : end]
        if self._public and name not in _PUBLIC_NAMES:
            return DENIED, b"", end
        result, value = objects.read(class_id, name, index, selection)
        return result, value, end

    def _cut(self, data: bytes) -> None:
        """Makes blocks of what is too long for one answer."""
        size = max(16, self._room - _BLOCK_HEAD_BYTES)
        self._rest = [data[at : at + size] for at in range(0, len(data), size)]
        self._block = 0

    def _get_block(self, invoke: int, received: int) -> bytes:
        """The block after `received`; block 0 is none, and the first block has number 1."""
        if not self._follows(received):
            result = BLOCK_UNAVAILABLE if self._block else NO_LONG_GET
            return bytes([0xC4, 2, invoke, 1]) + received.to_bytes(4, "big") + bytes([1, result])
        return self._block_after(bytes([0xC4, 2, invoke]), b"\x00")

    def _act_block(self, invoke: int, received: int) -> bytes:
        """As `_get_block`, of what a method returned."""
        if not self._follows(received):
            result = ACTION_BLOCK_UNAVAILABLE if self._block else NO_LONG_ACTION
            return bytes([0xC7, 1, invoke, result, 0])
        return self._block_after(bytes([0xC7, 2, invoke]), b"")

    def _follows(self, received: int) -> bool:
        """Whether there is a block after `received`; if not, the answer is given up."""
        if received != self._block:
            self._rest = []
        return bool(self._rest)

    def _block_after(self, head: bytes, choice: bytes) -> bytes:
        part = self._rest.pop(0)
        self._block += 1
        return (
            head
            + bytes([not self._rest])
            + self._block.to_bytes(4, "big")
            + choice
            + axdr.length(len(part))
            + part
        )

    def _set(self, kind: int, apdu: bytes) -> bytes:
        invoke = apdu[2]
        if kind == 1:
            return bytes([0xC5, 1, invoke, self._write(apdu[3:12], apdu[13:])])
        if kind not in (2, 3):
            return SERVICE_UNKNOWN
        if kind == 2:
            self._long = _LongRequest(apdu[3:12])
        last, number, part = _block(apdu, 13 if kind == 2 else 3)
        long = self._long
        if long is None:
            result = NO_LONG_SET
        elif not long.takes(number, part):
            result = BLOCK_UNAVAILABLE
        elif not last:
            return bytes([0xC5, 2, invoke]) + number.to_bytes(4, "big")
        else:
            result = self._write(long.target, long.data)
        self._long = None
        return bytes([0xC5, 3, invoke, result]) + number.to_bytes(4, "big")

    def _act(self, kind: int, apdu: bytes) -> bytes:
        invoke = apdu[2]
        if kind == 1:
            return self._acted(invoke, apdu[3:12], apdu[13:] if apdu[12] else b"")
        if kind == 2:
            return self._act_block(invoke, int.from_bytes(apdu[3:7], "big"))
        if kind not in (4, 6):
            return SERVICE_UNKNOWN
        if kind == 4:
            self._long = _LongRequest(apdu[3:12])
        last, number, part = _block(apdu, 12 if kind == 4 else 3)
        long = self._long
        if long is None:
            return bytes([0xC7, 1, invoke, NO_LONG_ACTION, 0])
        if not long.takes(number, part):
            self._long = None
            return bytes([0xC7, 1, invoke, ACTION_BLOCK_UNAVAILABLE, 0])
        if not last:
            return bytes([0xC7, 4, invoke]) + number.to_bytes(4, "big")
        self._long = None
        return self._acted(invoke, long.target, long.data)

    def _acted(self, invoke: int, target: bytes, parameters: bytes) -> bytes:
        result, value = self._method(target, parameters)
        if not value:
            return bytes([0xC7, 1, invoke, result, 0])
        whole = bytes([0xC7, 1, invoke, result, 1, 0]) + value
        if len(whole) <= self._room:
            return whole
        self._cut(b"\x00" + value)
        return self._act_block(invoke, 0)

    def _write(self, target: bytes, value: bytes) -> int:
        if self._public:
            return DENIED
        class_id, name, index = int.from_bytes(target[:2], "big"), target[2:8], target[8]
        return self._look().write(class_id, name, index, value)

    def _method(self, target: bytes, parameters: bytes) -> tuple[int, bytes]:
        if self._public:
            return DENIED, b""
        class_id, name, method = int.from_bytes(target[:2], "big"), target[2:8], target[8]
        return self._look().act(class_id, name, method, parameters)


def _block(apdu: bytes, at: int) -> tuple[bool, int, bytes]:
    """Whether the block at `at` is the last one, its number, and its data."""
    size, begin = axdr.read_length(apdu, at + 5)
    return bool(apdu[at]), int.from_bytes(apdu[at + 1 : at + 5], "big"), apdu[begin : begin + size]
