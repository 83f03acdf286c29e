"""One client of one meter: association, GET in all its forms; the link always ends.

The carrier bounds the time of every exchange. All errors are `ReadError`s but
`PortLost`, which passes through.
"""

from __future__ import annotations

import logging
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
)
from agent.dlms.link.carrier import Carrier
from agent.dlms.security.settings import Security
from agent.line.port import PortLost

log = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")

_LIST_ITEM_BYTES: Final = 10
_LIST_HEAD_BYTES: Final = 5


class Client:
    """An association with one meter; use it as a context manager, which ends the link."""

    def __init__(
        self,
        carrier: Carrier,
        security: Security,
        *,
        name: str,
        max_pdu: int = 0xFFFF,
        lists: bool = True,
        release: bool = False,
    ) -> None:
        """`lists`: whether GET with list is proposed; `release`: whether RLRQ is sent at the end.

        `max_pdu` is the longest APDU in bytes that the meter may send.
        """
        self._carrier = carrier
        self._security = security
        self._name = name
        self._max_pdu = max_pdu
        self._lists = lists
        self._release = release
        self._association = Association(0, 0)
        self._opened = False
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
        """Link and AARQ; raises NoAnswer, LinkRefused, AssociationRefused, AnswerMalformed."""
        self._carrier.open()
        self._opened = True
        password = self._security.password if self._security.mechanism == "lls" else None
        request = association_request(password, self._max_pdu, lists=self._lists)
        answer = self._carrier.request(request, "AARQ")
        self._association = self._naming(lambda: association_response(answer))

    def close(self) -> None:
        """Release and the end of the link; a meter that does not answer is not an error here."""
        if self._opened and self._release:
            try:
                self._carrier.request(RELEASE_REQUEST, "RLRQ", tries=1)
            except DlmsError as error:
                log.debug("%s: release not confirmed: %s", self._name, error)
        self._opened = False
        self._carrier.close()

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
            if size > self._carrier.longest_answer:
                raise AnswerTooLarge(
                    f"{self._name}: {what} is longer than {self._carrier.longest_answer} bytes; "
                    "ask for fewer rows at a time (slice_rows of the meter class)"
                )
        return b"".join(parts)

    def _get_answer(self, request: bytes, invoke: int, what: str) -> GetAnswer:
        answer = self._carrier.request(request, f"GET {what}")
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
