"""IEC 62056-21 mode E: how a meter behind an optical head is asked to speak HDLC.

At 300 Bd the meter is asked who it is, says its fastest rate, and is told to
go on in HDLC; both switch, the meter repeats the acknowledgement at the new
rate, and HDLC begins. Characters of the opening are 7E1. Its parity bit is
made here, and the port stays at 8N1: the same bits on the wire, and PTYs and
USB heads that ignore 7E1 work too. In answers bit 7 is left out, set or not.
Source: IEC 62056-21, 6.3 and annex E.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, Protocol, runtime_checkable

from agent.dlms.errors import AnswerMalformed, DlmsError, NoAnswer
from agent.dlms.link.carrier import Carrier
from agent.line.port import Port

Parity = Literal["N", "E", "O"]

OPENING_BAUD: Final = 300
BAUDS: Final = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
"""Baud-rate identification of modes C and E."""
REACTION_S: Final = 0.2
FAST_REACTION_S: Final = 0.02
"""Of a meter whose third letter is lower case."""
MARGIN_S: Final = 0.05
"""Beyond the shortest reaction time, for what adapters buffer; 1.5 s is the longest."""
RESPONSE_S: Final = 2.0
"""Longest time to the meter's first character: 1.5 s by the standard, and an adapter's delay."""
_LONGEST_LINE: Final = 64
_TRIES: Final = 2
_LONGEST_ADDRESS: Final = 32


@runtime_checkable
class SwitchablePort(Port, Protocol):
    """A port whose rate can change while it is open."""

    def switch(self, baud: int, parity: Parity = "N") -> None:
        """Once everything is sent: this rate, in Bd, and parity from now on; raises PortLost."""
        ...


@dataclass(frozen=True, slots=True)
class Identification:
    """What a meter answers to the request."""

    maker: str
    """Three letters."""
    baud_code: str
    ident: str
    hdlc: bool
    """Whether it says itself that it has mode E; some have it and do not say so."""

    @property
    def reaction_s(self) -> float:
        """Shortest time before it listens again."""
        return FAST_REACTION_S if self.maker[2].islower() else REACTION_S


@dataclass(frozen=True, slots=True)
class Say:
    """Send `data` (7E1) after `after_s` of silence; then switch to `then_baud`, if any."""

    data: bytes
    after_s: float = 0.0
    then_baud: int | None = None


@dataclass(frozen=True, slots=True)
class Agreed:
    """HDLC may begin at `baud`."""

    identification: Identification
    baud: int


class State(Enum):
    """What is awaited from the meter."""

    IDENTIFICATION = "its identification"
    CONFIRMATION = "its confirmation at the new rate"
    NOTHING = "nothing"


class Opening:
    """One opening, sans I/O: `request` first, then whatever the meter says."""

    def __init__(self, address: str = "", most_baud: int = 19200) -> None:
        """Raises ValueError for an address that the standard does not allow."""
        if len(address) > _LONGEST_ADDRESS or not all(
            char.isascii() and (char.isalnum() or char == " ") for char in address
        ):
            raise ValueError(
                f"expected a device address of up to {_LONGEST_ADDRESS} letters and digits, "
                f"found {address!r}"
            )
        self.state = State.IDENTIFICATION
        self.request: Final = f"/?{address}!\r\n".encode("ascii")
        self._most_baud = most_baud
        self._line = b""
        self._identification: Identification | None = None
        self._acknowledgement = b""

    def receive(self, data: bytes) -> Say | Agreed | None:
        """What follows from bytes of the meter; None while its line is not whole.

        Raises AnswerMalformed. An echo of our own lines is passed over.
        """
        self._line += bytes(byte & 0x7F for byte in data)
        while b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            outcome = self._read[self.state](self, line + b"\n")
            if outcome is not None:
                self._line = b""
                return outcome
        if len(self._line) > _LONGEST_LINE:
            raise AnswerMalformed(
                f"expected {self.state.value}, came {self._line[:_LONGEST_LINE]!r} without an end"
            )
        return None

    def _identified(self, line: bytes) -> Say | None:
        start = line.rfind(b"/")
        if start < 0 or line[start:] == self.request:
            return None
        found = identification(line[start:])
        code = max(
            code
            for code, baud in BAUDS.items()
            if code == "0" or (code <= found.baud_code and baud <= self._most_baud)
        )
        self._identification = found
        self._acknowledgement = f"\x062{code}2\r\n".encode("ascii")
        self.state = State.CONFIRMATION
        return Say(self._acknowledgement, found.reaction_s + MARGIN_S, BAUDS[code])

    def _confirmed(self, line: bytes) -> Agreed | None:
        assert self._identification is not None
        # An adapter may hand over the end of an echo after the switch only.
        if len(line) < len(self._acknowledgement) - 1 and self._acknowledgement.endswith(line):
            return None
        # The first character after the switch may be damaged, or noise may stand before it.
        if not line.endswith(self._acknowledgement[1:]):
            raise AnswerMalformed(
                f"expected {self._acknowledgement!r} at the new rate, came {line!r}; check that "
                "the head takes this rate, or set a lower baud for the line"
            )
        self.state = State.NOTHING
        return Agreed(self._identification, BAUDS[chr(self._acknowledgement[2])])

    def _overheard(self, line: bytes) -> None:
        """HDLC has begun: a line is no longer ours to read."""

    _read: Final[dict[State, Callable[[Opening, bytes], Say | Agreed | None]]] = {
        State.IDENTIFICATION: _identified,
        State.CONFIRMATION: _confirmed,
        State.NOTHING: _overheard,
    }


def identification(line: bytes) -> Identification:
    """The parts of `/XXXZ\\2ident CR LF`, bit 7 taken off; raises AnswerMalformed."""
    text = line.decode("latin-1")
    maker, code, ident = text[1:4], text[4:5], text[5:].rstrip("\r\n")
    if text[:1] != "/" or not maker.isalpha() or len(maker) != 3 or not text.endswith("\r\n"):
        raise AnswerMalformed(
            f"expected an identification such as /XXX5\\2ident, came {text!r}; check that the head "
            "sits on the meter's port and nothing else speaks on the line"
        )
    if code not in BAUDS or not code:
        raise AnswerMalformed(
            f"expected a baud rate of 0 to 6 as of modes C and E, came {text!r}: the meter has "
            'another mode; set opening = "none" if it speaks HDLC at once'
        )
    return Identification(maker, code, ident.removeprefix("\\2"), ident.startswith("\\2"))


def with_parity(data: bytes) -> bytes:
    """7-bit characters with the even parity bit that 7E1 has in place of bit 7."""
    return bytes(byte & 0x7F | ((byte & 0x7F).bit_count() & 1) << 7 for byte in data)


def open_hdlc(
    port: SwitchablePort,
    *,
    name: str,
    address: str = "",
    most_baud: int = 19200,
    parity: Parity = "N",
    observe: Callable[[str, bytes], None] | None = None,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Agreed:
    """Opens mode E; afterwards the port is at the agreed rate and the line's `parity`.

    Raises NoAnswer, AnswerMalformed, PortLost; the port is at 300 Bd then.
    """
    watch = observe or (lambda direction, data: None)
    failed: DlmsError | None = None
    for _ in range(_TRIES):
        port.switch(OPENING_BAUD)
        port.discard()
        opening = Opening(address, most_baud)
        outcome: Say | Agreed = Say(opening.request)
        try:
            while isinstance(outcome, Say):
                sleep(outcome.after_s)
                watch("sent", outcome.data)
                port.write(with_parity(outcome.data))
                if outcome.then_baud is not None:
                    # A driver may call written what a USB adapter has still to send.
                    sleep(len(outcome.data) * port.char_s)
                    port.switch(outcome.then_baud)
                outcome = _answer(port, opening, len(outcome.data), watch, now_s)
        except (NoAnswer, AnswerMalformed) as error:
            failed = type(error)(f"{name}: mode E: {error}")
            continue
        port.switch(outcome.baud, parity)
        return outcome
    assert failed is not None
    port.switch(OPENING_BAUD)
    raise failed


def _answer(
    port: Port,
    opening: Opening,
    sent: int,
    watch: Callable[[str, bytes], None],
    now_s: Callable[[], float],
) -> Say | Agreed:
    deadline_s = now_s() + RESPONSE_S + (sent + _LONGEST_LINE) * port.char_s
    while now_s() < deadline_s:
        data = port.read(1, deadline_s, -math.inf)
        if not data:
            break
        watch("heard", data)
        outcome = opening.receive(data)
        if outcome is not None:
            return outcome
    raise NoAnswer(
        f"expected {opening.state.value}, nothing whole came in {_TRIES} tries of {RESPONSE_S:.0f} "
        "s; check the head's seat and the device address; a meter that still has a link "
        "answers again after its inactivity time, two minutes as a rule"
    )


class ModeECarrier:
    """A carrier behind a mode E opening: each link begins with one."""

    def __init__(self, carrier: Carrier, opening: Callable[[], Agreed]) -> None:
        """`opening` is `open_hdlc` with its arguments."""
        self._carrier = carrier
        self._opening = opening

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        return self._carrier.longest_answer

    def open(self) -> None:
        """The opening, then the link; raises as `open_hdlc` and the carrier do."""
        self._opening()
        self._carrier.open()

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """As the carrier behind."""
        return self._carrier.request(apdu, what, tries=tries)

    def more(self, what: str) -> bytes:
        """As the carrier behind."""
        return self._carrier.more(what)

    def close(self) -> None:
        """As the carrier behind; the meter goes back to 300 Bd."""
        self._carrier.close()
