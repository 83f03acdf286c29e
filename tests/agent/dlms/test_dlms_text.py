"""APDUs as text: what a person needs is there, secrets are not, and nothing can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.action import action_request
from agent.dlms.apdu.association import association_request, initiate_request
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.apdu.get import get_list_request, get_request
from agent.dlms.apdu.selection import by_entry
from agent.dlms.apdu.set import set_request
from agent.dlms.apdu.text import LONGEST, apdu_text
from agent.dlms.constants import Apdu, Tag

CLOCK = Attribute.parse("8/0.0.1.0.0.255/2")
ENERGY = Attribute.parse("3/1.0.1.8.0.255/2")
STAMP = bytes.fromhex("07e50106030a1e00ffffc400")


@pytest.mark.parametrize(
    ("apdu", "text"),
    [
        (get_request(3, ENERGY), "get-request normal #3 3/1.0.1.8.0.255/2 (import energy)"),
        (get_request(1, CLOCK, by_entry(1, 2)), "8/0.0.1.0.0.255/2 (clock) selector 2 {u32 1, "),
        (get_list_request(1, [(ENERGY, b""), (CLOCK, b"")]), "(import energy), 8/0.0.1.0.0.255/2"),
        (set_request(2, CLOCK, axdr.octets(STAMP)), ":= octets 2021-01-06T09:30:00Z"),
        (
            action_request(1, Method.parse("8/0.0.1.0.0.255/6"), axdr.number(Tag.I16, -5)),
            "action-request normal #1 8/0.0.1.0.0.255/6 (clock) with i16 -5",
        ),
        (bytes.fromhex("c401c1000600000007"), "get-response normal #1 u32 7"),
        (bytes.fromhex("c401c10104"), "get-response normal #1 object-undefined (4)"),
        (bytes.fromhex("c501c103"), "set-response normal #1 read-write-denied (3)"),
        (bytes.fromhex("c701c100"), "action-response normal #1 success (0)"),
        (
            bytes.fromhex("c402c10100000002000401020304"),
            "get-response block #1 2, last: 0401020304",
        ),
        (bytes.fromhex("d8010600000102"), "invocation-counter-error (6), expects 258"),
        (bytes.fromhex("c80a3000000101aabbccddee"), "glo-get-request, security control 30, "),
        (bytes.fromhex("db084b414d450134908307300000000aabcd"), "title 4b414d4501349083, security"),
        (bytes.fromhex("0f000001db0011ff"), "data-notification #475: u8 255"),
        (bytes.fromhex("e0c000030000021122"), "general-block-transfer 3, last (heard 0, window 0)"),
        (b"", "empty APDU"),
        (b"\x99\x01", "unknown APDU 9901"),
        (bytes.fromhex("c401c100ffff06"), "get-response normal #1"),
    ],
)
def test_an_apdu_says_what_it_is(apdu, text):
    assert text in apdu_text(apdu)


def test_passwords_and_dedicated_keys_are_not_shown():
    initiate = initiate_request(0x1E1D, 0xFFFF, dedicated_key=b"0123456789abcdef")
    aarq = association_request(initiate, mechanism="lls", authentication=b"loadscape")
    text = apdu_text(aarq)
    assert "aarq LN, password, 9 bytes not shown" in text
    for secret in (b"loadscape", b"0123456789abcdef"):
        assert secret.hex() not in text
        assert secret.decode() not in text
        assert secret.hex() not in apdu_text(initiate)
        assert all(secret.hex() not in apdu_text(aarq[:end]) for end in range(len(aarq)))


def test_an_accepted_association_is_told():
    aare = bytes.fromhex(
        "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400001e1d04c80007"
    )
    assert apdu_text(aare).startswith("aare accepted (0), null (0); initiate-response")


FIRST = st.sampled_from([getattr(Apdu, name) for name in vars(Apdu) if name.isupper()])


@given(FIRST, st.binary(max_size=400))
def test_any_bytes_give_one_bounded_line_of_printable_text(first, rest):
    text = apdu_text(bytes([first]) + rest)
    assert text
    assert len(text) <= LONGEST
    assert text.isprintable()


@given(FIRST, st.sampled_from([1, 2, 3]), st.binary(max_size=60))
def test_any_body_of_a_service_gives_text_too(first, kind, rest):
    assert apdu_text(bytes([first, kind, 0xC1]) + rest).isprintable()


def test_a_long_list_is_cut():
    rows = axdr.array([axdr.number(Tag.U32, number) for number in range(5000)])
    assert len(apdu_text(b"\xc4\x01\xc1\x00" + rows)) == LONGEST
