"""Simulated meters against requests that are damaged or cannot be agreed to: an answer, always."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.client import Client
from agent.dlms.errors import AssociationRefused
from hil.meters.dlms.application import Application
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.test_dlms_bench_meters import (
    CLOCK,
    COLUMNS,
    NOW_UTC_S,
    SERIAL,
    SHIFT_TIME,
    TEXT,
    WAYS,
    StoppedClock,
    meter_with,
    security_with,
)
from tests.hil.meters.direct import CLIENT_SAP, Direct


def a_meter(way: tuple[str, str, int], **habits: object) -> DlmsMeter:
    return meter_with(*way, max_pdu=150, max_request=128, **habits)


@cache
def session(way: tuple[str, str, int], general_blocks: bool) -> list[bytes]:
    """All that a client asks in one session with every service."""
    meter = a_meter(way, general_blocks=general_blocks)
    carrier = Direct(meter)
    with Client(
        carrier, security_with(*way), name="meter", general_blocks=general_blocks, release=True
    ) as client:
        client.get_many([SERIAL, CLOCK])
        client.set(TEXT, axdr.octets(bytes(300)))
        client.act(SHIFT_TIME, axdr.number(16, -7))
        client.get_data(COLUMNS)
        client.set(CLOCK, axdr.octets(meter.zone.date_time(NOW_UTC_S)))
    return carrier.asked


_CHANGES = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 8), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def changed(apdu: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, cut, put in changes:
        at = place % (len(apdu) + 1)
        apdu = apdu[:at] + put + apdu[at + cut :]
    return apdu


@settings(max_examples=1500, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    general_blocks=st.booleans(),
    damaged=st.integers(0, 10_000),
    changes=_CHANGES,
)
def test_a_damaged_request_is_answered_and_a_new_association_is_there_for_the_next_client(
    way, general_blocks, damaged, changes
):
    meter = a_meter(way, general_blocks=general_blocks)
    application = Application(meter, StoppedClock())
    requests = session(way, general_blocks)
    damaged %= len(requests)
    for number, apdu in enumerate(requests):
        apdu = changed(apdu, changes) if number == damaged else apdu
        answers = application.serve(CLIENT_SAP, apdu)
        assert answers
        assert all(answers)
    # Whatever counter the damaged request may have shown, the next client's is above it.
    security = security_with(*way)
    if meter.security is not None:
        security.counter.raise_above(meter.security.heard)
    with Client(Direct(meter), security, name="meter") as client:
        assert client.get(SERIAL) == b"LS0000001"


@pytest.mark.parametrize("ciphering", ["none", "global"])
def test_a_client_without_a_system_title_is_not_recognized(ciphering):
    way = ("hls-gmac", ciphering, 0)
    aarq = session(way, False)[0]
    at = aarq.index(b"\xa6\x0a\x04\x08")
    without = bytes([0x60, aarq[1] - 12]) + aarq[2:at] + aarq[at + 12 :]
    (answer,) = Application(a_meter(way), StoppedClock()).serve(CLIENT_SAP, without)
    assert bytes.fromhex("a203020101a305a103020103") in answer


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        (b"\x06\x5f\x1f\x04\x00\x40\x1e\x1d\x00\x0b", "pdu-size-too-short"),
        (b"\x05\x5f\x1f\x04\x00\x40\x1e\x1d\x00\x80", "dlms-version-too-low"),
        (b"\x06\x5f\x1f\x04\x00\x00\x00\x00\x00\x80", "incompatible-conformance"),
    ],
)
def test_a_proposal_that_no_meter_agrees_to_is_answered_with_what_is_wrong(offered, says):
    meter = a_meter(("none", "none", 0))

    class Proposing(Direct):
        def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
            return super().request(apdu[: -len(offered)] + offered, what, tries=tries)

    with (
        pytest.raises(AssociationRefused, match=says),
        Client(Proposing(meter), security_with("none", "none"), name="meter"),
    ):
        pass


_NO_MECHANISM, _OTHER_MECHANISM, _OTHER_CONTEXT = (
    "authentication-mechanism-name-required",
    "authentication-mechanism-name-not-recognised",
    "application-context-name-not-supported",
)


@pytest.mark.parametrize(
    ("demanded", "asked", "says"),
    [
        (("none", "none"), ("lls", "none"), _OTHER_MECHANISM),
        (("lls", "none"), ("none", "none"), _NO_MECHANISM),
        (("lls", "none"), ("hls-gmac", "none"), _OTHER_MECHANISM),
        (("hls-gmac", "none"), ("none", "none"), _NO_MECHANISM),
        (("hls-gmac", "none"), ("lls", "none"), _OTHER_MECHANISM),
        (("hls-gmac", "global"), ("lls", "global"), _OTHER_MECHANISM),
        (("hls-gmac", "global"), ("hls-gmac", "none"), _OTHER_CONTEXT),
        (("hls-gmac", "none"), ("hls-gmac", "global"), _OTHER_CONTEXT),
    ],
)
def test_another_mechanism_or_context_than_demanded_is_named_in_the_refusal(demanded, asked, says):
    with (
        pytest.raises(AssociationRefused, match=says),
        Client(Direct(meter_with(*demanded)), security_with(*asked), name="meter"),
    ):
        pass


@pytest.mark.parametrize("password", [b"other", b"loadscap", b"loadscapeX", b"\x00"])
def test_a_wrong_password_is_a_failed_authentication(password):
    meter = meter_with("lls", "none")
    meter.password = password
    with (
        pytest.raises(AssociationRefused, match=r"authentication-failure \(13\)"),
        Client(Direct(meter), security_with("lls", "none"), name="meter"),
    ):
        pass


def test_a_dedicated_key_of_another_length_is_refused():
    way = ("hls-gmac", "dedicated", 2)
    short = security_with(*way)
    with (
        pytest.raises(AssociationRefused, match="refused-by-the-vde-handler"),
        Client(Direct(a_meter(way)), short, name="meter", random_bytes=lambda size: bytes(16)),
    ):
        pass
