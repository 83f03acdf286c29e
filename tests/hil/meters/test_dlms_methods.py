"""Methods of the simulated meters, in one piece and in blocks; blocks that come out of turn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.client import Client
from agent.dlms.errors import AccessRefused, DlmsError
from tests.agent.dlms.test_dlms_bench_meters import (
    NOW_UTC_S,
    SHIFT_TIME,
    TEXT,
    WAYS,
    meter_with,
    security_with,
)
from tests.hil.meters.direct import Direct

SETUP = Attribute.parse("64/0.0.43.0.0.255/2")
IMPORT_CERTIFICATE = Method(64, SETUP.name, 6)
EXPORT_CERTIFICATE = Method(64, SETUP.name, 7)
ROWS_IN_USE = Attribute.parse("7/1.0.99.1.0.255/7")
BUFFER = Attribute.parse("7/1.0.99.1.0.255/2")
CAPTURE = Method(7, BUFFER.name, 2)


@settings(max_examples=200, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    size=st.integers(1, 600),
    max_pdu=st.integers(100, 700),
    general_blocks=st.booleans(),
)
def test_what_a_method_took_in_blocks_another_returns_in_blocks(way, size, max_pdu, general_blocks):
    certificate = bytes(place % 251 for place in range(size))
    meter = meter_with(*way, max_pdu=max_pdu, max_request=100, general_blocks=general_blocks)
    with Client(
        Direct(meter), security_with(*way), name="meter", general_blocks=general_blocks
    ) as client:
        assert client.act(IMPORT_CERTIFICATE, axdr.octets(certificate)) is None
        assert meter.security.certificate == certificate
        assert client.act(EXPORT_CERTIFICATE, axdr.NULL) == axdr.octets(certificate)


@pytest.mark.parametrize(("ciphering", "policy"), [("none", 0), ("global", 0x6C)])
def test_the_security_setup_tells_what_is_demanded(ciphering, policy):
    meter = meter_with(ciphering=ciphering, suite=2)
    with Client(Direct(meter), security_with(ciphering=ciphering, suite=2), name="m") as client:
        assert client.get(SETUP) == policy
        assert client.get(Attribute.parse("64/0.0.43.0.0.255/3")) == 2
        assert client.get(Attribute.parse("64/0.0.43.0.0.255/5")) == meter.security.title
        with pytest.raises(AccessRefused, match="other-reason"):
            client.act(EXPORT_CERTIFICATE, axdr.NULL)
        with pytest.raises(AccessRefused, match="type-unmatched"):
            client.act(IMPORT_CERTIFICATE, axdr.number(18, 7))
        with pytest.raises(AccessRefused, match="read-write-denied"):
            client.act(Method(64, SETUP.name, 1), axdr.number(22, 3))


def test_capture_writes_a_row_beside_those_of_the_period():
    meter = meter_with(keep_days=1, captured_at=[NOW_UTC_S - 1000])
    with Client(Direct(meter), security_with(), name="meter") as client:
        before, rows = client.get(ROWS_IN_USE), client.get(BUFFER)
        client.act(CAPTURE, axdr.number(15, 0))
        assert client.get(ROWS_IN_USE) == before + 1
        *old, captured = client.get(BUFFER)
        assert [row[:3] for row in old] == [row[:3] for row in rows]
        assert [row[0] for row in old] == sorted(row[0] for row in old)
        assert meter.zone.date_time(NOW_UTC_S - 1000) in [row[0] for row in old]
        assert captured[0] == meter.zone.date_time(NOW_UTC_S)
        with pytest.raises(AccessRefused, match="read-write-denied"):
            client.act(Method(7, BUFFER.name, 1), axdr.number(15, 0))


def test_a_meter_that_is_not_settable_proves_itself_and_does_nothing_else():
    meter = meter_with()
    meter.settable = False
    with Client(Direct(meter), security_with(), name="meter") as client:
        for method in (IMPORT_CERTIFICATE, CAPTURE, SHIFT_TIME):
            with pytest.raises(AccessRefused, match="read-write-denied"):
                client.act(method, axdr.number(16, 7))
        with pytest.raises(DlmsError):
            client.set(TEXT, axdr.octets(b"x"))
    assert not meter.clock.set_at
    assert not meter.customer_text


def block(head: str, number: int, data: bytes, *, last: bool) -> bytes:
    body = bytes([last]) + number.to_bytes(4, "big") + axdr.length(len(data)) + data
    return bytes.fromhex(head) + body


_SET, _ACT = "c103c1", "c306c1"
_FIRST_SET = "c102c1" + TEXT.descriptor().hex() + "00"
_FIRST_ACT = "c304c1" + IMPORT_CERTIFICATE.descriptor().hex()


@pytest.mark.parametrize(
    ("first", "then", "taken", "refused", "none_begun"),
    [
        (_FIRST_SET, _SET, "c502c100000001", "c503c11300000003", "c503c11200000002"),
        (_FIRST_ACT, _ACT, "c704c100000001", "c701c10e00", "c701c11000"),
    ],
)
def test_a_block_out_of_turn_ends_the_request_and_a_repeated_one_does_not(
    first, then, taken, refused, none_begun
):
    meter = meter_with("none", "none")
    carrier = Direct(meter)
    value = axdr.octets(b"in three blocks")
    parts = [value[:5], value[5:9], value[9:]]

    def say(head: str, number: int, *, last: bool = False) -> str:
        return carrier.request(block(head, number, parts[number - 1], last=last), "").hex()

    with Client(carrier, security_with("none", "none"), name="meter"):
        assert say(then, 2) == none_begun
        assert say(first, 1) == taken
        assert say(then, 3) == refused
        assert say(then, 2) == none_begun
        assert say(first, 1) == taken
        assert say(then, 2) == say(then, 2) == taken[:-1] + "2"
        assert say(then, 3, last=True)[6:8] == "00"
        assert b"in three blocks" in (meter.customer_text, meter.security.certificate)
        assert say(then, 2) == none_begun


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("c002c100000001", "c402c101000000010110"), ("c302c100000001", "c701c11000")],
)
def test_a_next_block_of_nothing_is_refused(asked, answered):
    carrier = Direct(meter_with("none", "none"))
    with Client(carrier, security_with("none", "none"), name="meter"):
        assert carrier.request(bytes.fromhex(asked), "").hex() == answered
