"""General block transfer both ways and with losses, through the client."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.general_block import GeneralBlock, general_block
from agent.dlms.client import Client
from agent.dlms.constants import Conformance
from agent.dlms.errors import (
    AnswerMalformed,
    AnswerTooLarge,
    NoAnswer,
)
from tests.agent.dlms.secured_meter import SecuredMeter, Spoken, a_security
from tests.agent.dlms.test_dlms_client_blocks import ALL, METHOD, VALUE, a_carrier, a_client


class InPieces:
    """A meter with general block transfer; `loses` says of each piece on its way if it is lost."""

    def __init__(
        self, serve: Callable[[bytes], bytes], size: int, loses: Iterable[bool] = ()
    ) -> None:
        self._serve = serve
        self._size = size
        self._loses = iter(loses)
        self._joined = b""
        self._taken = 0
        self._pieces: list[bytes] = []
        self.windows: set[int] = set()

    def _lost(self) -> bool:
        return next(self._loses, False)

    def __call__(self, apdu: bytes) -> list[bytes]:
        if apdu[0] != 0xE0:
            return self._begin(self._serve(apdu), 1)
        piece = general_block(apdu)
        if self._pieces:
            self.windows.add(piece.window)
            return self._stream(piece.acknowledged, piece.window)
        if piece.number != self._taken + 1 or self._lost():
            return [GeneralBlock(0, self._taken, b"", last=False, window=4).encode()]
        self._taken += 1
        self._joined += piece.data
        if not piece.last:
            return [GeneralBlock(0, self._taken, b"", last=False, window=4).encode()]
        answer = self._serve(self._joined)
        return self._begin(answer, piece.window)

    def _begin(self, answer: bytes, window: int) -> list[bytes]:
        if len(answer) <= self._size and not self._taken:
            return [answer]
        self._pieces = [answer[at : at + self._size] for at in range(0, len(answer), self._size)]
        return self._stream(0, window)

    def _stream(self, acknowledged: int, window: int) -> list[bytes]:
        numbers = range(acknowledged + 1, min(acknowledged + window, len(self._pieces)) + 1)
        sent = [
            GeneralBlock(
                number,
                self._taken,
                self._pieces[number - 1],
                last=number == len(self._pieces),
                streaming=number != numbers[-1],
                window=4,
            ).encode()
            for number in numbers
        ]
        # The first of a stream is lost by the link below, which asks for it itself.
        return sent[:1] + [piece for piece in sent[1:] if not self._lost()]


@given(
    st.binary(max_size=500),
    st.binary(max_size=500),
    st.integers(30, 120),
    st.integers(1, 120),
    st.lists(st.booleans(), max_size=30),
)
def test_general_blocks_both_ways_give_the_value_or_say_that_too_much_was_lost(
    parameters, returned, max_pdu, size, loses
):
    asked: list[bytes] = []

    def serve(apdu: bytes) -> bytes:
        asked.append(apdu)
        return bytes([0xC7, 1, apdu[2], 0, 1, 0]) + axdr.octets(returned)

    carrier = a_carrier(InPieces(serve, size, loses), conformance=ALL, max_pdu=max_pdu)
    with a_client(carrier, general_blocks=True) as client:
        try:
            assert client.act(METHOD, axdr.octets(parameters)) == axdr.octets(returned)
        except NoAnswer:
            assert sum(loses) > 3
    assert max(map(len, carrier.asked[1:])) <= max_pdu
    for apdu in asked:
        assert apdu.endswith(METHOD.descriptor() + b"\x01" + axdr.octets(parameters))


@given(st.integers(0, 12), st.integers(20, 60))
def test_one_lost_piece_is_asked_for_and_comes(lost, size):
    value = axdr.octets(bytes(range(200)))
    meter = InPieces(
        lambda apdu: bytes([0xC4, 1, apdu[2], 0]) + value,
        size,
        [False] * lost + [True],
    )
    carrier = a_carrier(meter, conformance=ALL)
    with a_client(carrier, general_blocks=True) as client:
        assert client.get(VALUE) == bytes(range(200))
    assert meter.windows == {8}


@pytest.mark.parametrize("lost", range(5))
def test_a_piece_of_ours_that_is_lost_is_sent_again(lost):
    asked: list[bytes] = []

    def serve(apdu: bytes) -> bytes:
        asked.append(apdu)
        return bytes([0xC7, 1, apdu[2], 0, 0])

    meter = InPieces(serve, 200, [False] * lost + [True])
    carrier = a_carrier(meter, conformance=ALL, max_pdu=60)
    value = axdr.octets(bytes(range(200)))
    with a_client(carrier, general_blocks=True) as client:
        assert client.act(METHOD, value) is None
    assert [apdu[13:] for apdu in asked] == [value]
    numbers = [general_block(apdu).number for apdu in carrier.asked[1:]]
    assert numbers == sorted([*range(1, 6), lost + 1])


def test_without_general_blocks_none_are_proposed():
    for wanted in (False, True):
        carrier = a_carrier(lambda apdu: bytes([0xC4, 1, apdu[2], 0, 0x11, 5]), conformance=ALL)
        with a_client(carrier, general_blocks=wanted) as client:
            assert client.get(VALUE) == 5
        proposed = int.from_bytes(carrier.asked[0][-5:-2], "big")
        assert bool(proposed & Conformance.GENERAL_BLOCK_TRANSFER) == wanted


def piece(number: int, data: bytes = b"x", **habits: object) -> bytes:
    habits = {"last": False, "streaming": False} | habits
    return GeneralBlock(number, 0, data, **habits).encode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("say", "error", "said"),
    [
        (lambda number: [piece(1)], NoAnswer, "piece 2 did not come in 3 tries"),
        (lambda number: [piece(number, b"")], NoAnswer, "did not come in 3 tries"),
        (lambda number: [piece(1, streaming=True)] * 100, AnswerMalformed, "streamed 64 pieces"),
        (lambda number: [piece(number, bytes(60_000))], AnswerTooLarge, "longer than 65536 bytes"),
        (lambda number: [piece(number)[:-1]], AnswerMalformed, "says it has 1 bytes, 0 are there"),
        (lambda number: [b"\xe0\x00"], AnswerMalformed, "expected a general block"),
        (lambda number: [b"\xc4\x01"], AnswerMalformed, "expected a GET response"),
    ],
)
def test_a_meter_that_babbles_in_pieces_is_left(say, error, said):
    asked = 0

    def answer(apdu: bytes) -> list[bytes]:
        nonlocal asked
        asked += 1
        return say(asked)

    with a_client(a_carrier(answer, conformance=ALL)) as client, pytest.raises(error, match=said):
        client.get(VALUE)
    assert asked < 10


def test_an_acknowledgement_of_what_was_never_sent_is_refused():
    carrier = a_carrier(
        lambda apdu: GeneralBlock(0, 9, b"", last=False).encode(), conformance=ALL, max_pdu=60
    )
    with (
        a_client(carrier, general_blocks=True) as client,
        pytest.raises(AnswerMalformed, match="acknowledged piece 9 of 1"),
    ):
        client.act(METHOD, axdr.octets(bytes(100)))


def test_a_meter_that_asks_for_a_piece_again_and_again_is_left():
    carrier = a_carrier(
        lambda apdu: GeneralBlock(0, 0, b"", last=False).encode(), conformance=ALL, max_pdu=60
    )
    with (
        a_client(carrier, general_blocks=True) as client,
        pytest.raises(NoAnswer, match="asked 3 times for pieces again"),
    ):
        client.act(METHOD, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 5


@given(st.binary(max_size=200), st.integers(60, 200), st.integers(20, 100))
def test_ciphered_apdus_travel_in_general_blocks_whole(value, max_pdu, size):
    meter = SecuredMeter(
        lambda apdu: bytes([0xC4, 1, apdu[2], 0]) + axdr.octets(value),
        conformance=ALL,
        max_pdu=max_pdu,
    )
    pieces: list[InPieces] = []

    def say(apdu: bytes) -> bytes | list[bytes]:
        if apdu[0] == 0x60:
            return meter(apdu)
        if apdu[0] != 0xE0 or not pieces:
            pieces[:] = [InPieces(meter, size)]
        return pieces[0](apdu)

    client = Client(Spoken(say), a_security(), name="meter 7", general_blocks=True)
    with client:
        assert client.get(VALUE) == value
