"""What meters say without being asked: plain, in general blocks, ciphered, damaged."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.general_block import GeneralBlock, general_block
from agent.dlms.apdu.notification import Notification, Notifications, data_notification
from agent.dlms.errors import (
    AnswerMalformed,
    AnswerTooLarge,
    DlmsError,
    KeysMissing,
    ReplyReplayed,
)
from agent.dlms.security.cipher import PushCipher
from tests.agent.dlms.secured_meter import KEYS, ciphered

CLOCK = bytes.fromhex("07ea05040113131e00ff8880")


def a_push(value: bytes, head: bytes = b"\x0c" + CLOCK) -> bytes:
    return b"\x0f\xc0\x00\x12\x34" + head + value


@pytest.mark.parametrize(
    ("head", "date_time"),
    [(b"\x00", None), (b"\x0c" + CLOCK, CLOCK), (b"\x09\x0c" + CLOCK, CLOCK), (b"\x09\x00", None)],
)
@given(data=st.binary(max_size=200), tail=st.binary(max_size=4))
def test_a_notification_gives_its_value_with_any_form_of_date_time(head, date_time, data, tail):
    push = a_push(axdr.octets(data), head) + tail
    assert data_notification(push) == Notification(0x1234, date_time, data, tail)


@pytest.mark.parametrize(
    ("push", "said"),
    [
        (b"\x0f\x00\x00\x00", "expected a data-notification"),
        (b"\xc4" + bytes(20), "expected a data-notification"),
        (a_push(b"\x11\x05", b"\x05" + bytes(5)), "date-time of 0 or 12 bytes.*found 5"),
        (a_push(b""), "malformed"),
        (a_push(b"\x11"), "malformed"),
    ],
)
def test_a_notification_that_is_none_is_refused(push, said):
    with pytest.raises(AnswerMalformed, match=said):
        data_notification(push)


def pieces(apdu: bytes, size: int) -> list[bytes]:
    """An APDU as a meter streams it without being answered."""
    parts = [apdu[at : at + size] for at in range(0, len(apdu), size)]
    return [
        GeneralBlock(
            number, 0, part, last=number == len(parts), streaming=number < len(parts), window=0
        ).encode()
        for number, part in enumerate(parts, 1)
    ]


@given(st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=4), st.integers(1, 99))
def test_any_notifications_come_through_in_blocks_of_any_size_and_ciphered(said, size):
    listener = Notifications(PushCipher(KEYS[0]).reveal)
    for counter, (data, in_blocks) in enumerate(said):
        push = ciphered(a_push(axdr.octets(data)), counter, 0xDB)
        heard = [listener.receive(apdu) for apdu in (pieces(push, size) if in_blocks else [push])]
        assert heard[:-1] == [None] * (len(heard) - 1)
        assert heard[-1] == Notification(0x1234, CLOCK, data)


@given(st.data(), st.binary(min_size=20, max_size=100), st.integers(1, 10))
def test_a_notification_that_lacks_a_piece_is_never_given(data, value, size):
    sent = pieces(a_push(axdr.octets(value)), size)
    lost = data.draw(st.integers(0, len(sent) - 1))
    listener = Notifications()
    for apdu in sent[:lost] + sent[lost + 1 :]:
        with contextlib.suppress(AnswerMalformed):
            assert listener.receive(apdu) is None
    whole = [listener.receive(apdu) for apdu in sent]
    assert whole[-1] == Notification(0x1234, CLOCK, value)


def test_pieces_do_not_pile_up_without_end():
    listener = Notifications(longest=1000)
    for number in range(1, 11):
        piece = GeneralBlock(number, 0, bytes(100), last=False, streaming=True)
        assert listener.receive(piece.encode()) is None
    with pytest.raises(AnswerTooLarge, match="longer than 1000 bytes"):
        listener.receive(GeneralBlock(11, 0, b"\x00", last=False, streaming=True).encode())


def test_a_ciphered_notification_without_keys_names_its_meter():
    with pytest.raises(KeysMissing, match=b"METERONE".hex()):
        Notifications().receive(ciphered(a_push(axdr.NULL), 1, 0xDB))


def test_a_notification_that_was_heard_before_is_refused():
    listener = Notifications(PushCipher(KEYS[0]).reveal)
    push = ciphered(a_push(axdr.NULL), 1, 0xDB)
    assert listener.receive(push) is not None
    with pytest.raises(ReplyReplayed):
        listener.receive(push)


def test_a_plain_notification_of_a_meter_with_keys_is_refused():
    with pytest.raises(DlmsError, match="in the clear"):
        Notifications(PushCipher(KEYS[0]).reveal).receive(a_push(axdr.NULL))


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"\x0f", b"\xe0", b"\xe0\x80\x00\x01", b"\xdb"])
)
def test_any_bytes_are_a_notification_or_an_error(data, head):
    for listener in (Notifications(), Notifications(PushCipher(KEYS[0]).reveal)):
        with contextlib.suppress(DlmsError):
            listener.receive(head + data)


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=300),
    st.booleans(),
    st.booleans(),
    st.integers(0, 63),
)
def test_a_general_block_is_decoded_as_it_was_encoded(number, taken, data, last, streams, window):
    block = GeneralBlock(number, taken, data, last=last, streaming=streams, window=window)
    assert general_block(block.encode()) == block
