"""What passes on a DLMS line, as `trace` shows it: frames, packets, mode E, noise and APDUs.

The bytes are judged here once more and apart from the client, so that what the
client passes over is seen too. APDUs come from the client, which has the keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent.commands.passed import Direction, Passed
from agent.dlms.apdu.text import apdu_text
from agent.dlms.constants import Apdu
from agent.dlms.errors import DlmsError
from agent.dlms.link.frame import Frame, FrameCutter
from agent.dlms.link.mode_e import Parity
from agent.dlms.link.text import frame_text, packet_text
from agent.dlms.link.wrapper import Packet, PacketCutter
from agent.line.serial_port import SerialPort
from agent.line.tcp_port import TcpPort
from wire.clock import Clock

_LLC_OUT: Final = b"\xe6\xe6\x00"
_FLAG: Final = b"\x7e"
_MODE_E: Final = b"/\x06"
"""First characters of the lines of an IEC 62056-21 opening."""


class DlmsTrace:
    """Judges the bytes of one line and tells what they are to `show`."""

    def __init__(
        self, show: Callable[[Passed], None], clock: Clock, *, wrapper: bool, mode_e: bool
    ) -> None:
        self._show = show
        self._clock = clock
        self._mode_e = mode_e
        self._judge: _Hdlc | _Wrapper = _Wrapper() if wrapper else _Hdlc()
        self._opening = {"sent": b"", "heard": b""}

    def passed(self, direction: Direction, data: bytes) -> None:
        """Takes bytes as they pass."""
        if direction == "sent":
            self.flush()
        if self._mode_e and self._is_opening(direction, data):
            self._tell_opening(direction, data)
            return
        for verdict, raw, words, secret in self._judge.feed(direction, data):
            self._tell(direction, verdict, raw, words, secret=secret)

    def flush(self) -> None:
        """The other side's turn is over: what it said and was no frame is noise."""
        if noise := self._judge.rest() + self._opening["heard"]:
            self._tell("heard", "noise", noise, "")
        self._opening["heard"] = b""

    def apdu(self, direction: str, carried: bytes, plain: bytes) -> None:
        """Tells of an APDU of the client; `plain` is empty where it could not be deciphered."""
        way: Direction = "sent" if direction == "sent" else "heard"
        text = apdu_text(plain) if plain else f"NOT DECIPHERED {apdu_text(carried)}"
        facts = {"apdu": text}
        if plain and plain != carried:
            facts["carried"] = apdu_text(carried)
            text += f"  [{facts['carried']}]"
        self._tell(way, "apdu", b"", text, facts)

    def _tell(
        self,
        direction: Direction,
        verdict: str,
        data: bytes,
        words: str,
        facts: dict[str, Any] | None = None,
        *,
        secret: bytes = b"",
    ) -> None:
        shown = facts if facts is not None else {"frame": words} if words else {}
        at_utc_s = self._clock.now_utc_s()
        self._show(Passed(at_utc_s, direction, verdict, data, words, shown, secret))

    def _is_opening(self, direction: Direction, data: bytes) -> bool:
        if direction == "heard" and self._judge.heard:
            return False  # such a byte may also stand within a frame
        return bool(self._opening[direction]) or bool(data and data[0] & 0x7F in _MODE_E)

    def _tell_opening(self, direction: Direction, data: bytes) -> None:
        self._opening[direction] += data
        line, end, rest = self._opening[direction].partition(b"\n")
        if not end and direction == "heard":
            return
        self._opening[direction] = b""
        text = bytes(byte & 0x7F for byte in line).decode("ascii").strip()
        shown = text.replace("\x06", "ACK ")
        self._tell(direction, "mode_e", line + end, shown, {"text": shown})
        if rest:
            self.passed(direction, rest)


_Judged = Iterator[tuple[str, bytes, str, bytes]]
"""Verdict, bytes, words, and the part of the bytes that is secret."""


class _Hdlc:
    """Cuts both directions into frames; what is left of what was heard is noise."""

    def __init__(self) -> None:
        self._cutters = {"sent": FrameCutter(), "heard": FrameCutter()}
        self.heard = b""
        """What came since our turn and is no whole frame."""
        self._associating = False

    def feed(self, direction: Direction, data: bytes) -> _Judged:
        if direction == "heard":
            self.heard += data
        for frame in self._cutters[direction].feed(data):
            whole = _FLAG + frame.raw + _FLAG
            secret = self._secret(frame) if direction == "sent" else b""
            if direction == "heard":
                self.heard = self.heard.replace(frame.raw, b"", 1).strip(_FLAG)
            yield "frame", whole, frame_text(frame, sent=direction == "sent"), secret

    def rest(self) -> bytes:
        noise, self.heard = self.heard.replace(_FLAG, b""), b""
        self._cutters["heard"].clear()
        return noise

    def _secret(self, frame: Frame) -> bytes:
        """The information of all frames of an AARQ: a password may be in it, in pieces."""
        if frame.info.startswith(_LLC_OUT):
            self._associating = frame.info[3:4] == bytes([Apdu.AARQ])
        if frame.control & 1 or not self._associating:
            return b""
        self._associating = frame.segmented
        return frame.info


class _Wrapper:
    """Cuts both directions into packets; after a wrong head all that is heard is noise."""

    def __init__(self) -> None:
        self._cutters = {"sent": PacketCutter(), "heard": PacketCutter()}
        self.heard = b""
        """What came since our turn and is no whole packet."""

    def feed(self, direction: Direction, data: bytes) -> _Judged:
        if direction == "heard":
            self.heard += data
        try:
            for packet in self._cutters[direction].feed(data):
                whole = packet.encode()
                if direction == "heard":
                    self.heard = self.heard[len(whole) :]
                secret = self._secret(packet) if direction == "sent" else b""
                yield "packet", whole, packet_text(packet, sent=direction == "sent"), secret
        except DlmsError as error:
            noise, self.heard = self.heard, b""
            self._cutters[direction].clear()
            yield "noise", noise, str(error), b""

    def rest(self) -> bytes:
        noise, self.heard = self.heard, b""
        self._cutters["heard"].clear()
        return noise

    @staticmethod
    def _secret(packet: Packet) -> bytes:
        return packet.apdu if packet.apdu[:1] == bytes([Apdu.AARQ]) else b""


class TracedPort:
    """A port that tells a `DlmsTrace` what passes through it."""

    def __init__(self, port: SerialPort | TcpPort, trace: DlmsTrace) -> None:
        self._port = port
        self._trace = trace

    @property
    def char_s(self) -> float:
        return self._port.char_s

    @property
    def opened_at_s(self) -> float:
        return self._port.opened_at_s

    def write(self, data: bytes) -> None:
        self._trace.passed("sent", data)
        self._port.write(data)

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        return self._heard(self._port.read(at_least, deadline_s, due_s))

    def discard(self) -> bytes:
        return self._heard(self._port.discard())

    def close(self) -> None:
        self._port.close()

    def _heard(self, data: bytes) -> bytes:
        if data:
            self._trace.passed("heard", data)
        return data


class TracedSerialPort(TracedPort):
    """The same for a port whose rate mode E switches."""

    def __init__(self, port: SerialPort, trace: DlmsTrace) -> None:
        super().__init__(port, trace)
        self._serial = port

    def switch(self, baud: int, parity: Parity = "N") -> None:
        self._serial.switch(baud, parity)
