from __future__ import annotations

import calendar
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.apdu.association import association_response
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.get import get_response, list_results
from agent.dlms.apdu.selection import by_entry
from agent.dlms.constants import Conformance
from agent.dlms.errors import (
    AnswerMalformed,
    AssociationRefused,
    DlmsError,
    MeterDiffers,
    ServiceRefused,
)
from agent.dlms.load_profile.columns import Scaling
from agent.dlms.load_profile.meter_time import MeterTime, untrusted

REGISTER = Attribute.parse("3/1.0.1.8.0.255/2")


def test_an_accepted_association_says_what_the_meter_can_do():
    aare = bytes.fromhex(
        "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400001e1d04c80007"
    )
    association = association_response(aare)
    assert association.max_pdu == 1224
    assert association.conformance & Conformance.SELECTIVE_ACCESS
    assert association.conformance & Conformance.MULTIPLE_REFERENCES


def test_a_rejected_association_says_why():
    aare = bytes.fromhex(
        "6129a109060760857405080101a203020101a305a103020102be10040e0800065f1f040000501f01f40007"
    )
    with pytest.raises(AssociationRefused, match="application-context-name-not-supported"):
        association_response(aare)


def test_an_exception_response_is_named():
    with pytest.raises(ServiceRefused, match=r"service-not-allowed.*service-not-supported"):
        get_response(bytes.fromhex("d80102"), 1)


def test_an_answer_to_another_request_is_not_taken():
    with pytest.raises(AnswerMalformed, match="to request 2"):
        get_response(bytes.fromhex("c401c1000600001391"), 2)


def test_a_refused_attribute_of_a_list_keeps_its_place():
    assert list_results(bytes.fromhex("03 0011 05 0104 00 00".replace(" ", ""))) == [
        (0, 5),
        (4, None),
        (0, None),
    ]


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xc4\x01\x41", b"\xc4\x02\x41", b"\x61"]))
def test_any_answer_is_understood_or_a_dlms_error(data, head):
    for parse in (
        lambda: get_response(head + data, 1),
        lambda: association_response(head + data),
        lambda: list_results(data),
    ):
        with contextlib.suppress(DlmsError):
            parse()


@pytest.mark.parametrize("text", ["3/1.0.1.8.0.255", "x/1.0.1.8.0.255/2", "3/1.0.1.8.255/2"])
def test_an_object_that_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        Attribute.parse(text)


@given(st.integers(86400, 4_000_000_000), st.integers(-720, 840), st.booleans())
def test_an_instant_survives_the_meters_date_time(utc_s, offset_min, inverted):
    meter_time = MeterTime(offset_min, inverted_deviation=inverted)
    assert meter_time.utc_s(meter_time.octets(utc_s)) == utc_s


def test_a_clock_without_deviation_is_in_the_meters_standard_time():
    octets = bytes.fromhex("07e30c1f0217000000800000")
    assert MeterTime(60).utc_s(octets) == calendar.timegm((2019, 12, 31, 22, 0, 0))


def test_daylight_saving_is_in_the_deviation():
    octets = bytes.fromhex("07e10a01ff000000 00ff8880".replace(" ", ""))
    assert MeterTime(60).utc_s(octets) == calendar.timegm((2017, 9, 30, 22, 0, 0))


@pytest.mark.parametrize(
    "octets",
    [
        "ffff0c1f0217000000ffc400",
        "07e30d1f0217000000ffc400",
        "07e3021eff17000000ffc400",
        "07e30c1f0217000000034900",
        "07e30c1f02170000007fff00",
    ],
)
def test_a_date_that_is_not_specified_or_a_zone_that_is_none_is_refused(octets):
    with pytest.raises(AnswerMalformed, match="expected"):
        MeterTime(60).utc_s(bytes.fromhex(octets))


@pytest.mark.parametrize(
    ("status", "suspect"), [(0, False), (1, True), (0x80, False), (0xFF, False)]
)
def test_a_clock_that_calls_itself_wrong_is_not_trusted(status, suspect):
    assert untrusted(bytes(11) + bytes([status])) is suspect


@pytest.mark.parametrize(
    ("scaler", "raw", "exponent", "whole"),
    [(3, 5, 0, 5000), (-1, 2312, 1, 2312), (-2, 457, 2, 457), (-3, 2500, 1, 25), (-1, -15, 0, -2)],
)
def test_scalers_give_whole_numbers_of_our_units(scaler, raw, exponent, whole):
    assert Scaling(scaler, "").whole(raw, exponent) == whole


def test_a_scaler_that_cannot_be_is_an_error():
    with pytest.raises(MeterDiffers):
        Scaling.of(100, 30)


def test_entries_are_asked_for_by_number_and_zero_is_the_newest():
    assert by_entry(3, 0).hex() == "0202040600000003060000000012000112" + "0000"
