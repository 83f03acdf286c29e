"""One client of one meter: association, GET, SET and ACTION in all forms; the link always ends.

The carrier bounds the time of every exchange, and no answer without the
protection that `Security` demands is used. All errors are `ReadError`s but
`PortLost`, which passes through.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.association import PROPOSED, RELEASE_REQUEST, Association
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.apdu.get import (
    GetAnswer,
    get_list_request,
    get_next_request,
    get_request,
    get_response,
    list_results,
    value_and_rest,
)
from agent.dlms.apdu.refusal import action_result_name, result_name
from agent.dlms.blocks import Block, joined
from agent.dlms.channel import Channel, ObserveApdu
from agent.dlms.constants import Conformance, GetKind
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AnswerTooLarge,
    AssociationSilent,
    DlmsError,
    MeterDiffers,
    NoAnswer,
    RequestTooLong,
    said_by,
)
from agent.dlms.handshake import associate
from agent.dlms.link.carrier import Carrier
from agent.dlms.security.settings import Security, usable
from agent.line.port import PortLost

if TYPE_CHECKING:
    from agent.dlms.apdu.action import ActionAnswer

log = logging.getLogger(__name__)

INVOKE_IDS: Final = range(1, 16)
"""Each request takes the next, so that no late answer passes for the one to another request."""
_LIST_ITEM_BYTES: Final = 10
_LIST_HEAD_BYTES: Final = 5
_HIGHEST_COUNTER: Final = 0xFFFFFFFF


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
        general_blocks: bool = False,
        release: bool = False,
        exchange_s: float = 60.0,
        observe_apdu: ObserveApdu | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        invoke_ids: Sequence[int] = INVOKE_IDS,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """What is proposed, and how the association ends; raises ValueError for unusable keys.

        `max_pdu` is the longest APDU in bytes that the meter may send. `lists`:
        GET with list; `general_blocks`: general block transfer; `release`: RLRQ
        is sent before the link ends. `exchange_s`: what all blocks of one answer
        may take, in s of `now_s`. `random_bytes` makes challenges and dedicated keys.
        """
        if security.ciphering != "none" or security.mechanism == "hls-gmac":
            usable(security)
        self._carrier = carrier
        self._security = security
        self.name: Final = name
        self._max_pdu = max_pdu
        self._proposed = (
            PROPOSED
            | (Conformance.MULTIPLE_REFERENCES if lists else 0)
            | (Conformance.GENERAL_BLOCK_TRANSFER if general_blocks else 0)
            | (Conformance.GENERAL_PROTECTION if security.ciphering == "general-global" else 0)
        )
        self._release = release
        self._observe = observe_apdu
        self._exchange_s = exchange_s
        self._now_s = now_s
        self._random_bytes = random_bytes
        self._invoke_ids: Iterator[int] = itertools.cycle(invoke_ids)
        self._association = Association(0, 0)
        self._channel = self._new_channel()
        self._associated = False

    def __enter__(self) -> Client:
        with ExitStack() as whatever_happens:
            whatever_happens.push(self.__exit__)
            self.open()
            whatever_happens.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, PortLost):
            self.close()

    def open(self) -> None:
        """Link and association; a meter that does not prove itself is left.

        Raises NoAnswer, AssociationSilent, LinkRefused, AssociationRefused,
        CounterBehind, ProtectionFailed, AnswerMalformed and CountersExhausted.
        """
        self._carrier.open()
        self._channel = self._new_channel()
        with said_by(self.name):
            try:
                self._association = associate(
                    self._channel,
                    self._security,
                    conformance=self._proposed,
                    max_pdu=self._max_pdu,
                    random_bytes=self._random_bytes,
                    invoke_ids=self._invoke_ids,
                )
            except NoAnswer as error:
                raise AssociationSilent(str(error)) from error
        self._associated = True

    def close(self) -> None:
        """Release, and the link's end; a meter that does not answer is not an error here.

        Meters answer RLRQ in odd ways (an exception, a length that is wrong);
        whatever comes, the association is over.
        """
        associated, self._associated = self._associated, False
        if associated and self._release:
            try:
                self._channel.request_in_clear(RELEASE_REQUEST, "RLRQ", tries=1)
            except DlmsError as error:
                log.debug("%s: release not confirmed: %s", self.name, error)
        self._carrier.close()

    def get(self, attribute: Attribute, selection: bytes = b"") -> Any:
        """The value of one attribute; raises AccessRefused and the errors of an exchange."""
        data = self.get_data(attribute, selection)
        return self._decoded(data, str(attribute))[0]

    def get_data(self, attribute: Attribute, selection: bytes = b"") -> bytes:
        """The encoded value of one attribute, blocks joined; errors as `get`."""
        invoke = next(self._invoke_ids)
        request = get_request(invoke, attribute, selection)
        return self._collect(request, invoke, str(attribute))

    def get_many(self, attributes: Sequence[Attribute]) -> list[Any]:
        """Values in the order asked, with list when the meter has that; errors as `get`."""
        if not self._has_lists:
            return [self.get(attribute) for attribute in attributes]
        values: list[Any] = []
        size = max(
            1, min(32, (self._channel.longest_request - _LIST_HEAD_BYTES) // _LIST_ITEM_BYTES)
        )
        for at in range(0, len(attributes), size):
            values += self._get_list(attributes[at : at + size])
        return values

    def get_with_data(
        self, first: Attribute, then: Attribute, selection: bytes
    ) -> tuple[Any, bytes]:
        """The value of `first` and the encoded value of `then`; in one request if that may be."""
        invoke = next(self._invoke_ids)
        request = get_list_request(invoke, [(first, b""), (then, selection)])
        if not self._has_lists or len(request) > self._channel.longest_request:
            return self.get(first), self.get_data(then, selection)
        data = self._collect(request, invoke, f"{first} and {then}")
        with said_by(self.name):
            (refused, value), (refused_rest, rest) = value_and_rest(data)
        self._check_access(result_name, refused, str(first))
        self._check_access(result_name, refused_rest, str(then))
        return value, rest

    def set(self, attribute: Attribute, value: bytes) -> None:
        """Sets one attribute to an encoded value, in blocks if the meter takes no longer request.

        Raises AccessRefused, RequestTooLong and the errors of an exchange.
        """
        # Most meters are only read.
        from agent.dlms.apdu.set import set_block_requests, set_request

        invoke, what = next(self._invoke_ids), f"SET {attribute}"
        requests = self._cut(
            set_request(invoke, attribute, value),
            partial(set_block_requests, invoke, attribute, value),
            Conformance.BLOCK_TRANSFER_WITH_SET,
            what,
        )
        for number, request in enumerate(requests, 1):
            block = number if len(requests) > 1 else 0
            self._set_part(request, invoke, what, block, last=number == len(requests))

    def _set_part(self, request: bytes, invoke: int, what: str, block: int, *, last: bool) -> None:
        """Sends a SET or one block of it; `block` 0: it is not in blocks."""
        from agent.dlms.apdu.set import set_response

        answer = self._channel.request(request, what)
        with said_by(self.name):
            taken = set_response(answer, invoke)
        self._check_access(result_name, taken.refused, what)
        if taken.block != block or taken.last != last:
            raise AnswerMalformed(
                f"{self.name}: {what}: expected block {block} to be acknowledged"
                f"{' and the result' if last else ''}, came block {taken.block}"
            )

    def act(self, method: Method, parameters: bytes | None) -> bytes | None:
        """Invokes a method with encoded parameters; the encoded value that it returns, or None.

        In blocks if the meter takes no longer request. Raises AccessRefused,
        RequestTooLong and the errors of an exchange.
        """
        # Most meters are only read.
        from agent.dlms.apdu import action

        invoke, what = next(self._invoke_ids), str(method)
        requests = self._cut(
            action.action_request(invoke, method, parameters),
            partial(action.action_block_requests, invoke, method, parameters or b""),
            Conformance.BLOCK_TRANSFER_WITH_ACTION,
            f"ACTION {what}",
        )
        for number, request in enumerate(requests, 1):
            answer = self._action_answer(request, invoke, what)
            expected = number if number < len(requests) else 0
            if answer.taken != expected:
                wanted, came = (
                    f"block {block} acknowledged" if block else "the result"
                    for block in (expected, answer.taken)
                )
                raise AnswerMalformed(f"{self.name}: ACTION {what}: expected {wanted}, came {came}")
        if answer.block:
            data = self._joined(
                answer,
                lambda block: self._action_answer(
                    action.action_next_request(invoke, block), invoke, what
                ),
                what,
            )
            with said_by(self.name):
                return action.joined_return(data)
        if answer.data is None:
            return None
        return answer.data[: self._decoded(answer.data, what)[1]]

    @property
    def _has_lists(self) -> bool:
        return bool(self._association.conformance & Conformance.MULTIPLE_REFERENCES)

    def _cut(
        self, whole: bytes, blocks: Callable[[int], Iterator[bytes]], granted_by: int, what: str
    ) -> list[bytes]:
        """The request in one piece, or in its blocks if the meter takes no longer one."""
        longest = self._channel.longest_request
        if self._channel.general_blocks or len(whole) <= longest:
            return [whole]
        if not self._association.conformance & granted_by:
            raise RequestTooLong(
                f"{self.name}: {what} has {len(whole)} bytes, the meter takes {longest} and no "
                "blocks"
            )
        with said_by(self.name):
            return list(blocks(longest))

    def _get_list(self, attributes: Sequence[Attribute]) -> list[Any]:
        invoke = next(self._invoke_ids)
        request = get_list_request(invoke, [(attribute, b"") for attribute in attributes])
        data = self._collect(request, invoke, f"{len(attributes)} attributes")
        with said_by(self.name):
            results = list_results(data)
        if len(results) != len(attributes):
            raise AnswerMalformed(
                f"{self.name}: asked for {len(attributes)} attributes, {len(results)} came"
            )
        for attribute, (refused, _) in zip(attributes, results, strict=True):
            self._check_access(result_name, refused, str(attribute))
        return [value for _, value in results]

    def _collect(self, request: bytes, invoke: int, what: str) -> bytes:
        """The data of a GET response, its blocks asked for one by one and joined.

        After an answer that is too large the association is a new one: what is
        left of the answer must not meet the next request.
        """
        try:
            answer = self._get_answer(request, invoke, what)
            if answer.kind != GetKind.WITH_DATABLOCK:
                if answer.kind != request[1]:
                    raise AnswerMalformed(
                        f"{self.name}: GET {what}: expected an answer of kind {request[1]}, came "
                        f"kind {answer.kind} (1: one attribute, 3: a list)"
                    )
                return answer.data
            return self._joined(
                answer,
                lambda block: self._get_answer(get_next_request(invoke, block), invoke, what),
                what,
            )
        except AnswerTooLarge:
            self.close()
            self.open()
            raise

    def _joined(self, first: Block, after: Callable[[int], Block], what: str) -> bytes:
        with said_by(self.name):
            return joined(
                first,
                after,
                longest=self._channel.longest_answer,
                in_time=self._channel.in_time(what),
                what=what,
            )

    def _get_answer(self, request: bytes, invoke: int, what: str) -> GetAnswer:
        answer = self._channel.request(request, f"GET {what}")
        with said_by(self.name):
            parsed = get_response(answer, invoke)
        self._check_access(result_name, parsed.refused, what)
        return parsed

    def _action_answer(self, request: bytes, invoke: int, what: str) -> ActionAnswer:
        from agent.dlms.apdu.action import action_response

        answer = self._channel.request(request, f"ACTION {what}")
        with said_by(self.name):
            parsed = action_response(answer, invoke)
        self._check_access(action_result_name, parsed.refused, what)
        return parsed

    def _check_access(self, named: Callable[[int], str], refused: int, what: str) -> None:
        if refused:
            name = named(refused)
            raise AccessRefused(
                f"{self.name}: the meter refused {what}: {name}; check that this meter is of "
                "the class that the configuration names and that this client may do that",
                name,
            )

    def _decoded(self, data: bytes, what: str) -> tuple[Any, int]:
        """The value at the start of `data` and where it ends; some meters send more after it."""
        try:
            value, end = axdr.decode(data)
        except axdr.AxdrError as error:
            raise AnswerMalformed(f"{self.name}: {what} is malformed: {error}") from error
        if end != len(data):
            log.debug("%s: %d bytes follow the value of %s", self.name, len(data) - end, what)
        return value, end

    def _new_channel(self) -> Channel:
        return Channel(
            self._carrier,
            name=self.name,
            observe=self._observe,
            exchange_s=self._exchange_s,
            now_s=self._now_s,
        )


def read_counter(public: Client, attribute: Attribute) -> int:
    """The highest invocation counter that a meter has seen, as it tells the public client.

    `public` is a client with SAP 16, not open; `attribute` is the counter's
    object, such as 1/0.0.43.1.0.255/2. What it says is not protected: a counter
    far above ours is worth a warning before ours is raised above it. Raises
    MeterDiffers and what `Client.open` and `Client.get` raise.
    """
    with public:
        value = public.get(attribute)
    if not isinstance(value, int) or not 0 <= value <= _HIGHEST_COUNTER:
        raise MeterDiffers(
            f"{public.name}: expected an invocation counter in {attribute}, found {value!r}; check "
            "counter_object of the meter class"
        )
    return value
