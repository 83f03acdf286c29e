"""The client's end of one HDLC link as a table of states and frames. Sans-I/O.

`Link` is asked to open, to carry a request and to close; each gives the bytes
to send. What arrives goes into `receive`, which returns what to do: `Send`,
or the outcome of the exchange. Time is the caller's: when an answer is late it
sends what `again` returns. The client sends one frame at a time (window 1)
and takes windows of up to seven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.dlms.link.frame import (
    DISC,
    DM,
    FRMR,
    SNRM,
    UA,
    Frame,
    FrameCutter,
    LinkParameters,
    agree_parameters,
    encode_parameters,
    frame,
)

LLC_OUT: Final = b"\xe6\xe6\x00"
LLC_IN: Final = b"\xe6\xe7\x00"


class State(Enum):
    """Where the link is."""

    CLOSED = "no link"
    OPENING = "SNRM sent"
    READY = "nothing under way"
    ASKING = "the request goes out, nothing of the answer is here"
    RECEIVING = "a part of the answer is here"
    CLOSING = "DISC sent"


class Heard(Enum):
    """What a frame from the meter means at this moment."""

    UA = "unnumbered acknowledgement"
    DM = "disconnected mode"
    FRMR = "frame rejected"
    PART = "information in sequence, more follows"
    LAST = "information in sequence that ends the answer"
    OUT_OF_TURN = "information with another number than the next"
    TAKEN = "supervisory frame that acknowledges our last frame"
    WANTED = "supervisory frame that asks for our last frame"
    BUSY = "receive not ready"
    OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to send now; the answer to them is waited for."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The link is up with these sizes."""

    parameters: LinkParameters


@dataclass(frozen=True, slots=True)
class Message:
    """The whole answer to the request, without its LLC header."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The meter confirmed that the link is down."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The link is of no use any more; `refused` when it never came up."""

    reason: str
    refused: bool = False


Outcome = Send | Opened | Message | Closed | Failed
"""What `Link.receive` asks for or reports."""


class Link:
    """One client, one meter. Frames of other addresses, late frames and echoes change nothing."""

    def __init__(
        self, client: bytes, server: bytes, wanted: LinkParameters, *, longest_answer: int
    ) -> None:
        self._client = client
        self._server = server
        self._wanted = wanted
        self._longest_answer = longest_answer
        self._cutter = FrameCutter()
        self.state = State.CLOSED
        self.parameters = LinkParameters()
        self._sent_number = 0
        self._next_number = 0
        self._to_send: list[bytes] = []
        self._answer: list[bytes] = []
        self._answer_bytes = 0
        self._last_sent = b""
        self._last_request = b""
        self._polled = False

    @property
    def needed(self) -> int:
        """Fewest further bytes that can complete a frame."""
        return self._cutter.needed

    @property
    def damaged(self) -> int:
        """Frames with a wrong check since the link was made."""
        return self._cutter.damaged

    def open(self) -> bytes:
        """SNRM with the wanted sizes."""
        self.state = State.OPENING
        self._cutter.clear()
        return self._sending(
            frame(self._server, self._client, SNRM, encode_parameters(self._wanted))
        )

    def ask(self, apdu: bytes) -> bytes:
        """The first frame of a request; raises RuntimeError unless the link is ready."""
        if self.state is not State.READY:
            raise RuntimeError(
                f"a request needs a link that is ready, this one has {self.state.value}"
            )
        whole = LLC_OUT + apdu
        size = self.parameters.info_out
        self._to_send = [whole[at : at + size] for at in range(0, len(whole), size)]
        self._answer, self._answer_bytes = [], 0
        self.state = State.ASKING
        return self._send_part()

    def more(self) -> bytes:
        """RR, which lets the meter send a further message; raises RuntimeError as `ask`."""
        if self.state is not State.READY:
            raise RuntimeError(f"more needs a link that is ready, this one has {self.state.value}")
        self.state = State.RECEIVING
        return self._poll()

    def close(self) -> bytes:
        """DISC; right in every state."""
        self.state = State.CLOSING
        self._cutter.clear()
        return self._sending(frame(self._server, self._client, DISC))

    def again(self) -> bytes:
        """What to send when the answer is late.

        Commands and first frames of a link are sent again as they were. With a
        request under way the meter is polled first: its receive number tells
        whether the request or the answer was lost. A poll that stays without
        an answer is followed by the request itself.
        """
        self._cutter.clear()
        if self.state not in (State.ASKING, State.RECEIVING):
            return self._last_sent
        if self.state is State.ASKING and self._polled:
            self._polled = False
            return self._sending(self._last_request)
        return self._poll()

    def receive(self, data: bytes) -> list[Outcome]:
        """Take what arrived; what it makes necessary, in order."""
        outcomes: list[Outcome] = []
        for heard in self._cutter.feed(data):
            if heard.destination != self._client or heard.source != self._server:
                continue
            if self._client == self._server and b"\x7e" + heard.raw + b"\x7e" == self._last_sent:
                continue
            row = TABLE.get((self.state, self._meaning(heard)))
            if row is None:
                continue
            action, self.state = row
            outcome = action(self, heard)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _meaning(self, heard: Frame) -> Heard:
        control = heard.control
        if control & 0x01 == 0:
            in_turn = (control >> 1) & 7 == self._next_number
            answers = self.state is not State.ASKING or control >> 5 == self._after_sent
            if not in_turn or not answers or len(self._to_send) > 1:
                return Heard.OUT_OF_TURN
            return Heard.PART if heard.segmented else Heard.LAST
        if control & 0x0F == 0x01:
            return Heard.TAKEN if control >> 5 == self._after_sent else Heard.WANTED
        if control & 0x0F == 0x05:
            return Heard.BUSY
        return _UNNUMBERED.get(control | 0x10, Heard.OTHER)

    @property
    def _after_sent(self) -> int:
        return (self._sent_number + 1) & 7

    def _sending(self, data: bytes) -> bytes:
        self._last_sent = data
        return data

    def _send_part(self) -> bytes:
        self._polled = False
        control = self._next_number << 5 | 0x10 | self._sent_number << 1
        self._last_request = frame(
            self._server,
            self._client,
            control,
            self._to_send[0],
            segmented=len(self._to_send) > 1,
        )
        return self._sending(self._last_request)

    def _poll(self) -> bytes:
        self._polled = True
        control = self._next_number << 5 | 0x11
        return self._sending(frame(self._server, self._client, control))

    # The actions of the table. The state has already moved on.

    def _adopt(self, heard: Frame) -> Outcome:
        agreed = agree_parameters(self._wanted, heard.info)
        if agreed is None:
            return self._fail(f"UA carries malformed parameters {heard.info.hex()}", refused=True)
        self.parameters = agreed
        self._sent_number = self._next_number = 0
        self._to_send = []
        return Opened(agreed)

    def _refuse(self, heard: Frame) -> Outcome:
        return self._fail(f"SNRM was answered by {_name(heard)}", refused=True)

    def _lose(self, heard: Frame) -> Outcome:
        return self._fail(f"the meter left the link with {_name(heard)}")

    def _part_taken(self, _heard: Frame) -> Outcome | None:
        if len(self._to_send) == 1:
            return None  # the meter has all of the request and takes its time
        self._to_send.pop(0)
        self._sent_number = self._after_sent
        return Send(self._send_part())

    def _repeat_part(self, _heard: Frame) -> Outcome | None:
        # Only a poll makes this answer meaningful, and a poll is sent once per time-out:
        # so a meter that asks for ever cannot keep us sending for ever.
        if not self._polled:
            return None
        self._polled = False
        return Send(self._sending(self._last_request))

    def _take(self, heard: Frame) -> Outcome | None:
        if self._to_send:
            self._sent_number = self._after_sent
            self._to_send = []
        self._next_number = (self._next_number + 1) & 7
        self._answer.append(heard.info)
        self._answer_bytes += len(heard.info)
        if self._answer_bytes > self._longest_answer:
            return self._fail(f"the answer is longer than {self._longest_answer} bytes")
        if not heard.control & 0x10:
            return None
        data = self._poll()
        self._polled = False
        return Send(data)

    def _deliver(self, heard: Frame) -> Outcome:
        outcome = self._take(heard)
        if isinstance(outcome, Failed):
            return outcome
        whole = b"".join(self._answer)
        self._answer, self._answer_bytes = [], 0
        if whole[:3] != LLC_IN:
            return self._fail(f"expected the answer to begin with e6e700, found {whole[:3].hex()}")
        return Message(whole[3:])

    def _confirm(self, _heard: Frame) -> Outcome:
        return Closed()

    def _fail(self, reason: str, *, refused: bool = False) -> Failed:
        self.state = State.CLOSED
        return Failed(reason, refused)


def _name(heard: Frame) -> str:
    meaning = _UNNUMBERED.get(heard.control | 0x10)
    detail = f" {heard.info.hex()}" if heard.info else ""
    return (meaning.name if meaning else f"control {heard.control:#04x}") + detail


_UNNUMBERED: Final = {UA: Heard.UA, DM: Heard.DM, FRMR: Heard.FRMR}

_Action = Callable[[Link, Frame], Outcome | None]

TABLE: Final[dict[tuple[State, Heard], tuple[_Action, State]]] = {
    (State.OPENING, Heard.UA): (Link._adopt, State.READY),
    (State.OPENING, Heard.DM): (Link._refuse, State.CLOSED),
    (State.OPENING, Heard.FRMR): (Link._refuse, State.CLOSED),
    (State.ASKING, Heard.TAKEN): (Link._part_taken, State.ASKING),
    (State.ASKING, Heard.WANTED): (Link._repeat_part, State.ASKING),
    (State.ASKING, Heard.PART): (Link._take, State.RECEIVING),
    (State.ASKING, Heard.LAST): (Link._deliver, State.READY),
    (State.ASKING, Heard.DM): (Link._lose, State.CLOSED),
    (State.ASKING, Heard.FRMR): (Link._lose, State.CLOSED),
    (State.RECEIVING, Heard.PART): (Link._take, State.RECEIVING),
    (State.RECEIVING, Heard.LAST): (Link._deliver, State.READY),
    (State.RECEIVING, Heard.DM): (Link._lose, State.CLOSED),
    (State.RECEIVING, Heard.FRMR): (Link._lose, State.CLOSED),
    (State.CLOSING, Heard.UA): (Link._confirm, State.CLOSED),
    (State.CLOSING, Heard.DM): (Link._confirm, State.CLOSED),
}
"""(state, what is heard) → (what is done, next state). Everything else is passed over: the
frame is late, doubled or not for now, and a time-out asks again. Where an action fails the
link, it is CLOSED."""
