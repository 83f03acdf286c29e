"""HDLC on a serial line or a TCP gateway: what is sent, and how long an answer is awaited.

Every exchange (what is sent, and the answer up to the point where the line is
ours again) has one deadline that nothing the meter sends can move, and a
limited number of tries in it. So no call blocks on a silent or a babbling
meter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from agent.dlms.errors import AnswerMalformed, DlmsError, LinkLost, LinkRefused, NoAnswer
from agent.dlms.link.frame import FRAME_OVERHEAD, LinkParameters
from agent.dlms.link.hdlc import Failed, Link, Message, Opened, Outcome, Send
from agent.dlms.link.settings import LinkSettings
from agent.line.port import Port

log = logging.getLogger(__name__)

Observe = Callable[[str, bytes], None]
"""Called with "sent" or "heard" and the raw bytes."""

_GOODBYE_S: Final = 0.2
"""How long the answer to DISC is waited for when the link never came up."""
_AWAITED_AT_ONCE: Final = 16
"""Bytes per wake-up at most: a line may be quicker than its baud rate says (a PTY, USB)."""


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
    ) -> None:
        self._port = port
        self._settings = settings
        self._name = name
        self._observe = observe
        self._link = Link(
            client_address,
            server_address,
            LinkParameters(settings.max_info, settings.max_info, 1, settings.window),
            longest_answer=settings.longest_answer,
        )
        self._opened = False
        self._free_at_s = float("-inf")

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        return self._settings.longest_answer

    def open(self) -> None:
        """SNRM; raises NoAnswer, LinkRefused, AnswerMalformed, PortLost."""
        self._port.discard()
        outcome = self._exchange(self._link.open(), "SNRM")
        if not isinstance(outcome, Opened):
            raise AnswerMalformed(f"{self._name}: SNRM led to {outcome}")
        self._opened = True

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """The answer to `apdu`; raises NoAnswer, LinkLost, AnswerMalformed, PortLost."""
        return self._message(self._link.ask(apdu), what, tries)

    def more(self, what: str) -> bytes:
        """A further APDU of the meter's without another request; errors as `request`."""
        return self._message(self._link.more(), what, None)

    def close(self) -> None:
        """DISC, with one try; a meter that does not answer is not an error here.

        The reading is in hand or lost by then, and the meter ends the link by
        itself after its inactivity time.
        """
        wait_s = self._settings.response_s if self._opened else _GOODBYE_S
        self._opened = False
        try:
            self._exchange(self._link.close(), "DISC", tries=1, response_s=wait_s)
        except DlmsError as error:
            log.debug("%s: disconnect not confirmed: %s", self._name, error)

    def _message(self, data: bytes, what: str, tries: int | None) -> bytes:
        outcome = self._exchange(data, what, tries=tries)
        if not isinstance(outcome, Message):
            raise AnswerMalformed(f"{self._name}: {what} led to {outcome}")
        return outcome.apdu

    def _exchange(
        self, data: bytes, what: str, *, tries: int | None = None, response_s: float | None = None
    ) -> Outcome:
        """Sends, and follows the link until it has an outcome; each turn has its own deadline.

        Raises NoAnswer, LinkLost or LinkRefused.
        """
        self._wait_for_silence()
        while True:
            outcome = self._turn(data, what, tries or self._settings.tries, response_s)
            self._free_at_s = time.monotonic() + self._settings.gap_s
            if not isinstance(outcome, Send):
                break
            data = outcome.data
        if isinstance(outcome, Failed):
            kind = LinkRefused if outcome.refused else LinkLost
            raise kind(f"{self._name}: {what}: {outcome.reason}")
        return outcome

    def _turn(self, data: bytes, what: str, tries: int, response_s: float | None) -> Outcome:
        """One transmission and what it leads to, sent again until an answer or the last try."""
        response_s = self._settings.response_s if response_s is None else response_s
        deadline_s = time.monotonic() + tries * (response_s + self._wire_s(data))
        for tried in range(tries):
            if tried:
                self._port.discard()
                data = self._link.again()
            self._port.write(data)
            outcome = self._await(len(data) * self._port.char_s + response_s, deadline_s)
            if outcome is not None:
                return outcome
        raise NoAnswer(
            f"{self._name}: no answer to {what} in {tries} tries of {response_s:.1f} s "
            f"({self._link.damaged} damaged frames so far); check wiring, baud rate, "
            "server_address and client_sap"
        )

    def _await(self, first_byte_s: float, deadline_s: float) -> Outcome | None:
        """What the meter's frames lead to; None once it is silent for too long or time is up."""
        silence_s = first_byte_s
        while True:
            wait_until_s = min(deadline_s, time.monotonic() + silence_s)
            data = self._port.read(min(self._link.needed, _AWAITED_AT_ONCE), wait_until_s)
            if not data:
                return None
            outcomes = self._link.receive(data)
            if outcomes:
                return outcomes[-1]
            if time.monotonic() >= deadline_s:
                return None
            silence_s = self._link.needed * self._port.char_s + self._settings.pause_s

    def _wire_s(self, data: bytes) -> float:
        """Time on the wire of what is sent and of the most that the meter may send in its turn."""
        parameters = self._link.parameters
        frames = (parameters.info_in + FRAME_OVERHEAD) * parameters.window_in
        return (len(data) + frames) * self._port.char_s

    def _wait_for_silence(self) -> None:
        pause_s = self._free_at_s - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
