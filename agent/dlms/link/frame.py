"""HDLC frames of DLMS (IEC 62056-46, frame format type 3): addresses, building, cutting.

Frames are cut by their length field, because a flag byte may stand inside the
data. What follows on a link is in `hdlc.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ext.checksum import fcs16

FLAG: Final = 0x7E
LONGEST_INFO: Final = 2030
SHORTEST_INFO: Final = 32
DEFAULT_INFO: Final = 128
FRAME_OVERHEAD: Final = 15
"""Most bytes around the information: flags, format, addresses, control, two checks."""

SNRM: Final = 0x93
UA: Final = 0x73
DISC: Final = 0x53
DM: Final = 0x1F
FRMR: Final = 0x97
UI: Final = 0x13

_LONGEST_HEAD: Final = 13
"""Format (2), addresses (4 + 4), control, header check (2)."""
_SHORTEST_FRAME: Final = 9
"""Two flags, format (2), addresses (1 + 1), control, frame check (2)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose checks are right; `raw` is what stood between its flags."""

    destination: bytes
    source: bytes
    control: int
    info: bytes
    segmented: bool
    raw: bytes


def client_address(sap: int) -> bytes:
    """The address of a client, 1 byte; raises ValueError unless 1-126 (127 is all stations)."""
    if not 1 <= sap < 0x7F:
        raise ValueError(f"expected a client SAP of 1 to 126, found {sap}")
    return bytes([sap << 1 | 1])


def server_address(text: str, size: int | None = None) -> bytes:
    """The address of a meter written `logical` or `logical/physical`; raises ValueError.

    Without `size` (1, 2 or 4 bytes) the shortest form that holds the numbers
    is taken; some meters listen to one form only. 0 (no station) and the two
    highest numbers of a form (calling station, all stations) are reserved.
    """
    parts = text.split("/")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(
            f"expected a server address such as 1/17 (logical/physical) or 1, found {text!r}"
        )
    numbers = [int(part) for part in parts]
    if size is None:
        size = 4 if max(numbers) > 0x7F else len(numbers)
    highest = 0x3FFF if size == 4 else 0x7F
    if size not in (1, 2, 4) or max(numbers) > highest or (size == 1 and len(numbers) == 2):
        raise ValueError(f"server address {text!r} does not fit {size} bytes")
    if min(numbers) == 0 or numbers[0] == highest or max(numbers[1:], default=0) >= highest - 1:
        raise ValueError(
            f"server address {text!r} is reserved: 0 is no station, {highest} all stations, "
            f"{highest - 1} as physical address the calling station"
        )
    if size == 1:
        return bytes([numbers[0] << 1 | 1])
    if len(numbers) == 1:
        raise ValueError(f"server address {text!r} needs a physical part for {size} bytes")
    logical, physical = numbers
    if size == 2:
        return bytes([logical << 1, physical << 1 | 1])
    return bytes(
        [
            logical >> 7 << 1,
            (logical & 0x7F) << 1,
            physical >> 7 << 1,
            (physical & 0x7F) << 1 | 1,
        ]
    )


def frame(
    destination: bytes, source: bytes, control: int, info: bytes = b"", *, segmented: bool = False
) -> bytes:
    """The bytes of one frame with its flags; raises ValueError if it is longer than 2047 bytes."""
    addresses = destination + source
    size = 2 + len(addresses) + 1 + 2 + (len(info) + 2 if info else 0)
    if size > 0x7FF:
        raise ValueError(f"a frame holds at most 2047 bytes, this one would have {size}")
    head = bytes([0xA0 | (0x08 if segmented else 0) | size >> 8, size & 0xFF, *addresses, control])
    if info:
        head = head + fcs16(head).to_bytes(2, "little") + info
    return b"\x7e" + head + fcs16(head).to_bytes(2, "little") + b"\x7e"


class FrameCutter:
    """Cuts a stream of bytes into frames. Noise and damaged frames are counted and passed over."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self.damaged = 0
        """Candidates whose checks were wrong."""

    def clear(self) -> None:
        """Forget what has arrived and is not a frame yet."""
        self._waiting.clear()

    @property
    def within_frame(self) -> bool:
        """Whether the beginning of what may be a frame waits."""
        return len(self._waiting) > 1

    @property
    def needed(self) -> int:
        """Fewest further bytes that can complete a frame."""
        waiting = self._waiting
        if len(waiting) >= 3:
            return max(1, ((waiting[1] & 0x07) << 8 | waiting[2]) + 2 - len(waiting))
        return _SHORTEST_FRAME - len(waiting)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that `data` completes."""
        waiting = self._waiting
        waiting += data
        while True:
            start = waiting.find(FLAG)
            if start < 0:
                waiting.clear()
                return
            del waiting[:start]
            if len(waiting) < 3:
                if len(waiting) == 2 and waiting[1] & 0xF0 != 0xA0:
                    del waiting[0]
                    continue
                return
            size = (waiting[1] & 0x07) << 8 | waiting[2]
            if waiting[1] & 0xF0 != 0xA0 or size < _SHORTEST_FRAME - 2:
                del waiting[0]
                continue
            if len(waiting) < size + 2:
                if not _false_start(bytes(waiting[1 : 1 + _LONGEST_HEAD])):
                    return
                self.damaged += 1
                del waiting[0]
                continue
            found = None
            if waiting[size + 1] == FLAG:
                found = _parsed(bytes(waiting[1 : size + 1]))
                self.damaged += found is None
            # One flag may close this frame and open the next; a false start is passed over.
            del waiting[: size + 1 if found else 1]
            if found:
                yield found


def _false_start(head: bytes) -> bool:
    """Whether what has come cannot be the head of a frame: it would swallow what follows."""
    after_source = _address_end(head, _address_end(head, 2))
    if not after_source:
        return len(head) >= _LONGEST_HEAD
    check = head[after_source + 1 : after_source + 3]
    return len(check) == 2 and fcs16(head[: after_source + 1]) != int.from_bytes(check, "little")


def _parsed(raw: bytes) -> Frame | None:
    """The frame between two flags, or None if a check or an address is wrong."""
    if fcs16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
        return None
    after_destination = _address_end(raw, 2)
    after_source = _address_end(raw, after_destination)
    header_end = after_source + 1
    if not after_destination or not after_source or header_end > len(raw) - 2:
        return None
    info = b""
    if header_end < len(raw) - 2:
        check = int.from_bytes(raw[header_end : header_end + 2], "little")
        if header_end + 2 > len(raw) - 2 or fcs16(raw[:header_end]) != check:
            return None
        info = raw[header_end + 2 : -2]
    return Frame(
        raw[2:after_destination],
        raw[after_destination:after_source],
        raw[after_source],
        info,
        bool(raw[0] & 0x08),
        raw,
    )


def _address_end(raw: bytes, at: int) -> int:
    """Where the address at `at` ends, or 0: its last byte alone has bit 0 set, 1, 2 or 4 bytes."""
    if not at:
        return 0
    for size in (1, 2, 3, 4):
        if at + size <= len(raw) and raw[at + size - 1] & 1:
            return 0 if size == 3 else at + size
    return 0


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """Sizes of a link as this end sees it: what it may send and what it will receive."""

    info_out: int = DEFAULT_INFO
    info_in: int = DEFAULT_INFO
    window_out: int = 1
    window_in: int = 1


def encode_parameters(wanted: LinkParameters) -> bytes:
    """The information field of SNRM; empty when the defaults are wanted."""
    if wanted == LinkParameters():
        return b""
    body = b"".join(
        bytes([code, size]) + value.to_bytes(size, "big")
        for code, size, value in (
            (5, 2, wanted.info_out),
            (6, 2, wanted.info_in),
            (7, 4, wanted.window_out),
            (8, 4, wanted.window_in),
        )
    )
    return b"\x81\x80" + bytes([len(body)]) + body


def agree_parameters(wanted: LinkParameters, answer: bytes) -> LinkParameters | None:
    """What holds after a UA with this information field, or None if the field is malformed.

    The meter's field speaks from the meter's side: what it sends is what the
    client receives. A missing field or value means the default of the standard.
    """
    values = {5: DEFAULT_INFO, 6: DEFAULT_INFO, 7: 1, 8: 1}
    if answer:
        if len(answer) < 3 or answer[:2] != b"\x81\x80" or len(answer) < 3 + answer[2]:
            return None
        at, end = 3, 3 + answer[2]
        while at + 2 <= end:
            code, size = answer[at], answer[at + 1]
            if size not in (1, 2, 4) or at + 2 + size > end:
                return None
            values[code] = int.from_bytes(answer[at + 2 : at + 2 + size], "big")
            at += 2 + size
    return LinkParameters(
        info_out=max(SHORTEST_INFO, min(wanted.info_out, values[6])),
        info_in=max(SHORTEST_INFO, min(wanted.info_in, values[5])),
        window_out=max(1, min(wanted.window_out, values[8])),
        window_in=max(1, min(wanted.window_in, values[7])),
    )
