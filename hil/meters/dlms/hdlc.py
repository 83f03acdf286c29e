"""The meter's end of an HDLC link (IEC 62056-46), written for the bench on its own.

Shares nothing with the agent's HDLC, not even the frame check, so that a
mistake in one of them shows. Windows up to 7 in both directions; segments both
ways; what the client did not receive is sent again when it asks (RR, REJ), and
nothing is sent while it is busy (RNR).
"""

from __future__ import annotations

import binascii
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

INACTIVITY_S: Final = 120.0
"""Default of IEC 62056-6-2, class 23."""
_USUAL_WIDTHS: Final = (2, 4)
"""Bytes of sizes and of windows in UA."""
_UA_WIDTHS: Final = {"UA of one-byte values": (1, 1), "UA of two-byte values": (2, 2)}
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def frame_check(data: bytes) -> bytes:
    """FCS-16/X.25 of `data`, low byte first."""
    register = binascii.crc_hqx(data.translate(_MIRRORED), 0xFFFF)
    # The mirrored register's high byte is the check's low byte.
    return bytes([_MIRRORED[register >> 8] ^ 0xFF, _MIRRORED[register & 0xFF] ^ 0xFF])


@dataclass(frozen=True, slots=True)
class Heard:
    """One whole frame from the line."""

    to: bytes
    sender: bytes
    control: int
    payload: bytes
    more: bool


def build(
    to: bytes, sender: bytes, control: int, payload: bytes = b"", more: bool = False
) -> bytes:
    """One frame between flags."""
    size = 5 + len(to) + len(sender) + (len(payload) + 2 if payload else 0)
    head = ((0xA800 if more else 0xA000) | size).to_bytes(2, "big") + to + sender
    head += bytes([control])
    if not payload:
        return b"~" + head + frame_check(head) + b"~"
    body = head + frame_check(head) + payload
    return b"~" + body + frame_check(body) + b"~"


class Ear:
    """Finds frames in what the line carries; anything else is noise."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> Iterator[Heard]:
        """Frames that `data` completes."""
        buffer = self._buffer + data
        at = 0
        while True:
            at = buffer.find(b"~", at)
            if at < 0:
                self._buffer = b""
                return
            header = buffer[at + 1 : at + 3]
            if len(header) < 2:
                break
            size = int.from_bytes(header, "big") & 0x7FF
            if header[0] >> 4 != 0xA or size < 7:
                at += 1
                continue
            if at + size + 2 > len(buffer):
                break
            heard = self._whole(buffer[at + 1 : at + 1 + size], buffer[at + 1 + size])
            if heard is None:
                at += 1
                continue
            at += size + 1
            yield heard
        self._buffer = buffer[at:]

    @staticmethod
    def _whole(raw: bytes, closing: int) -> Heard | None:
        if closing != 0x7E or frame_check(raw[:-2]) != raw[-2:]:
            return None
        addresses = []
        at = 2
        for _ in range(2):
            start = at
            while at < len(raw) - 3 and not raw[at] & 1:
                at += 1
            at += 1
            addresses.append(raw[start:at])
        payload = b""
        if at + 1 < len(raw) - 2:
            if frame_check(raw[: at + 1]) != raw[at + 1 : at + 3]:
                return None
            payload = raw[at + 3 : -2]
        return Heard(addresses[0], addresses[1], raw[at], payload, bool(raw[0] & 8))


class Station:
    """One meter's link. `service` turns a whole request (LLC and APDU) into whole answers.

    Mostly one answer; none or several, one after the other, where the services want it.
    """

    def __init__(
        self,
        service: Callable[[int, bytes], list[bytes]],
        on_reset: Callable[[], None],
        *,
        longest_info: int = 2030,
        window: int = 7,
        client_window: int = 1,
        deaf_to_others: bool = False,
        inactivity_s: float = INACTIVITY_S,
        quirks: frozenset[str] = frozenset(),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`window` frames at most are sent in a row, `client_window` taken in a row.

        `deaf_to_others`: while one client is connected, frames of others get no answer.
        After `inactivity_s` of silence there is no link any more.
        """
        self._inactivity_s = inactivity_s
        self._quirks = quirks
        self._size_bytes, self._window_bytes = next(
            (widths for quirk, widths in _UA_WIDTHS.items() if quirk in quirks), _USUAL_WIDTHS
        )
        self._now_s = now_s
        self._heard_s = now_s()
        self._takes = client_window
        self._deaf_to_others = deaf_to_others
        self._client_window = 1
        self._service = service
        self._on_reset = on_reset
        self._longest_info = min(longest_info, (1 << 8 * self._size_bytes) - 1)
        self._widest = window
        self._connected = False
        self._rejecting = False
        self._client = b""
        self._info = 128
        self._window = 1
        self._expected = 0
        self._base = 0
        self._sent = 0
        self._segments: list[tuple[bytes, bool]] = []
        """Those not acknowledged, and whether more of the same answer follow."""
        self._request = b""

    def receive(self, heard: Heard) -> bytes:
        """The frames that answer one frame; empty when the meter stays silent."""
        now_s = self._now_s()
        if self._connected and now_s - self._heard_s > self._inactivity_s:
            self._connected = False
            self._on_reset()
        if self._deaf_to_others and self._connected and heard.sender != self._client:
            return b""
        self._heard_s = now_s
        if heard.control == 0x93:
            return self._connect(heard)
        if heard.control == 0x53:
            was_connected, self._connected = self._connected, False
            self._on_reset()
            if was_connected and "UA with parameters to DISC" in self._quirks:
                return build(heard.sender, heard.to, 0x73, self._parameters(128))
            return build(heard.sender, heard.to, 0x73 if was_connected else 0x1F)
        if not self._connected or heard.sender != self._client:
            return build(heard.sender, heard.to, 0x1F)
        if self._rejecting:
            return self._reject(heard)
        if heard.control & 1 == 0:
            return self._information(heard)
        if heard.control & 0x0F == 0x05:
            if not self._acknowledge(heard.control >> 5):
                return self._reject(heard)
            return self._ready(heard)
        if heard.control & 0x0F in (0x01, 0x09):
            if not self._acknowledge(heard.control >> 5):
                return self._reject(heard)
            return self._transmit(heard)
        return self._reject(heard)

    def _connect(self, heard: Heard) -> bytes:
        wanted = {5: 128, 6: 128, 7: 1, 8: 1}
        parameters = heard.payload[3:]
        while len(parameters) >= 3:
            code, size = parameters[0], parameters[1]
            wanted[code] = int.from_bytes(parameters[2 : 2 + size], "big")
            parameters = parameters[2 + size :]
        self._info = max(32, min(wanted[6], self._longest_info))
        accepts = max(32, min(wanted[5], self._longest_info))
        self._window = max(1, min(wanted[8], self._widest))
        self._client_window = max(1, min(wanted[7], self._takes))
        if "UA without parameters" in self._quirks:
            self._info, self._window, self._client_window = 128, 1, 1
        self._connected, self._client, self._rejecting = True, heard.sender, False
        self._expected = self._base = self._sent = 0
        self._segments, self._request = [], b""
        self._on_reset()
        if "UA without parameters" in self._quirks:
            return build(heard.sender, heard.to, 0x73)
        return build(heard.sender, heard.to, 0x73, self._parameters(accepts))

    def _parameters(self, accepts: int) -> bytes:
        agreed = (
            (5, self._size_bytes, self._info),
            (6, self._size_bytes, accepts),
            (7, self._window_bytes, self._window),
            (8, self._window_bytes, self._client_window),
        )
        body = b"".join(
            bytes([code, width]) + value.to_bytes(width, "big") for code, width, value in agreed
        )
        return b"\x81\x80" + bytes([len(body)]) + body

    def _information(self, heard: Heard) -> bytes:
        number = heard.control >> 1 & 7
        polls = heard.control & 0x10 != 0
        ahead = (number - self._expected) & 7
        if 0 < ahead < self._client_window or 8 - ahead <= self._client_window:
            # A repeat of what arrived, or what follows a lost frame: say at the poll where we are.
            return self._transmit(heard) if polls else b""
        if number != self._expected or not self._acknowledge(heard.control >> 5):
            return self._reject(heard)
        self._expected = (self._expected + 1) & 7
        self._request += heard.payload
        if heard.more:
            return self._ready(heard) if polls else b""
        request, self._request = self._request, b""
        size = self._info
        self._segments = [
            (answer[at : at + size], at + size < len(answer))
            for answer in self._service(heard.sender[-1] >> 1, request)
            for at in range(0, len(answer), size)
        ]
        self._sent = 0
        return self._transmit(heard)

    def _acknowledge(self, up_to: int) -> bool:
        """Forgets what the client has received; False when it claims more than was sent."""
        count = (up_to - self._base) & 7
        if count > self._sent:
            return False
        del self._segments[:count]
        self._base = up_to
        self._sent -= count
        return True

    def _transmit(self, heard: Heard) -> bytes:
        """The next window from the first segment that is not acknowledged; RR when none waits."""
        window = self._segments[: self._window]
        if not window:
            return self._ready(heard)
        self._sent = len(window)
        frames = []
        for place, (segment, more) in enumerate(window):
            control = self._expected << 5 | (self._base + place & 7) << 1
            if place == len(window) - 1:
                control |= 0x10
            frames.append(build(heard.sender, heard.to, control, segment, more))
        return b"".join(frames)

    def _ready(self, heard: Heard) -> bytes:
        return build(heard.sender, heard.to, self._expected << 5 | 0x11)

    def _reject(self, heard: Heard) -> bytes:
        self._rejecting = "FRMR until reset" in self._quirks
        return build(heard.sender, heard.to, 0x97)
