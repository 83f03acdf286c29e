"""The client against a far end that answers whatever a test tells it to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.client import Client
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AnswerTooLarge,
    DlmsError,
    ServiceRefused,
)
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.security.settings import Security
from agent.line.port import PortLost
from hil.line.responder import Answer
from hil.meters.dlms.hdlc import Ear, Station

CLIENT = client_address(1)
METER = server_address("1/17")


def aare(conformance: int = 0x001214, max_pdu: int = 1200) -> bytes:
    """An accepted association; by default GET, with list, with blocks and with selection."""
    return (
        bytes.fromhex("6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400")
        + conformance.to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
        + b"\x00\x07"
    )


VALUE = Attribute.parse("1/0.0.96.1.0.255/2")
Say = Callable[[bytes], bytes]


class Scripted:
    """A `Port` with one station at its far end, which says what `say` returns to each APDU."""

    char_s = 1e-5

    def __init__(self, say: Say, aare: bytes = aare()) -> None:
        self._aare = aare
        self.asked: list[bytes] = []
        self.controls: list[int] = []
        self._ear = Ear()
        self._waiting = b""
        self._station = Station(lambda sap, request: [self._answer(say, request)], lambda: None)

    def _answer(self, say: Say, request: bytes) -> bytes:
        apdu = request[3:]
        self.asked.append(apdu)
        return b"\xe6\xe7\x00" + (self._aare if apdu[0] == 0x60 else say(apdu))

    def write(self, data: bytes) -> None:
        for heard in self._ear.hear(data):
            self.controls.append(heard.control)
            self._waiting += Answer(self._station.receive(heard)).data

    def read(self, at_least: int, deadline_s: float) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def discard(self) -> bytes:
        return self.read(1, 0.0)


def a_client(port: Scripted, **changes: object) -> Client:
    settings = LinkSettings(gap_s=0.0, response_s=0.01, **changes)
    carrier = HdlcCarrier(
        port, settings, client_address=CLIENT, server_address=METER, name="a meter"
    )
    return Client(
        carrier,
        Security(mechanism="lls", password=b"secret"),
        name="a meter",
        release=settings.release,
    )


def block(apdu: bytes, number: int, data: bytes, *, last: bool) -> bytes:
    return (
        bytes([0xC4, 2, apdu[2], last])
        + number.to_bytes(4, "big")
        + b"\x00"
        + bytes([len(data)])
        + data
    )


def test_an_empty_last_block_ends_a_value():
    port = Scripted(
        lambda apdu: (
            block(apdu, 1, b"\x11\x05", last=False)
            if apdu[1] == 1
            else block(apdu, 2, b"", last=True)
        )
    )
    with a_client(port) as client:
        assert client.get(VALUE) == 5


def test_blocks_without_data_are_not_asked_for_for_ever():
    port = Scripted(
        lambda apdu: block(
            apdu, 1 if apdu[1] == 1 else int.from_bytes(apdu[3:7], "big") + 1, b"", last=False
        )
    )
    with pytest.raises(AnswerMalformed, match="block 2 is empty"), a_client(port) as client:
        client.get(VALUE)


def test_a_block_out_of_order_is_refused():
    port = Scripted(lambda apdu: block(apdu, 1 if apdu[1] == 1 else 3, b"\x11", last=False))
    with pytest.raises(AnswerMalformed, match="expected block 2, came 3"), a_client(port) as client:
        client.get(VALUE)


def test_blocks_beyond_the_limit_are_refused():
    port = Scripted(
        lambda apdu: block(
            apdu,
            1 if apdu[1] == 1 else int.from_bytes(apdu[3:7], "big") + 1,
            bytes(100),
            last=False,
        )
    )
    client = a_client(port, longest_answer=1000)
    with pytest.raises(AnswerTooLarge, match="slice_rows"), client:
        client.get(VALUE)
    assert len(port.asked) < 15


def test_bytes_after_a_value_are_tolerated():
    port = Scripted(lambda apdu: bytes([0xC4, 1, apdu[2], 0, 0x11, 5, 0xFF, 0xFF]))
    with a_client(port) as client:
        assert client.get(VALUE) == 5


def test_a_refusal_names_meter_object_and_result():
    port = Scripted(lambda apdu: bytes([0xC4, 1, apdu[2], 1, 4]))
    with pytest.raises(AccessRefused) as error, a_client(port) as client:
        client.get(VALUE)
    for part in ("a meter", "1/0.0.96.1.0.255/2", "object-undefined"):
        assert part in str(error.value)


def test_an_exception_response_is_said_and_the_link_closed():
    port = Scripted(lambda apdu: b"\xd8\x01\x02")
    with pytest.raises(ServiceRefused, match="a meter"), a_client(port) as client:
        client.get(VALUE)
    assert port.controls[-1] == 0x53


@pytest.mark.parametrize("answer", ["d80102", "6303800100", "6311800100be0f", "00"])
def test_whatever_answers_a_release_the_link_is_closed(answer):
    port = Scripted(lambda apdu: bytes.fromhex(answer))
    with a_client(port, release=True):
        pass
    assert port.asked[-1][0] == 0x62
    assert port.controls[-1] == 0x53


def test_an_error_of_the_callers_own_ends_in_disc_too():
    port = Scripted(lambda apdu: b"")
    with pytest.raises(ZeroDivisionError), a_client(port):
        raise ZeroDivisionError
    assert port.controls[-1] == 0x53


def test_a_lost_port_is_passed_on_and_not_written_to_again():
    port = Scripted(lambda apdu: b"")
    with pytest.raises(PortLost), a_client(port):
        raise PortLost
    assert port.controls[-1] != 0x53


def test_a_meter_without_lists_is_asked_one_by_one():
    port = Scripted(lambda apdu: bytes([0xC4, 1, apdu[2], 0, 0x11, 5]), aare(0x10, 0))
    with a_client(port) as client:
        assert client.get_many([VALUE, VALUE]) == [5, 5]


def test_a_list_is_cut_to_what_the_meter_takes():
    def say(apdu: bytes) -> bytes:
        return bytes([0xC4, 3, apdu[2], apdu[3]]) + b"\x00\x11\x05" * apdu[3]

    port = Scripted(say, aare(0x210, 40))
    with a_client(port) as client:
        assert client.get_many([VALUE] * 7) == [5] * 7
    assert max(map(len, port.asked[1:])) <= 40


@given(st.binary(max_size=80), st.booleans(), st.booleans())
def test_any_answer_gives_a_value_or_a_dlms_error(answer, framed, lists):
    port = Scripted(
        lambda apdu: (bytes([0xC4, 3 if lists else 1, apdu[2]]) if framed else b"") + answer
    )
    try:
        with a_client(port) as client:
            if lists:
                assert len(client.get_many([VALUE, VALUE])) == 2
            else:
                client.get(VALUE)
    except DlmsError:
        pass
    assert port.controls[-1] == 0x53


def test_reading_plain_meters_loads_no_cryptography():
    code = (
        "import sys, agent.dlms.driver; "
        "heavy = {'cryptography', 'numpy', 'serial', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
