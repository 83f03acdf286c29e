"""HDLC on a serial line or a TCP gateway: what is sent, and how long an answer is awaited.

Every exchange (what is sent, and the answer up to the point where the line is
ours again) has one deadline that nothing the meter sends can move, and a
limited number of tries in it. So no call blocks on a silent or a babbling
meter.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from agent.dlms.errors import AnswerMalformed, DlmsError, LinkLost, NoAnswer
from agent.dlms.link.frame import FRAME_OVERHEAD, LinkParameters
from agent.dlms.link.hdlc import (
    LLC_IN,
    Closed,
    Failed,
    Link,
    Message,
    Opened,
    Outcome,
    Send,
    State,
    Unasked,
    Wait,
)
from agent.dlms.link.settings import LinkSettings
from agent.line.port import Port

log = logging.getLogger(__name__)

Observe = Callable[[str, bytes], None]
"""Called with "sent" or "heard" and the bytes of whole frames, flags included."""

_GOODBYE_S: Final = 0.2
"""How long the answer to DISC is waited for when the link never came up."""
_PATIENCE_S: Final = 0.2
"""After how long a meter that asks for time (RNR, or RR without an answer) is asked again."""
_AWAITED_AT_ONCE: Final = 16
"""Bytes per wake-up at most: a line may be quicker than its baud rate says (a PTY, USB)."""
_WRITTEN_AT_ONCE: Final = 1024
"""A serial port's buffer holds 4096; one piece goes out while the next one waits in it."""
_NOTIFICATIONS: Final = 16
_ENDS: Final = (Message, Opened, Closed, Failed)


class HdlcCarrier:
    """Implements `agent.dlms.link.carrier.Carrier` for one client and one meter on `port`."""

    def __init__(
        self,
        port: Port,
        settings: LinkSettings,
        *,
        client_address: bytes,
        server_address: bytes,
        name: str,
        observe: Observe | None = None,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`now_s` is the clock of the port's deadlines. Notifications (UI frames) that arrive in
        an exchange wait in `take_notifications`."""
        self._port = port
        self._settings = settings
        self._name = name
        self._observe = observe
        self._link = Link(
            client_address,
            server_address,
            LinkParameters(settings.max_info, settings.max_info, settings.window, settings.window),
            longest_answer=settings.longest_answer,
            overhear=None if observe is None else lambda frame: observe("heard", frame),
        )
        self._now_s = now_s
        self._sleep = sleep
        self._opened = False
        self._free_at_s = -math.inf
        self._further: deque[bytes] = deque()
        self._notifications: deque[bytes] = deque(maxlen=_NOTIFICATIONS)
        self._notification = b""

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        return self._settings.longest_answer

    def open(self) -> None:
        """SNRM; raises NoAnswer, LinkRefused, AnswerMalformed, PortLost.

        Some meters ignore SNRM while a link of before is up, so DISC goes
        before the last try.
        """
        self._port.discard()
        tries = self._settings.tries
        try:
            self._open(max(1, tries - 1))
        except NoAnswer as error:
            if tries == 1:
                raise
            log.debug("%s; ending the link that may be up", error)
            self._disconnect(_GOODBYE_S)
            try:
                self._open(1)
            except NoAnswer:
                raise self._no_answer("SNRM", tries, self._settings.response_s) from None
        self._opened = True

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """The answer to `apdu`; raises NoAnswer, LinkLost, AnswerMalformed, PortLost."""
        self._check_ready(what)
        self._further.clear()
        return self._message(self._link.ask(apdu), what, tries)

    def more(self, what: str) -> bytes:
        """A further APDU of the meter's without another request; errors as `request`."""
        if self._further:
            return self._further.popleft()
        if self._link.state is not State.RECEIVING:
            self._check_ready(what)
        return self._message(self._link.more(), what, None)

    def close(self) -> None:
        """DISC, with one try; a meter that does not answer is not an error here.

        The reading is in hand or lost by then, and the meter ends the link by
        itself after its inactivity time.
        """
        wait_s = self._settings.response_s if self._opened else _GOODBYE_S
        self._opened = False
        self._disconnect(wait_s)

    def take_notifications(self) -> list[bytes]:
        """What UI frames brought since the last call, without LLC; at most the newest 16."""
        taken = list(self._notifications)
        self._notifications.clear()
        return taken

    def _open(self, tries: int) -> None:
        self._further.clear()
        outcome = self._exchange(self._link.open(), "SNRM", tries=tries)
        if not isinstance(outcome, Opened):
            raise AnswerMalformed(f"{self._name}: SNRM led to {outcome}")

    def _disconnect(self, wait_s: float) -> None:
        try:
            self._exchange(self._link.close(), "DISC", tries=1, response_s=wait_s)
        except DlmsError as error:
            log.debug("%s: disconnect not confirmed: %s", self._name, error)

    def _message(self, data: bytes, what: str, tries: int | None) -> bytes:
        deadline_s = self._now_s() + self._settings.exchange_s
        outcome = self._exchange(data, what, tries=tries, deadline_s=deadline_s)
        if not isinstance(outcome, Message):
            raise AnswerMalformed(f"{self._name}: {what} led to {outcome}")
        return outcome.apdu

    def _check_ready(self, what: str) -> None:
        if self._link.state is not State.READY:
            raise LinkLost(
                f"{self._name}: {what}: expected an open link, there is none "
                f"({self._link.state.value}); make a new one"
            )

    def _exchange(
        self,
        data: bytes,
        what: str,
        *,
        tries: int | None = None,
        response_s: float | None = None,
        deadline_s: float = math.inf,
    ) -> Outcome:
        """Sends, and follows the link until it has an outcome; a turn that made progress
        is followed by another one, none of them beyond the deadline.

        Raises NoAnswer, or what the link failed with.
        """
        self._wait_for_silence()
        tries = tries or self._settings.tries
        response_s = self._settings.response_s if response_s is None else response_s
        outcome: Outcome | None = Send(data)
        while isinstance(outcome, Send):
            outcome = self._turn(outcome.data, tries, response_s, deadline_s)
            self._free_at_s = self._now_s() + self._settings.gap_s
            if self._now_s() >= deadline_s and (outcome is None or isinstance(outcome, Send)):
                raise self._silent(
                    f"{what} took longer than {self._settings.exchange_s:.0f} s; ask for less at "
                    "a time (slice_rows of the meter class) or raise its exchange_s"
                )
        if outcome is None:
            raise self._no_answer(what, tries, response_s)
        if isinstance(outcome, Failed):
            raise outcome.kind(f"{self._name}: {what}: {outcome.reason}")
        return outcome

    def _no_answer(self, what: str, tries: int, response_s: float) -> NoAnswer:
        return self._silent(
            f"no answer to {what} in {tries} tries of {response_s:.1f} s; check wiring, baud "
            "rate, server_address and client_sap"
        )

    def _silent(self, reason: str) -> NoAnswer:
        self._link.give_up()
        return NoAnswer(f"{self._name}: {reason} ({self._link.damaged} damaged frames so far)")

    def _turn(
        self, data: bytes, tries: int, response_s: float, deadline_s: float
    ) -> Outcome | None:
        """One transmission and what it leads to, sent again until an answer or the last try.

        A meter that asks for time is asked again without counting a try, and
        so is one that asks for the same frames again: they end with the deadline.
        """
        deadline_s = min(deadline_s, self._now_s() + tries * (response_s + self._wire_s(data)))
        progress = self._link.progress
        tried = 0
        while tried < tries:
            self._write(data)
            outcome = self._await(len(data) * self._port.char_s + response_s, deadline_s)
            if self._link.progress != progress:
                needs_more = outcome is None or isinstance(outcome, Wait)
                return Send(self._link.again()) if needs_more else outcome
            if isinstance(outcome, Send):
                data = outcome.data
            elif outcome is None or isinstance(outcome, Wait):
                tried += outcome is None
                self._port.discard()
                data = self._link.again()
            else:
                return outcome
            if self._now_s() >= deadline_s:
                return None
        return None

    def _await(self, first_byte_s: float, deadline_s: float) -> Outcome | None:
        """What the meter's frames lead to once its turn is over.

        None when it is silent for too long or time is up. What is no frame of
        the exchange (noise, an echo, a notification) does not end the time in
        which the answer may begin.
        """
        link, port = self._link, self._port
        first_until_s = until_s = self._now_s() + first_byte_s
        found: Outcome | None = None
        while True:
            data = port.read(min(link.needed, _AWAITED_AT_ONCE), min(until_s, deadline_s))
            found = self._first_of(found, link.receive(data))
            settled = found is not None and not isinstance(found, Wait)
            if settled and link.state is not State.STREAMING:
                return found
            now_s = self._now_s()
            if not data or now_s >= deadline_s:
                link.take_turn()
                return found
            until_s = self._listen_until(now_s, first_until_s, waits=isinstance(found, Wait))

    def _listen_until(self, now_s: float, first_until_s: float, *, waits: bool) -> float:
        """Until when the next byte is awaited, after some have come."""
        link = self._link
        if link.within_frame:
            until_s = now_s + link.needed * self._port.char_s + self._settings.pause_s
            return until_s if link.answering else max(first_until_s, until_s)
        if waits:
            return now_s + _PATIENCE_S
        return now_s + self._settings.pause_s if link.answering else first_until_s

    def _first_of(self, found: Outcome | None, outcomes: Sequence[Outcome]) -> Outcome | None:
        """What decides: the first that ends the exchange, else the newest thing to do."""
        for outcome in outcomes:
            if isinstance(outcome, Unasked):
                self._note(outcome)
            elif isinstance(found, Message) and isinstance(outcome, Message):
                self._further.append(outcome.apdu)
            elif not isinstance(found, _ENDS):
                found = outcome
        return found

    def _note(self, unasked: Unasked) -> None:
        """Joins the segments of a notification; one that never ends is dropped."""
        self._notification += unasked.info
        if len(self._notification) > self._settings.longest_answer:
            log.info("%s: a notification is longer than an answer may be; dropped", self._name)
            self._notification = b""
        elif not unasked.segmented:
            whole, self._notification = self._notification, b""
            self._notifications.append(whole.removeprefix(LLC_IN))

    def _wire_s(self, data: bytes) -> float:
        """Time on the wire of what is sent and of the most that the meter may send in its turn."""
        parameters = self._link.parameters
        frames = (parameters.info_in + FRAME_OVERHEAD) * parameters.window_in
        return (len(data) + frames) * self._port.char_s

    def _write(self, data: bytes) -> None:
        """Sends in pieces that a port's buffer holds: it takes a window at once, slowly."""
        if self._observe is not None:
            self._observe("sent", data)
        for at in range(0, len(data), _WRITTEN_AT_ONCE):
            if at > _WRITTEN_AT_ONCE:
                self._sleep(_WRITTEN_AT_ONCE * self._port.char_s)
            self._port.write(data[at : at + _WRITTEN_AT_ONCE])

    def _wait_for_silence(self) -> None:
        pause_s = self._free_at_s - self._now_s()
        if pause_s > 0:
            self._sleep(pause_s)
