"""One client of one meter: association, GET in all its forms, and always DISC at the end.

Every exchange (what is sent, and the answer up to the point where the line is
ours again) has one deadline that nothing the meter sends can move, and a
limited number of tries in it. So no call blocks on a silent or a babbling
meter. All errors are `ReadError`s but `PortLost`, which passes through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from agent.dlms import axdr
from agent.dlms.apdu.association import (
    RELEASE_REQUEST,
    Association,
    association_request,
    association_response,
)
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.get import (
    GetAnswer,
    get_list_request,
    get_next_request,
    get_request,
    get_response,
    list_results,
    value_and_rest,
)
from agent.dlms.apdu.refusal import result_name
from agent.dlms.constants import Conformance, GetKind
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AnswerTooLarge,
    DlmsError,
    LinkLost,
    LinkRefused,
    NoAnswer,
)
from agent.dlms.link.frame import FRAME_OVERHEAD, LinkParameters
from agent.dlms.link.hdlc import Failed, Link, Message, Opened, Outcome, Send
from agent.dlms.link.settings import LinkSettings
from agent.line.port import Port, PortLost

log = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")

_GOODBYE_S: Final = 0.2
"""How long the answer to DISC is waited for when the link never came up."""
_AWAITED_AT_ONCE: Final = 16
"""Bytes per wake-up at most: a line may be quicker than its baud rate says (a PTY, USB)."""
_LIST_ITEM_BYTES: Final = 10
_LIST_HEAD_BYTES: Final = 5


class Client:
    """An association with one meter; use it as a context manager, which ends in DISC."""

    def __init__(
        self,
        port: Port,
        settings: LinkSettings,
        *,
        client_address: bytes,
        server_address: bytes,
        password: bytes | None,
        name: str,
    ) -> None:
        self._port = port
        self._settings = settings
        self._password = password
        self._name = name
        self._link = Link(
            client_address,
            server_address,
            LinkParameters(settings.max_info, settings.max_info, 1, settings.window),
            longest_answer=settings.longest_answer,
        )
        self._association = Association(0, 0)
        self._opened = False
        self._free_at_s = float("-inf")
        self._invoke = 0

    def __enter__(self) -> Client:
        try:
            self.open()
        except DlmsError:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, PortLost):
            self.close()

    def open(self) -> None:
        """SNRM and AARQ; raises NoAnswer, LinkRefused, AssociationRefused, AnswerMalformed."""
        self._port.discard()
        outcome = self._exchange(self._link.open(), "SNRM")
        if not isinstance(outcome, Opened):
            raise AnswerMalformed(f"{self._name}: SNRM led to {outcome}")
        self._opened = True
        request = association_request(
            self._password, self._settings.max_pdu, lists=self._settings.lists
        )
        answer = self._request(request, "AARQ")
        self._association = self._naming(lambda: association_response(answer))

    def close(self) -> None:
        """Release and DISC, with one try each; a meter that does not answer is not an error here.

        The reading is in hand or lost by then, and the meter ends the link by
        itself after its inactivity time.
        """
        if self._opened and self._settings.release:
            try:
                self._request(RELEASE_REQUEST, "RLRQ", tries=1)
            except DlmsError as error:
                log.debug("%s: release not confirmed: %s", self._name, error)
        wait_s = self._settings.response_s if self._opened else _GOODBYE_S
        self._opened = False
        try:
            self._exchange(self._link.close(), "DISC", tries=1, response_s=wait_s)
        except DlmsError as error:
            log.debug("%s: disconnect not confirmed: %s", self._name, error)

    def get(self, attribute: Attribute, selection: bytes = b"") -> Any:
        """The value of one attribute; raises AccessRefused and the errors of an exchange."""
        data = self.get_data(attribute, selection)
        try:
            value, end = axdr.decode(data)
        except axdr.AxdrError as error:
            raise AnswerMalformed(f"{self._name}: {attribute} is malformed: {error}") from error
        if end != len(data):
            log.debug("%s: %d bytes follow the value of %s", self._name, len(data) - end, attribute)
        return value

    def get_data(self, attribute: Attribute, selection: bytes = b"") -> bytes:
        """The encoded value of one attribute, blocks joined; errors as `get`."""
        invoke = self._next_invoke()
        request = get_request(invoke, attribute, selection)
        return self._collect(request, invoke, str(attribute))

    def get_many(self, attributes: Sequence[Attribute]) -> list[Any]:
        """Values in the order asked, with list when the meter has that; errors as `get`."""
        if not self._has_lists:
            return [self.get(attribute) for attribute in attributes]
        values: list[Any] = []
        size = max(1, min(32, (self._longest_request - _LIST_HEAD_BYTES) // _LIST_ITEM_BYTES))
        for at in range(0, len(attributes), size):
            values += self._get_list(attributes[at : at + size])
        return values

    def get_with_data(
        self, first: Attribute, then: Attribute, selection: bytes
    ) -> tuple[Any, bytes]:
        """The value of `first` and the encoded value of `then`; in one request if that may be."""
        invoke = self._next_invoke()
        request = get_list_request(invoke, [(first, b""), (then, selection)])
        if not self._has_lists or len(request) > self._longest_request:
            return self.get(first), self.get_data(then, selection)
        data = self._collect(request, invoke, f"{first} and {then}")
        (refused, value), (refused_rest, rest) = self._naming(lambda: value_and_rest(data))
        self._check_access(refused, str(first))
        self._check_access(refused_rest, str(then))
        return value, rest

    @property
    def _has_lists(self) -> bool:
        return bool(self._association.conformance & Conformance.MULTIPLE_REFERENCES)

    @property
    def _longest_request(self) -> int:
        return self._association.max_pdu or 0xFFFF

    def _get_list(self, attributes: Sequence[Attribute]) -> list[Any]:
        invoke = self._next_invoke()
        request = get_list_request(invoke, [(attribute, b"") for attribute in attributes])
        data = self._collect(request, invoke, f"{len(attributes)} attributes")
        results = self._naming(lambda: list_results(data))
        if len(results) != len(attributes):
            raise AnswerMalformed(
                f"{self._name}: asked for {len(attributes)} attributes, {len(results)} came"
            )
        for attribute, (refused, _) in zip(attributes, results, strict=True):
            self._check_access(refused, str(attribute))
        return [value for _, value in results]

    def _collect(self, request: bytes, invoke: int, what: str) -> bytes:
        """The data of a GET response, its blocks asked for one by one and joined."""
        answer = self._get_answer(request, invoke, what)
        if answer.kind != GetKind.WITH_DATABLOCK:
            return answer.data
        parts = [answer.data]
        size, block = len(answer.data), answer.block
        while not answer.last:
            answer = self._get_answer(get_next_request(invoke, block), invoke, what)
            if answer.kind != GetKind.WITH_DATABLOCK or answer.block != block + 1:
                raise AnswerMalformed(
                    f"{self._name}: {what}: expected block {block + 1}, came {answer.block}"
                )
            if not answer.data and not answer.last:
                raise AnswerMalformed(f"{self._name}: {what}: block {answer.block} is empty")
            block = answer.block
            parts.append(answer.data)
            size += len(answer.data)
            if size > self._settings.longest_answer:
                raise AnswerTooLarge(
                    f"{self._name}: {what} is longer than {self._settings.longest_answer} bytes; "
                    "ask for fewer rows at a time (slice_rows of the meter class)"
                )
        return b"".join(parts)

    def _get_answer(self, request: bytes, invoke: int, what: str) -> GetAnswer:
        answer = self._request(request, f"GET {what}")
        parsed = self._naming(lambda: get_response(answer, invoke))
        self._check_access(parsed.refused, what)
        return parsed

    def _check_access(self, refused: int, what: str) -> None:
        if refused:
            name = result_name(refused)
            raise AccessRefused(
                f"{self._name}: the meter refused {what}: {name}; check that this meter is of "
                "the class that the configuration names and that the password may read it",
                name,
            )

    def _naming(self, parse: Callable[[], Parsed]) -> Parsed:
        """Runs a parser that does not know which meter speaks, and adds the meter to its error."""
        try:
            return parse()
        except DlmsError as error:
            raise type(error)(f"{self._name}: {error}") from error

    def _next_invoke(self) -> int:
        self._invoke = self._invoke % 15 + 1
        return self._invoke

    def _request(self, request: bytes, what: str, *, tries: int | None = None) -> bytes:
        outcome = self._exchange(self._link.ask(request), what, tries=tries)
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
