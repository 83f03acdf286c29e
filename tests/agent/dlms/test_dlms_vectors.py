"""Frames of real meters and foreign servers against our decoders.

The captures are third parties' and stay outside the project: the environment
variable LOADSCAPE_VECTORS names the folder that holds `dlms_frames.json`.
"""

from __future__ import annotations

import calendar
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.dlms import axdr
from agent.dlms.apdu.action import action_request, action_response
from agent.dlms.apdu.association import (
    association_answer,
    association_request,
    association_response,
    initiate_request,
    initiate_response,
)
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.apdu.get import get_request, get_response
from agent.dlms.apdu.notification import Notifications
from agent.dlms.apdu.refusal import refuse_errors
from agent.dlms.apdu.selection import by_range
from agent.dlms.apdu.set import set_request
from agent.dlms.constants import obis_text
from agent.dlms.errors import AssociationRefused, ServiceRefused
from agent.dlms.link.frame import FrameCutter, LinkParameters, agree_parameters
from agent.dlms.load_profile.columns import Columns, Scaling
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.authentication import proof
from agent.dlms.security.cipher import Cipher, PushCipher
from agent.dlms.security.settings import Keys, Security

FOLDER = os.environ.get("LOADSCAPE_VECTORS")

pytestmark = pytest.mark.skipif(
    FOLDER is None,
    reason="captured frames are not part of the project; set LOADSCAPE_VECTORS to their folder",
)

CASES: dict[str, dict[str, Any]] = (
    {
        case["id"]: case
        for case in json.loads((Path(FOLDER) / "dlms_frames.json").read_text())["cases"]
    }
    if FOLDER
    else {}
)


def named(prefix: str) -> list[str]:
    return [name for name in CASES if name.startswith(prefix)] or ["none"]


def plain(value: Any) -> Any:
    """Drops the types from the vectors' values."""
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        if kind == "array":
            return [plain(item) for item in inner]
        if kind == "struct":
            return tuple(plain(item) for item in inner)
        return bytes.fromhex(inner) if kind == "octets" else inner
    return value


def frames_of(case: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in case["input"]["frames"]]


@pytest.mark.parametrize("name", named("hdlc-") + named("push-"))
def test_frames_of_real_meters_are_cut_and_checked(name):
    case = CASES[name]
    expected = case["expect"].get("frames", [case["expect"]])
    cutter = FrameCutter()
    found = [heard for data in frames_of(case) for heard in cutter.feed(data)]
    assert cutter.damaged == 0
    assert [
        (
            len(heard.raw),
            heard.destination.hex(),
            heard.source.hex(),
            f"{heard.control:02x}",
            heard.segmented,
        )
        for heard in found
    ] == [(f["length"], f["dest"], f["src"], f["control"], f["segmented"]) for f in expected]
    for heard, frame in zip(found, expected, strict=True):
        assert heard.info.hex() == frame.get("info", heard.info.hex())


def test_the_sizes_of_a_real_ua_are_understood():
    info = bytes.fromhex(CASES["hdlc-ua-params"]["expect"]["info"])
    agreed = agree_parameters(LinkParameters(2030, 2030, 1, 7), info)
    assert agreed == LinkParameters(154, 154, 1, 1)


@pytest.mark.parametrize("name", named("get-response-"))
def test_get_responses_give_the_published_values(name):
    case = CASES[name]
    expect = case["expect"]
    answer = get_response(bytes.fromhex(case["input"]["apdu"]), expect["invoke"])
    assert answer.refused == expect.get("error", 0)
    if "value" in expect:
        assert axdr.decode_whole(answer.data) == plain(expect["value"])
    if "block" in expect:
        assert (answer.block, answer.last) == (expect["block"], expect["last"])
    if "array_len" in expect:
        assert len(answer.data) == expect["raw_len"]
        count, at = axdr.read_length(answer.data, 1)
        assert count == expect["array_len"]
        first, at = axdr.decode(answer.data, at)
        second, _ = axdr.decode(answer.data, at)
        assert (first, second) == (plain(expect["first_row"]), plain(expect["second_row"]))


def test_null_clocks_of_a_real_profile_become_hourly_stamps():
    case = CASES["profile-buffer-null-clock"]
    data = bytes.fromhex(case["input"]["apdu"])
    rows, end = decode_rows(data)
    assert rows == plain(case["expect"]["value"])
    assert end == len(data)
    profile = load_meter_class("idis_residential").profile
    energies = {name: profile.columns[name] for name in ("import_wh", "export_wh")}
    profile = dataclasses.replace(profile, columns=energies)
    scalings = {energy.attributes[0]: Scaling(0, "Wh") for energy in energies.values()}
    captured = (profile.clock, profile.status, *scalings)
    positions = {attribute: position for position, attribute in enumerate(captured)}
    columns = Columns(profile, positions, scalings, 3600, MeterTime(60), "captured")
    ends = [row.end_utc_s for row in columns.rows(data, 0, 2**40)]
    first = calendar.timegm((2019, 12, 31, 22, 0, 0))
    assert ends == [first + 3600 * hour for hour in range(4)]


def test_a_range_is_asked_for_as_a_published_request_does():
    case = CASES["get-request-range-15min"]
    expect = case["expect"]
    selection = by_range(bytes.fromhex(expect["from_"]), bytes.fromhex(expect["to"]))
    request = get_request(1, Attribute.parse("7/1.0.99.1.0.255/2"), selection)
    published = bytes.fromhex(case["input"]["apdu"])
    assert request == published


def test_the_published_lls_association_is_what_is_sent():
    published = bytes.fromhex(CASES["aarq-lls"]["input"]["apdu"])
    initiate = initiate_request(int(CASES["aarq-lls"]["expect"]["conformance"], 16), 1200)
    assert association_request(initiate, mechanism="lls", authentication=b"12345678") == published


@pytest.mark.parametrize("name", named("aare-"))
def test_refusals_of_an_association_are_refusals(name):
    with pytest.raises(AssociationRefused):
        association_response(bytes.fromhex(CASES[name]["input"]["apdu"]))


def keys_of(case: dict[str, Any]) -> Keys:
    return Keys(bytes.fromhex(case["keys"]["ek"]), bytes.fromhex(case["keys"].get("ak", "")))


def pushed(case: dict[str, Any]) -> list[bytes]:
    """The APDUs of a push: segments joined, LLC taken off."""
    apdus, waiting = [], b""
    for data in frames_of(case):
        for heard in FrameCutter().feed(data):
            waiting += heard.info
            if not heard.segmented:
                apdus.append(waiting.removeprefix(b"\xe6\xe7\x00"))
                waiting = b""
    return apdus


@pytest.mark.parametrize("name", named("push-"))
def test_every_value_in_a_push_is_decoded(name):
    case = CASES[name]
    expect = case["expect"]
    cipher = PushCipher(keys_of(case)) if "keys" in case else None
    listener = Notifications(cipher.reveal if cipher else None)
    heard = [listener.receive(apdu) for apdu in pushed(case)]
    assert heard[:-1] == [None] * (len(heard) - 1)
    notification = heard[-1]
    assert notification is not None
    assert notification.invoke_id == expect["long_invoke_id"]
    said = notification.date_time.hex() if notification.date_time else None
    assert said == expect["date_time"]
    assert notification.tail.hex() == expect["trailing"]
    if "value" in expect:
        assert notification.value == plain(expect["value"])
    if "obis" in expect:
        assert registers(notification.value) == expect["obis"]
    if cipher is not None:
        assert cipher.title.hex() == expect["system_title"]


def registers(value: Any) -> dict[str, Any]:
    """Logical name to raw value, scaler and unit, of a push that lists its objects."""
    found: dict[str, Any] = {}
    for name, raw, *scaling in value:
        shown = raw.hex() if isinstance(raw, bytes) else raw
        found[obis_text(name)] = {"raw": shown}
        if scaling:
            found[obis_text(name)] |= {"scaler": scaling[0][0], "unit": scaling[0][1]}
    return found


def test_a_general_glo_notification_is_deciphered():
    case = CASES["general-glo-notification"]
    cipher = PushCipher(keys_of(case))
    apdu = bytes.fromhex(case["input"]["apdu"])
    assert cipher.reveal(apdu).hex() == case["expect"]["plaintext"]
    assert cipher.title.hex() == case["expect"]["title"]
    again = Notifications(PushCipher(keys_of(case)).reveal).receive(apdu)
    assert again is not None
    assert again.invoke_id == 0x1DB


class CountFrom:
    """An invocation counter that begins where a capture does."""

    def __init__(self, first: int) -> None:
        self._next = first

    def next(self) -> int:
        self._next += 1
        return self._next - 1

    def raise_above(self, value: int) -> None:
        raise AssertionError("nothing asks for that here")


@pytest.mark.parametrize("name", ["glo-initiate-request", "crypto-gcm-get-clock"])
def test_requests_are_ciphered_as_published(name):
    case = CASES[name]
    security = Security(
        ciphering="global",
        keys=keys_of(case),
        client_title=bytes.fromhex(case["keys"]["title"]),
        counter=CountFrom(int(case["keys"]["ic"], 16)),
    )
    if name == "glo-initiate-request":
        expect = case["expect"]
        request = initiate_request(
            int(expect["conformance"], 16),
            expect["max_pdu"],
            dedicated_key=bytes.fromhex(expect["dedicated_key"]),
        )
        assert request.hex() == expect["plaintext"]
        assert Cipher(security).protect(request).hex() == case["input"]["apdu"]
    else:
        ciphered = Cipher(security).protect(bytes.fromhex(case["input"]["plaintext"]))
        assert ciphered.hex().endswith(
            case["input"]["security_control"]
            + case["keys"]["ic"]
            + case["expect"]["ciphertext_and_tag"]
        )


def test_a_challenge_is_answered_as_published():
    case = CASES["crypto-gmac-hls5"]
    security = Security(
        keys=keys_of(case),
        client_title=bytes.fromhex(case["keys"]["title"]),
        counter=CountFrom(int(case["keys"]["ic"], 16)),
    )
    made = proof(security, bytes.fromhex(case["input"]["challenge"]))
    assert made.hex() == "10" + case["keys"]["ic"] + case["expect"]["tag12"]


def test_set_and_action_requests_are_those_published():
    clock = CASES["set-request-clock"]
    value = bytes.fromhex(clock["expect"]["value"]["octets"])
    published = bytes.fromhex(clock["input"]["apdu"])
    assert set_request(1, Attribute.parse("8/0.0.1.0.0.255/2"), axdr.octets(value)) == published
    reply = CASES["action-request-hls"]
    given = bytes.fromhex(reply["expect"]["parameter"]["octets"])
    method = Method.parse("15/0.0.40.0.0.255/1")
    assert action_request(0, method, axdr.octets(given)).hex() == reply["input"]["apdu"]


def test_a_get_request_is_the_published_one():
    case = CASES["get-request-normal"]
    assert get_request(1, Attribute.parse("1/0.0.43.1.0.255/2")).hex() == case["input"]["apdu"]


def test_a_range_is_described_as_published():
    published = CASES["range-descriptor-build"]["input"]["apdu"]
    dates = [bytes.fromhex(part[:24]) for part in published.split("090c")[1:]]
    assert by_range(*dates).hex() == published


def test_an_action_response_gives_what_the_method_returned():
    case = CASES["action-response-hls"]
    answer = action_response(bytes.fromhex(case["input"]["apdu"]), 0)
    assert answer.refused == case["expect"]["result"]
    assert axdr.decode_whole(answer.data) == plain(case["expect"]["value"])


def test_what_a_foreign_server_says_of_hls_is_understood():
    case = CASES["aare-hls-required"]
    answer = association_answer(bytes.fromhex(case["input"]["apdu"]))
    assert answer.wants_proof
    assert answer.challenge.hex() == case["expect"]["stoc"]
    assert initiate_response(answer.user_information).max_pdu == case["expect"]["max_pdu"]


def test_an_initiate_error_in_a_refusal_is_named():
    case = CASES["aare-rejected-confirmed-service-error"]
    with pytest.raises(AssociationRefused, match="initiate, dlms-version-too-low"):
        association_response(bytes.fromhex(case["input"]["apdu"]))


def test_an_exception_of_a_foreign_server_is_named():
    info = bytes.fromhex(CASES["apdu-exception-response"]["expect"]["info"])
    with pytest.raises(ServiceRefused, match=r"service-not-allowed \(1\), service-not-supported"):
        refuse_errors(info[3:])


def test_an_accepted_association_of_a_real_meter_is_understood():
    expect = CASES["hdlc-i-aare-accepted"]["expect"]
    association = association_response(bytes.fromhex(expect["info"])[3:])
    assert association.conformance == int(expect["conformance"], 16)
    assert association.max_pdu == expect["max_pdu"]


def test_every_case_of_the_file_is_looked_at():
    prefixes = ("hdlc-", "push-", "get-response-", "aare-", "session-")
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    missed = [name for name in CASES if not name.startswith(prefixes) and name not in tests]
    assert missed == []
