"""The client's end of one HDLC link as a table of states and frames. Sans-I/O.

`Link` is asked to open, to carry a request and to close; each gives the bytes
to send. What arrives goes into `receive`, which returns what to do: `Send`,
`Wait`, or the outcome of the exchange. Time is the caller's: when an answer is
late it sends what `again` returns. Both ends send windows of up to seven
frames, and each keeps silent until the other's frame with the poll or final
bit has ended its turn.

Source: IEC 62056-46 (HDLC for DLMS, normal response mode), ISO/IEC 13239.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, DlmsError, LinkLost, LinkRefused
from agent.dlms.link.frame import (
    DISC,
    SNRM,
    Frame,
    FrameCutter,
    LinkParameters,
    agree_parameters,
    encode_parameters,
    frame,
)
from agent.dlms.link.hdlc_states import (
    SUPERVISORY,
    UNNUMBERED,
    Closed,
    Failed,
    Heard,
    Message,
    Opened,
    Outcome,
    Send,
    State,
    Unasked,
    Wait,
    frame_name,
)

__all__ = [
    "TABLE",
    "Closed",
    "Failed",
    "Heard",
    "Link",
    "Message",
    "Opened",
    "Outcome",
    "Send",
    "State",
    "Unasked",
    "Wait",
]

LLC_OUT: Final = b"\xe6\xe6\x00"
LLC_IN: Final = b"\xe6\xe7\x00"

_FINAL: Final = 0x10
"""Poll bit of what we send, final bit of what the meter sends: the turn goes to the other end."""
_RR: Final = 0x01
_ECHOES: Final = 16
"""Frames of ours that may yet come back: two windows and a poll."""


class Link:
    """One client, one meter. Frames of other addresses, late frames and echoes change nothing."""

    def __init__(
        self,
        client: bytes,
        server: bytes,
        wanted: LinkParameters,
        *,
        longest_answer: int,
        overhear: Callable[[bytes], None] | None = None,
    ) -> None:
        """`longest_answer` bounds in bytes what one request may lead to.

        `overhear` is called with every whole frame on the line, flags included.
        """
        self._client = client
        self._server = server
        self._wanted = wanted
        self._longest_answer = longest_answer
        self._overhear = overhear
        self._cutter = FrameCutter()
        self.state = State.CLOSED
        self.parameters = LinkParameters()
        self.progress = 0
        """Grows with each new frame of ours that was taken and each new one of the meter's."""
        self.answering = False
        """Whether a frame that belongs to the exchange has come since we sent last."""
        self._first_unacknowledged = 0
        self._unacknowledged: list[bytes] = []
        self._outstanding = 0
        """Unacknowledged segments that have been sent."""
        self._next_number = 0
        self._answer: list[bytes] = []
        self._answer_bytes = 0
        self._last_sent = b""
        self._may_echo: deque[bytes] = deque(maxlen=_ECHOES)
        self._echoes = False
        self._polled = False
        self._may_repeat = False

    @property
    def needed(self) -> int:
        """Fewest further bytes that can complete a frame."""
        return self._cutter.needed

    @property
    def within_frame(self) -> bool:
        """Whether the beginning of what may be a frame has arrived."""
        return self._cutter.within_frame

    @property
    def damaged(self) -> int:
        """Frames with a wrong check since the link was made."""
        return self._cutter.damaged

    def open(self) -> bytes:
        """SNRM with the wanted sizes."""
        self.state = State.OPENING
        self._cutter.clear()
        return self._sending(self._frame(SNRM, encode_parameters(self._wanted)))

    def ask(self, apdu: bytes) -> bytes:
        """The first window of a request; raises RuntimeError unless the link is ready."""
        self._begin(State.ASKING)
        whole = LLC_OUT + apdu
        size = self.parameters.info_out
        self._unacknowledged = [whole[at : at + size] for at in range(0, len(whole), size)]
        return self._send_window()

    def more(self) -> bytes:
        """RR: the meter sends a further message, or goes on with one; raises as `ask` does."""
        if self.state is not State.RECEIVING:
            self._begin(State.RECEIVING)
        return self._poll()

    def take_turn(self) -> None:
        """The meter fell silent after a whole answer: it has ended its turn without saying so."""
        if self.state is State.STREAMING:
            self.state = State.READY

    def give_up(self) -> None:
        """The exchange led nowhere, so nobody knows what the meter has; only a new link helps."""
        self.state = State.CLOSED

    def close(self) -> bytes:
        """DISC; right in every state."""
        self.state = State.CLOSING
        self._cutter.clear()
        return self._sending(self._frame(DISC))

    def again(self) -> bytes:
        """What to send when the answer is late.

        Commands are sent again as they were. With a request under way the
        meter is polled first: its receive number tells whether the request or
        the answer was lost. A poll that stays without an answer is followed by
        the request itself, under the same numbers.
        """
        self._cutter.clear()
        if self.state not in (State.ASKING, State.RECEIVING):
            return self._sending(self._last_sent)
        if self.state is State.ASKING and self._polled and self._unacknowledged:
            return self._send_window()
        return self._poll()

    def receive(self, data: bytes) -> list[Outcome]:
        """Take what arrived; what it makes necessary, in order."""
        outcomes: list[Outcome] = []
        for heard in self._cutter.feed(data):
            if self._overhear is not None:
                self._overhear(b"\x7e" + heard.raw + b"\x7e")
            if heard.destination != self._client or heard.source != self._server:
                continue
            if self._is_echo(heard):
                continue
            row = TABLE.get((self.state, self._meaning(heard)))
            if row is None:
                continue
            action, self.state = row
            outcome = action(self, heard)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _is_echo(self, heard: Frame) -> bool:
        """Whether this is our own frame, where both addresses are alike.

        A meter never sends SNRM, DISC or our own I-frame. Our RR may look like
        its RR, so it counts as an echo only where others have come back.
        """
        if self._client != self._server or heard.raw not in self._may_echo:
            return False
        if heard.control & 0x0F == _RR and not self._echoes:
            return False
        self._echoes = True
        self._may_echo.remove(heard.raw)
        return True

    def _meaning(self, heard: Frame) -> Heard:
        control = heard.control
        if control & 0x03 == 0x03:
            return UNNUMBERED.get(control | _FINAL, Heard.OTHER)
        acknowledged = (control >> 5) - self._first_unacknowledged & 7
        if control & 0x01 == 0:
            in_turn = control >> 1 & 7 == self._next_number
            is_answer = acknowledged == len(self._unacknowledged) == self._outstanding
            if not in_turn or not is_answer:
                return Heard.OUT_OF_TURN
            if heard.segmented:
                return Heard.PART
            return Heard.LAST if control & _FINAL else Heard.WHOLE
        if acknowledged > self._outstanding:
            return Heard.OTHER
        if control & 0x0F != _RR:
            return SUPERVISORY.get(control & 0x0F, Heard.OTHER)
        if acknowledged == len(self._unacknowledged):
            return Heard.IDLE
        return Heard.TAKEN if acknowledged else Heard.WANTED

    def _begin(self, state: State) -> None:
        if self.state is not State.READY:
            raise RuntimeError(
                f"a request needs a link that is ready, this one has {self.state.value}"
            )
        self.state = state
        self._answer, self._answer_bytes = [], 0

    def _frame(self, control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
        return frame(self._server, self._client, control, info, segmented=segmented)

    def _sending(self, *frames: bytes) -> bytes:
        self.answering = False
        self._may_echo.extend(sent[1:-1] for sent in frames)
        self._last_sent = b"".join(frames)
        return self._last_sent

    def _send_window(self) -> bytes:
        """The unacknowledged segments that the window holds; the last frame ends our turn."""
        window = self._unacknowledged[: self.parameters.window_out]
        self._outstanding = len(window)
        self._polled = False
        self._may_repeat = True
        frames = []
        for place, segment in enumerate(window):
            number = self._first_unacknowledged + place & 7
            poll = _FINAL if place == len(window) - 1 else 0
            frames.append(
                self._frame(
                    self._next_number << 5 | poll | number << 1,
                    segment,
                    segmented=place < len(self._unacknowledged) - 1,
                )
            )
        return self._sending(*frames)

    def _poll(self) -> bytes:
        self._polled = True
        self._may_repeat = True
        return self._sending(self._frame(self._next_number << 5 | _FINAL | _RR))

    def _acknowledge(self, heard: Frame) -> None:
        """Forgets the segments that the meter has; its number was found to be possible."""
        count = (heard.control >> 5) - self._first_unacknowledged & 7
        del self._unacknowledged[:count]
        self._outstanding -= count
        self._first_unacknowledged = self._first_unacknowledged + count & 7
        self._may_repeat |= count > 0
        self.progress += count
        self.answering = True

    # The actions of the table. The state has already moved on.

    def _adopt(self, heard: Frame) -> Outcome:
        agreed = agree_parameters(self._wanted, heard.info)
        if agreed is None:
            return self._fail(
                f"UA carries malformed parameters {heard.info.hex()}", AnswerMalformed
            )
        self.parameters = agreed
        self._first_unacknowledged = self._next_number = self._outstanding = 0
        self._unacknowledged = []
        return Opened(agreed)

    def _refuse(self, heard: Frame) -> Outcome:
        return self._fail(f"SNRM was answered by {frame_name(heard)}", LinkRefused)

    def _lose(self, heard: Frame) -> Outcome:
        return self._fail(f"the meter left the link with {frame_name(heard)}", LinkLost)

    def _notify(self, heard: Frame) -> Outcome:
        return Unasked(heard.info, heard.segmented)

    def _go_on(self, heard: Frame) -> Outcome | None:
        self._acknowledge(heard)
        return Send(self._send_window()) if heard.control & _FINAL else None

    def _repeat(self, heard: Frame) -> Outcome | None:
        """Sends what the meter misses, once for each time-out and each frame that it took.

        So a meter that asks for ever cannot keep us sending for ever. After a
        single frame RR counts only when it answers a poll: it may be a copy of
        the one before.
        """
        self._acknowledge(heard)
        is_copy = heard.control & 0x0F == _RR and self._outstanding == 1 and not self._polled
        misses = self._may_repeat and bool(self._unacknowledged) and not is_copy
        if not misses or not heard.control & _FINAL:
            return None
        data = self._send_window()
        self._may_repeat = False
        return Send(data)

    def _be_patient(self, heard: Frame) -> Outcome | None:
        self._acknowledge(heard)
        return Wait() if heard.control & _FINAL else None

    def _end_turn(self, heard: Frame) -> Outcome | None:
        if not heard.control & _FINAL:
            self.state = State.STREAMING
        return None

    def _take(self, heard: Frame) -> Outcome | None:
        failed = self._keep(heard)
        return failed or (Send(self._poll()) if heard.control & _FINAL else None)

    def _deliver(self, heard: Frame) -> Outcome:
        if failed := self._keep(heard):
            return failed
        whole = b"".join(self._answer)
        self._answer = []
        if whole[:3] != LLC_IN:
            reason = f"expected the answer to begin with e6e700, found {whole[:3].hex()}"
            return self._fail(reason, AnswerMalformed)
        return Message(whole[3:])

    def _keep(self, heard: Frame) -> Failed | None:
        self._acknowledge(heard)
        self.progress += 1
        self._next_number = self._next_number + 1 & 7
        self._answer.append(heard.info)
        self._answer_bytes += len(heard.info)
        if self._answer_bytes <= self._longest_answer:
            return None
        return self._fail(f"the answer is longer than {self._longest_answer} bytes", AnswerTooLarge)

    def _confirm(self, _heard: Frame) -> Outcome:
        return Closed()

    def _fail(self, reason: str, kind: type[DlmsError]) -> Failed:
        self.state = State.CLOSED
        return Failed(reason, kind)


_Action = Callable[[Link, Frame], Outcome | None]

TABLE: Final[dict[tuple[State, Heard], tuple[_Action, State]]] = {
    (State.OPENING, Heard.UA): (Link._adopt, State.READY),
    (State.OPENING, Heard.DM): (Link._refuse, State.CLOSED),
    (State.OPENING, Heard.FRMR): (Link._refuse, State.CLOSED),
    (State.ASKING, Heard.TAKEN): (Link._go_on, State.ASKING),
    (State.ASKING, Heard.WANTED): (Link._repeat, State.ASKING),
    (State.ASKING, Heard.REJECTED): (Link._repeat, State.ASKING),
    (State.ASKING, Heard.IDLE): (Link._be_patient, State.ASKING),
    (State.ASKING, Heard.BUSY): (Link._be_patient, State.ASKING),
    (State.ASKING, Heard.PART): (Link._take, State.RECEIVING),
    (State.ASKING, Heard.WHOLE): (Link._deliver, State.STREAMING),
    (State.ASKING, Heard.LAST): (Link._deliver, State.READY),
    (State.ASKING, Heard.DM): (Link._lose, State.CLOSED),
    (State.ASKING, Heard.FRMR): (Link._lose, State.CLOSED),
    (State.RECEIVING, Heard.IDLE): (Link._be_patient, State.RECEIVING),
    (State.RECEIVING, Heard.BUSY): (Link._be_patient, State.RECEIVING),
    (State.RECEIVING, Heard.PART): (Link._take, State.RECEIVING),
    (State.RECEIVING, Heard.WHOLE): (Link._deliver, State.STREAMING),
    (State.RECEIVING, Heard.LAST): (Link._deliver, State.READY),
    (State.RECEIVING, Heard.DM): (Link._lose, State.CLOSED),
    (State.RECEIVING, Heard.FRMR): (Link._lose, State.CLOSED),
    (State.STREAMING, Heard.IDLE): (Link._end_turn, State.READY),
    (State.STREAMING, Heard.BUSY): (Link._end_turn, State.READY),
    (State.STREAMING, Heard.PART): (Link._take, State.RECEIVING),
    (State.STREAMING, Heard.WHOLE): (Link._deliver, State.STREAMING),
    (State.STREAMING, Heard.LAST): (Link._deliver, State.READY),
    (State.STREAMING, Heard.DM): (Link._lose, State.CLOSED),
    (State.STREAMING, Heard.FRMR): (Link._lose, State.CLOSED),
    (State.CLOSING, Heard.UA): (Link._confirm, State.CLOSED),
    (State.CLOSING, Heard.DM): (Link._confirm, State.CLOSED),
    **{(state, Heard.UI): (Link._notify, state) for state in State},
}
"""(state, what is heard) → (what is done, next state; CLOSED where the action fails the link).
Everything else is passed over: it is late, doubled or not for now, and a time-out asks again."""
