"""The TCP wrapper: packets cut at any place, and connections that end when anything is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, DlmsError, LinkLost, NoAnswer
from agent.dlms.link.settings import LinkSettings
from agent.dlms.link.wrapper import Packet, PacketCutter, WrapperCarrier
from agent.line.port import PortLost

PORTS = st.integers(0, 0xFFFF)
PACKETS = st.builds(Packet, PORTS, PORTS, st.binary(min_size=1, max_size=300))
ANSWER = Packet(1, 16, b"\xc4\x01\xc1\x00\x00")


class FarEnd:
    """A `Port` to a far end that answers each request with what `answers` says."""

    char_s = 0.0
    opened_at_s = 0.0

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer = answer
        self.now_s = 0.0
        self.waiting: list[bytes] = []
        self.sent: list[bytes] = []
        self.closed = 0

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        self.waiting += self.answer(data)

    def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
        assert at_least > 0
        if not self.waiting:
            self.now_s = max(self.now_s, deadline_s)
            return b""
        self.now_s += 0.4
        return self.waiting.pop(0)

    def discard(self) -> bytes:
        data, self.waiting = b"".join(self.waiting), []
        return data

    def close(self) -> None:
        self.closed += 1
        self.waiting.clear()


def a_carrier(answer: Callable[[bytes], list[bytes]], **settings) -> tuple[WrapperCarrier, FarEnd]:
    far = FarEnd(answer)
    carrier = WrapperCarrier(
        far,
        LinkSettings(**settings),
        client_sap=16,
        server_wport=1,
        name="DLMS meter 1",
        now_s=lambda: far.now_s,
    )
    carrier.open()
    return carrier, far


def test_a_head_is_as_the_standard_has_it():
    assert Packet(16, 1, b"\xc0\x01").encode().hex() == "0001001000010002c001"


@given(st.lists(PACKETS, max_size=5), st.data())
def test_packets_come_out_as_they_went_in_wherever_the_stream_is_cut(packets, data):
    stream = b"".join(packet.encode() for packet in packets)
    cutter, found = PacketCutter(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        assert cutter.needed > 0
        found += cutter.feed(stream[:size])
        stream = stream[size:]
    assert found == packets


@given(st.binary(max_size=200))
def test_any_bytes_give_packets_or_a_typed_error(data):
    cutter = PacketCutter(100)
    try:
        assert all(packet.apdu for packet in cutter.feed(data))
    except DlmsError:
        return
    assert cutter.needed > 0


def test_an_answer_in_pieces_is_one_answer():
    carrier, far = a_carrier(lambda sent: [bytes([byte]) for byte in ANSWER.encode()])
    assert carrier.request(b"\xc0\x01", "GET") == ANSWER.apdu
    assert far.sent == [bytes.fromhex("0001001000010002c001")]


def test_further_apdus_and_notifications_are_told_apart():
    pushed = Packet(1, 16, b"\x0f\x00\x00\x00\x01\x00\x00")
    stream = ANSWER.encode() + pushed.encode() + Packet(1, 16, b"\xe0\x80").encode()
    carrier, _ = a_carrier(lambda sent: [stream])
    assert carrier.request(b"\xc0\x01", "GET") == ANSWER.apdu
    assert carrier.more("a block") == b"\xe0\x80"
    assert carrier.take_notifications() == [pushed.apdu]
    assert carrier.take_notifications() == []


def test_a_notification_to_another_client_is_no_answer_and_no_fault():
    pushed = Packet(1, 103, b"\x0f\x00\x00\x00\x01\x00\x00")
    carrier, far = a_carrier(lambda sent: [pushed.encode() + ANSWER.encode()])
    assert carrier.request(b"\xc0\x01", "GET") == ANSWER.apdu
    assert carrier.take_notifications() == [pushed.apdu]
    assert far.closed == 0


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([], NoAnswer, "nothing came for 1.0 s"),
        ([b"\x00\x01"], NoAnswer, "nothing came"),
        ([b"\x7e\xa0\x07\x03\x21\x93\x0f\x01\x7e"], AnswerMalformed, 'framing = "hdlc"'),
        ([Packet(2, 16, b"\xc4").encode()], AnswerMalformed, "from wPort 1 to 16"),
        ([Packet(1, 1, b"\xc4").encode()], AnswerMalformed, "check server_address"),
        ([b"\x00\x01\x00\x01\x00\x10\xff\xff"], AnswerTooLarge, "65535 bytes was announced"),
    ],
)
def test_what_does_not_fit_ends_the_connection(answers, error, message):
    carrier, far = a_carrier(lambda sent: list(answers), longest_answer=1000)
    with pytest.raises(error, match=message) as raised:
        carrier.request(b"\xc0\x01", "GET")
    assert "DLMS meter 1: " in str(raised.value)
    assert far.closed == 1
    with pytest.raises(LinkLost, match="open it anew"):
        carrier.request(b"\xc0\x01", "GET")


def test_bytes_that_trickle_do_not_move_the_deadline():
    carrier, far = a_carrier(lambda sent: [b"\x00", b"\x01"] + [b"\x00"] * 1000, exchange_s=2.0)
    with pytest.raises(NoAnswer):
        carrier.request(b"\xc0\x01", "GET")
    assert far.now_s <= 2.5


def test_a_connection_that_is_lost_is_open_no_longer():
    def lost(sent: bytes) -> list[bytes]:
        raise PortLost("the far end closed it")

    carrier, _ = a_carrier(lost)
    with pytest.raises(PortLost):
        carrier.request(b"\xc0\x01", "GET")
    with pytest.raises(LinkLost):
        carrier.request(b"\xc0\x01", "GET")


def test_a_late_answer_never_meets_a_later_request():
    carrier, far = a_carrier(lambda sent: [])
    with pytest.raises(NoAnswer):
        carrier.request(b"\xc0\x01", "GET")
    far.waiting.append(Packet(1, 16, b"\xc4late").encode())
    carrier.open()
    far.answer = lambda sent: [ANSWER.encode()]
    assert carrier.request(b"\xc0\x01", "GET") == ANSWER.apdu


def test_what_is_sent_and_heard_can_be_watched():
    watched: list[tuple[str, bytes]] = []
    far = FarEnd(lambda sent: [ANSWER.encode()])
    carrier = WrapperCarrier(
        far,
        LinkSettings(),
        client_sap=16,
        server_wport=1,
        name="meter",
        observe=lambda direction, data: watched.append((direction, data)),
        now_s=lambda: far.now_s,
    )
    carrier.open()
    carrier.request(b"\xc0", "GET")
    carrier.close()
    assert watched == [("sent", far.sent[0]), ("heard", ANSWER.encode())]
    assert far.closed == 1
