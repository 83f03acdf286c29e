"""What the HDLC link's table speaks of: its states, what a frame can mean, what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.dlms.errors import DlmsError, LinkLost
from agent.dlms.link.frame import DM, FRMR, UA, UI, Frame, LinkParameters


class State(Enum):
    """Where the link is."""

    CLOSED = "no link"
    OPENING = "SNRM sent"
    READY = "nothing under way, the turn is ours"
    ASKING = "the request goes out, nothing of the answer is here"
    RECEIVING = "a part of the answer is here"
    STREAMING = "a whole answer is here, the meter has not ended its turn"
    CLOSING = "DISC sent"


class Heard(Enum):
    """What a frame from the meter means at this moment."""

    UA = "unnumbered acknowledgement"
    DM = "disconnected mode"
    FRMR = "frame rejected"
    UI = "unnumbered information: a notification that nobody asked for"
    PART = "information in sequence, more follows"
    WHOLE = "information in sequence that ends an answer, but not the meter's turn"
    LAST = "information in sequence that ends an answer and the meter's turn"
    OUT_OF_TURN = "information with another number than the next, or before the request is out"
    TAKEN = "receive ready: some of what we sent is acknowledged, more waits"
    WANTED = "receive ready: nothing of what we sent last is acknowledged"
    IDLE = "receive ready: everything is acknowledged and the meter has nothing to send"
    BUSY = "receive not ready"
    REJECTED = "reject: asks for information from a number on"
    OTHER = "anything else"


UNNUMBERED: Final = {UA: Heard.UA, DM: Heard.DM, FRMR: Heard.FRMR, UI: Heard.UI}
"""What a control byte means, its poll or final bit set."""
SUPERVISORY: Final = {0x05: Heard.BUSY, 0x09: Heard.REJECTED}
"""What the low half of a control byte means, RR aside."""


def frame_name(heard: Frame) -> str:
    """How a person reads of an unnumbered frame: `FRMR 9732`."""
    meaning = UNNUMBERED.get(heard.control | 0x10)
    detail = f" {heard.info.hex()}" if heard.info else ""
    return (meaning.name if meaning else f"control {heard.control:#04x}") + detail


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to send now; the answer to them is waited for."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """The meter needs time: ask again after a pause."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The link is up with these sizes."""

    parameters: LinkParameters


@dataclass(frozen=True, slots=True)
class Message:
    """A whole answer, without its LLC header."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class Unasked:
    """The information of one UI frame, as it came; it is no part of any exchange."""

    info: bytes
    segmented: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The meter confirmed that the link is down."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The link is of no use any more; `kind` is the error that says so to the caller."""

    reason: str
    kind: type[DlmsError] = LinkLost


Outcome = Send | Wait | Opened | Message | Unasked | Closed | Failed
"""What `Link.receive` asks for or reports."""
