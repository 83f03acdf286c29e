"""A simulated optical head: meters that must be woken by IEC 62056-21 mode E before HDLC.

The head says who it is at 300 Bd (7E1, its parity bit computed), waits for
the acknowledgement, goes to the agreed rate, repeats the acknowledgement and
leaves the line to the meters. It goes back once a DISC is answered, or when
nothing was said for the inactivity time. What comes at another rate than its
own, or with wrong parity, it does not understand. Built from IEC 62056-21, 6.3
and annex E, without the agent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hil.line.pty import PtyLine
from hil.line.responder import Answer, Responder
from hil.line.uart import Uart, misread

OPENING_BAUD = 300
INACTIVITY_S = 120.0
"""Of IEC 62056-46, the default of an HDLC link."""
REACTION_S = 0.2
FAST_REACTION_S = 0.02
_BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200)
_DISC = 0x53


class ModeE:
    """Stands before the `meters` of one line; give it to the PtyLine, then `attach` that line.

    `address` is the device address, of which leading zeros do not count; a request
    without one is always answered. `fastest` is the baud-rate identification;
    `fast` means a reaction of 20 ms instead of 200. With `parity` False the
    opening has no parity bit, as behind some heads. With `stays` the head agrees
    to every rate and remains at 300 Bd.
    """

    def __init__(
        self,
        meters: Responder,
        *,
        address: str = "",
        fastest: int = 5,
        ident: str = "METER",
        fast: bool = False,
        parity: bool = True,
        stays: bool = False,
        inactivity_s: float = INACTIVITY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meters = meters
        self._address = address
        self._fastest = fastest
        self._identification = f"/LS{'c' if fast else 'C'}{fastest}\\2{ident}\r\n".encode("ascii")
        self._reaction_s = FAST_REACTION_S if fast else REACTION_S
        self._parity = parity
        self._stays = stays
        self._inactivity_s = inactivity_s
        self._now_s = now_s
        self._line: PtyLine | None = None
        self._baud = OPENING_BAUD
        self._hdlc = False
        self._said_s = now_s()
        self._heard = b""
        self.openings = 0
        """How often HDLC was agreed."""

    def attach(self, line: PtyLine) -> None:
        """The line whose rate the head changes and whose reader's rate it looks at."""
        self._line = line
        line.go_at(self._baud)

    def receive(self, data: bytes) -> list[Answer]:
        """Answers to what came, as of the head's state."""
        now_s = self._now_s()
        if self._hdlc and now_s - self._said_s > self._inactivity_s:
            self._go_back()
        if self._line is not None and self._line.heard_baud != self._baud:
            return []
        self._said_s = now_s
        if not self._hdlc:
            return self._opening(data)
        answers = self._meters.receive(data)
        if answers and _is_disc(data):
            # The answer to it is still sent at the agreed rate.
            answers[-1] = replace(answers[-1], then_baud=OPENING_BAUD)
            self._end()
        return answers

    def _opening(self, data: bytes) -> list[Answer]:
        if self._parity:
            data = bytes(byte for byte in data if byte.bit_count() % 2 == 0)
        self._heard += bytes(byte & 0x7F for byte in data)
        line, end, rest = self._heard.partition(b"\n")
        if not end:
            return []
        self._heard = rest
        said = line + end
        _, asks, address = said.rpartition(b"/?")
        if asks and address.endswith(b"!\r\n") and self._is_called(address[:-3]):
            return [Answer(self._as_sent(self._identification), self._reaction_s)]
        if len(said) == 6 and said[:1] == b"\x06" and said[1:2] == said[3:4] == b"2":
            code = said[2] - ord("0")
            if 0 <= code <= self._fastest:
                return self._agreed(said, _BAUDS[code])
        return []

    def _is_called(self, address: bytes) -> bool:
        return address.lstrip(b"0") in (b"", self._address.lstrip("0").encode("ascii"))

    def _agreed(self, acknowledgement: bytes, baud: int) -> list[Answer]:
        self.openings += 1
        said = self._as_sent(acknowledgement)
        if self._stays:
            return [Answer(misread(said, Uart(OPENING_BAUD), Uart(baud)), self._reaction_s)]
        self._hdlc = True
        self._go_at(baud)
        return [Answer(said, self._reaction_s)]

    def _go_back(self) -> None:
        self._end()
        self._go_at(OPENING_BAUD)

    def _end(self) -> None:
        self._hdlc, self._heard, self._baud = False, b"", OPENING_BAUD

    def _go_at(self, baud: int) -> None:
        self._baud = baud
        if self._line is not None:
            self._line.go_at(baud)

    def _as_sent(self, text: bytes) -> bytes:
        if not self._parity:
            return text
        return bytes(byte | (byte.bit_count() & 1) << 7 for byte in text)


def _is_disc(frame: bytes) -> bool:
    """Whether an HDLC frame's control field is DISC; addresses end where bit 0 is set."""
    at = 3
    for _ in range(2):
        while at < len(frame) and not frame[at] & 1:
            at += 1
        at += 1
    return frame[:1] == b"\x7e" and at < len(frame) and frame[at] == _DISC
