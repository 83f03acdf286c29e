"""SET, ACTION and GET in blocks, through the client."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.client import Client
from agent.dlms.constants import Conformance
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    DlmsError,
    NoAnswer,
    RequestTooLong,
)
from agent.dlms.security.settings import Security
from tests.agent.dlms.secured_meter import Spoken

VALUE = Attribute.parse("1/0.0.96.1.0.255/2")
METHOD = Method.parse("7/1.0.99.1.0.255/2")
ALL = 0xFFFFFF


def aare(conformance: int, max_pdu: int) -> bytes:
    return (
        bytes.fromhex("6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400")
        + conformance.to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
        + b"\x00\x07"
    )


def a_carrier(
    say: Callable[[bytes], bytes | list[bytes]],
    *,
    conformance: int = ALL & ~Conformance.GENERAL_BLOCK_TRANSFER,
    max_pdu: int = 1200,
) -> Spoken:
    return Spoken(lambda apdu: aare(conformance, max_pdu) if apdu[0] == 0x60 else say(apdu))


def a_client(carrier: Spoken, *, general_blocks: bool = False) -> Client:
    return Client(carrier, Security(), name="meter 7", general_blocks=general_blocks)


class Settable:
    """Takes one SET, whole or in blocks, and remembers what it was set to."""

    def __init__(self, result: int = 0) -> None:
        self.value = b""
        self.blocks = 0
        self._result = result

    def __call__(self, apdu: bytes) -> bytes:
        kind, invoke = apdu[1], apdu[2]
        if kind == 1:
            assert apdu[3:12] == VALUE.descriptor()
            self.value = apdu[13:]
            return bytes([0xC5, 1, invoke, self._result])
        at = 13 if kind == 2 else 3
        assert kind == (2 if self.blocks == 0 else 3)
        last, number = apdu[at], apdu[at + 1 : at + 5]
        self.blocks += 1
        assert int.from_bytes(number, "big") == self.blocks
        size, at = axdr.read_length(apdu, at + 5)
        assert at + size == len(apdu)
        self.value += apdu[at:]
        if last:
            return bytes([0xC5, 3, invoke, self._result]) + number
        return bytes([0xC5, 2, invoke]) + number


@given(st.binary(max_size=400), st.integers(40, 300))
def test_any_value_is_set_in_requests_that_the_meter_takes(data, max_pdu):
    meter = Settable()
    carrier = a_carrier(meter, max_pdu=max_pdu)
    with a_client(carrier) as client:
        client.set(VALUE, axdr.octets(data))
    assert meter.value == axdr.octets(data)
    assert max(map(len, carrier.asked[1:])) <= max_pdu
    assert (meter.blocks > 0) == (len(axdr.octets(data)) + 13 > max_pdu)


@pytest.mark.parametrize("size", [4, 100])
def test_a_set_that_is_refused_is_named(size):
    carrier = a_carrier(Settable(result=3), max_pdu=60)
    with a_client(carrier) as client, pytest.raises(AccessRefused, match="read-write-denied"):
        client.set(VALUE, axdr.octets(bytes(size)))


def test_a_set_that_does_not_fit_and_may_not_be_cut_is_not_sent():
    carrier = a_carrier(Settable(), conformance=0x10, max_pdu=60)
    with a_client(carrier) as client, pytest.raises(RequestTooLong, match="takes 60 and no blocks"):
        client.set(VALUE, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 1


def test_what_was_not_proposed_is_not_used_even_if_the_meter_says_that_it_can():
    setting = Settable()

    def say(apdu: bytes) -> bytes:
        return setting(apdu) if apdu[0] == 0xC1 else bytes([0xC4, 1, apdu[2], 0, 0x11, 5])

    carrier = a_carrier(say, conformance=ALL, max_pdu=60)
    with Client(carrier, Security(), name="meter 7", lists=False) as client:
        assert client.get_many([VALUE, VALUE]) == [5, 5]
        client.set(VALUE, axdr.octets(bytes(100)))
    assert [apdu[:2].hex() for apdu in carrier.asked[1:4]] == ["c001", "c001", "c102"]


class Actable:
    """Takes the parameters of one ACTION, whole or in blocks, and returns them in blocks."""

    def __init__(self, result: int = 0, *, returned_in: int = 0) -> None:
        """`returned_in`: the size of the blocks that give the parameters back; 0: nothing."""
        self.parameters = b""
        self.blocks = 0
        self._result = result
        self._returned_in = returned_in

    def __call__(self, apdu: bytes) -> bytes:
        kind, invoke = apdu[1], apdu[2]
        if kind == 1:
            assert apdu[3:13] == METHOD.descriptor() + b"\x01"
            self.parameters = apdu[13:]
        elif kind != 2:
            at = 12 if kind == 4 else 3
            assert kind == (4 if self.blocks == 0 else 6)
            assert kind == 6 or apdu[3:12] == METHOD.descriptor()
            last, number = apdu[at], apdu[at + 1 : at + 5]
            self.blocks += 1
            assert int.from_bytes(number, "big") == self.blocks
            size, at = axdr.read_length(apdu, at + 5)
            assert at + size == len(apdu)
            self.parameters += apdu[at:]
            if not last:
                return bytes([0xC7, 4, invoke]) + number
        if self._result or not self._returned_in:
            return bytes([0xC7, 1, invoke, self._result, 0])
        say = in_blocks(0xC7, self.parameters, self._returned_in, empty_last=False)
        return say(apdu if kind == 2 else bytes([0xC3, 1, invoke]))


@given(st.binary(max_size=400), st.integers(40, 300), st.integers(0, 100))
def test_any_parameters_go_in_requests_that_the_meter_takes(data, max_pdu, returned_in):
    meter = Actable(returned_in=returned_in)
    carrier = a_carrier(meter, max_pdu=max_pdu)
    with a_client(carrier) as client:
        returned = client.act(METHOD, axdr.octets(data))
    assert meter.parameters == axdr.octets(data)
    assert returned == (axdr.octets(data) if returned_in else None)
    assert max(map(len, carrier.asked[1:])) <= max_pdu
    assert (meter.blocks > 0) == (len(axdr.octets(data)) + 13 > max_pdu)


@pytest.mark.parametrize("size", [4, 100])
def test_an_action_with_parameters_that_is_refused_is_named(size):
    carrier = a_carrier(Actable(result=3), max_pdu=60)
    with a_client(carrier) as client, pytest.raises(AccessRefused, match="read-write-denied"):
        client.act(METHOD, axdr.octets(bytes(size)))


def test_an_action_that_does_not_fit_and_may_not_be_cut_is_not_sent():
    carrier = a_carrier(Actable(), conformance=0x01, max_pdu=60)
    with a_client(carrier) as client, pytest.raises(RequestTooLong, match="takes 60 and no blocks"):
        client.act(METHOD, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 1


def test_a_meter_that_takes_less_than_a_block_is_asked_for_nothing():
    carrier = a_carrier(Actable(), max_pdu=20)
    with a_client(carrier) as client:
        for do in (client.act, client.set):
            with pytest.raises(RequestTooLong, match=r"meter 7.*no room"):
                do(VALUE if do == client.set else METHOD, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("c704c100000002", "expected block 1 acknowledged, came block 2 acknowledged"),
        ("c701c10000", "expected block 1 acknowledged, came the result"),
        ("c702c1010000000103090100", "expected block 1 acknowledged, came the result"),
        ("c704c10000", "ends early"),
    ],
)
def test_an_acknowledgement_of_another_block_of_an_action_is_refused(answer, said):
    def say(apdu: bytes) -> bytes:
        return bytes([0xC7, bytes.fromhex(answer)[1], apdu[2]]) + bytes.fromhex(answer)[3:]

    carrier = a_carrier(say, max_pdu=60)
    with a_client(carrier) as client, pytest.raises(AnswerMalformed, match=said):
        client.act(METHOD, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 2


def test_an_action_in_one_piece_that_is_acknowledged_like_a_block_is_refused():
    carrier = a_carrier(lambda apdu: bytes([0xC7, 4, apdu[2], 0, 0, 0, 1]))
    with a_client(carrier) as client, pytest.raises(AnswerMalformed, match="expected the result"):
        client.act(METHOD, None)


@pytest.mark.parametrize(
    "answer",
    [
        "c502c100000002",
        "c503c10000000002",
        "c503c10000000001",
        "c501c100",
        "c502c1",
    ],
)
def test_an_acknowledgement_of_another_block_is_refused(answer):
    def say(apdu: bytes) -> bytes:
        return bytes([0xC5, bytes.fromhex(answer)[1], apdu[2]]) + bytes.fromhex(answer)[3:]

    carrier = a_carrier(say, max_pdu=60)
    with a_client(carrier) as client, pytest.raises(AnswerMalformed):
        client.set(VALUE, axdr.octets(bytes(100)))
    assert len(carrier.asked) == 2


@pytest.mark.parametrize(
    ("answer", "returned"),
    [("00", None), ("0000", None), ("0001001105", b"\x11\x05"), ("000100110500ff", b"\x11\x05")],
)
def test_an_action_gives_what_the_method_returned(answer, returned):
    carrier = a_carrier(lambda apdu: bytes([0xC7, 1, apdu[2]]) + bytes.fromhex(answer))
    with a_client(carrier) as client:
        assert client.act(METHOD, b"\x0f\x00") == returned
        assert client.act(METHOD, None) == returned
    assert carrier.asked[1].endswith(METHOD.descriptor() + b"\x01\x0f\x00")
    assert carrier.asked[2].endswith(METHOD.descriptor() + b"\x00")


@pytest.mark.parametrize(
    ("answer", "said"),
    [("0300", r"read-write-denied \(3\)"), ("0f00", "long-action-aborted"), ("00010104", "(4)")],
)
def test_an_action_that_is_refused_is_named(answer, said):
    carrier = a_carrier(lambda apdu: bytes([0xC7, 1, apdu[2]]) + bytes.fromhex(answer))
    with a_client(carrier) as client, pytest.raises(AccessRefused, match=said):
        client.act(METHOD, None)


def in_blocks(tag: int, data: bytes, size: int, *, empty_last: bool) -> Callable[[bytes], bytes]:
    """A meter whose answer to a GET (c4) or an ACTION (c7) comes in blocks."""
    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    if empty_last:
        parts.append(b"")

    def say(apdu: bytes) -> bytes:
        number = int.from_bytes(apdu[3:7], "big") + 1 if apdu[1] == 2 else 1
        part = parts[number - 1]
        head = bytes([tag, 2, apdu[2], number == len(parts)]) + number.to_bytes(4, "big")
        return head + (b"\x00" if tag == 0xC4 else b"") + axdr.length(len(part)) + part

    return say


@given(st.binary(max_size=300), st.integers(1, 200), st.booleans())
def test_any_value_comes_back_from_get_in_blocks_of_any_size(data, size, empty_last):
    say = in_blocks(0xC4, axdr.octets(data), size, empty_last=empty_last)
    with a_client(a_carrier(say)) as client:
        assert client.get(VALUE) == data


@given(
    st.binary(max_size=300),
    st.integers(1, 200),
    st.booleans(),
    st.sampled_from([b"", b"\x00", b"\x00\x01\x00"]),
)
def test_any_value_comes_back_from_an_action_in_blocks_of_any_size(data, size, empty_last, before):
    value = axdr.octets(data)
    say = in_blocks(0xC7, before + value, size, empty_last=empty_last)
    with a_client(a_carrier(say)) as client:
        assert client.act(METHOD, None) == value


def test_blocks_of_an_action_without_a_value_are_refused():
    say = in_blocks(0xC7, b"\x09\x7f", 1, empty_last=False)
    with a_client(a_carrier(say)) as client, pytest.raises(AnswerMalformed, match="097f"):
        client.act(METHOD, None)


def test_what_follows_a_value_is_passed_over_and_logged(caplog):
    carrier = a_carrier(lambda apdu: bytes([0xC4, 1, apdu[2], 0, 0x11, 5, 0xAA, 0xBB]))
    with caplog.at_level(logging.DEBUG), a_client(carrier) as client:
        assert client.get(VALUE) == 5
    assert "2 bytes follow the value" in caplog.text


@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\xe0", b"\xc7\x01\xc1", b"\xc7\x04\xc1", b"\xc5\x02\xc1"]),
)
def test_any_answer_to_set_and_action_is_understood_or_an_error(data, head):
    carrier = a_carrier(lambda apdu: head + data, conformance=ALL, max_pdu=60)
    for do in (
        lambda client: client.set(VALUE, axdr.octets(bytes(100))),
        lambda client: client.act(METHOD, None),
        lambda client: client.act(METHOD, axdr.octets(bytes(100))),
    ):
        with a_client(carrier) as client:
            try:
                do(client)
            except DlmsError as error:
                assert str(error).startswith("meter 7")  # noqa: PT017


@pytest.mark.parametrize("form", ["data blocks", "general blocks"])
def test_a_meter_that_answers_in_ever_further_blocks_is_left_when_time_is_up(form):
    now_s = 0.0

    def say(apdu: bytes) -> bytes:
        nonlocal now_s
        now_s += 1.0
        if form == "general blocks":
            number = int.from_bytes(apdu[4:6], "big") + 1 if apdu[0] == 0xE0 else 1
            return b"\xe0\x00" + number.to_bytes(2, "big") + b"\x00\x00\x01\x09"
        number = int.from_bytes(apdu[3:7], "big") + 1 if apdu[1] == 2 else 1
        return bytes([0xC4, 2, apdu[2], 0]) + number.to_bytes(4, "big") + b"\x00\x01\x09"

    carrier = a_carrier(say, conformance=ALL)
    client = Client(
        carrier,
        Security(),
        name="meter 7",
        general_blocks=True,
        exchange_s=20.0,
        now_s=lambda: now_s,
    )
    with client, pytest.raises(NoAnswer, match=r"meter 7: the blocks of .* took longer than 20 s"):
        client.get(VALUE)
    assert now_s <= 22.0


def test_a_list_in_answer_to_a_get_of_one_attribute_is_not_taken_for_its_value():
    carrier = a_carrier(lambda apdu: bytes([0xC4, 3, apdu[2], 1, 0, 6, 0, 0, 0, 5]))
    with a_client(carrier) as client:
        with pytest.raises(AnswerMalformed, match="expected an answer of kind 1, came kind 3"):
            client.get(VALUE)
        with pytest.raises(AnswerMalformed, match="kind 3"):
            client.get_data(VALUE)
