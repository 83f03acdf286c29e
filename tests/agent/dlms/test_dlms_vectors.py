"""Frames of real meters and foreign servers against our decoders.

The captures are third parties' and stay outside the project: the environment
variable LOADSCAPE_VECTORS names the folder that holds `dlms_frames.json`.
"""

from __future__ import annotations

import calendar
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent.dlms import axdr
from agent.dlms.apdu.association import (
    association_request,
    association_response,
    initiate_request,
)
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.get import get_request, get_response
from agent.dlms.apdu.selection import by_range
from agent.dlms.axdr import Bits
from agent.dlms.errors import AssociationRefused
from agent.dlms.link.frame import FrameCutter, LinkParameters, agree_parameters, client_address
from agent.dlms.link.hdlc import Closed, Link, Message, Opened, Send
from agent.dlms.load_profile.columns import Columns, Scaling
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import load_meter_class

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
    positions = {"clock": 0, "status": 1, "import_wh": 2, "export_wh": 3}
    scalings = {"import_wh": Scaling(0, "Wh"), "export_wh": Scaling(0, "Wh")}
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
    # The published request has high priority and invoke id 0; the rest is the same.
    assert request[:2] + request[3:] == published[:2] + published[3:]


def test_the_published_lls_association_is_what_is_sent():
    published = bytes.fromhex(CASES["aarq-lls"]["input"]["apdu"])
    initiate = initiate_request(int(CASES["aarq-lls"]["expect"]["conformance"], 16), 1200)
    assert association_request(initiate, mechanism="lls", authentication=b"12345678") == published


@pytest.mark.parametrize("name", named("aare-"))
def test_refusals_of_an_association_are_refusals(name):
    with pytest.raises(AssociationRefused):
        association_response(bytes.fromhex(CASES[name]["input"]["apdu"]))


@pytest.mark.parametrize("name", ["session-gurux-c-lls", "session-gurux-java-lls-range"])
def test_a_captured_session_is_followed_to_its_end(name):
    """Our link against a foreign server's frames: its answers lead where the capture went."""
    case = CASES[name]
    link = Link(client_address(17), b"\x03", LinkParameters(), longest_answer=1 << 20)
    data: bytes | None = link.open()
    messages: list[bytes] = []
    requests = iter(case["input"]["exchanges"])
    for exchange in requests:
        sent = next(FrameCutter().feed(bytes.fromhex(exchange["tx"])))
        if data is None:
            data = link.close() if sent.control == 0x53 else link.ask(sent.info[3:])
        assert data.hex() == exchange["tx"]
        data = None
        for heard in exchange["rx"]:
            for outcome in link.receive(bytes.fromhex(heard)):
                assert isinstance(outcome, Opened | Message | Send | Closed)
                if isinstance(outcome, Send):
                    data = outcome.data
                elif isinstance(outcome, Message):
                    messages.append(outcome.apdu)
    rows = rows_of(messages)
    shown = [
        [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(MeterTime(0).utc_s(clock))), value]
        for clock, value in rows
    ]
    assert shown == case["expect"]["range_rows"]


def rows_of(messages: list[bytes]) -> list[tuple[bytes, int]]:
    """The profile rows among a session's answers, blocks joined."""
    blocks = b""
    for message in messages:
        if message[:1] != b"\xc4":
            continue
        answer = get_response(message, message[2] & 0x0F)
        if answer.kind == 2:
            blocks += answer.data
        elif answer.data[:1] == b"\x01" and b"\x09\x0c" in answer.data:
            blocks = answer.data
    return decode_rows(blocks)[0]


@pytest.mark.parametrize("name", named("push-"))
def test_every_value_in_a_plain_push_is_decoded(name):
    case = CASES[name]
    if case["expect"].get("apdu") != "data-notification" or "keys" in case:
        pytest.skip("ciphered, or in blocks: not this client's yet")
    cutter = FrameCutter()
    whole = b"".join(h.info for data in frames_of(case) for h in cutter.feed(data))[3:]
    if whole[:1] != b"\x0f":
        pytest.skip("general block transfer: not this client's yet")
    # One maker writes the date-time with its tag (09), the others as the standard says.
    at = 7 + whole[6] if whole[5] == 9 else 6 + whole[5]
    value, end = axdr.decode(whole, at)
    assert whole[end:].hex() == case["expect"].get("trailing", "")
    assert not isinstance(value, Bits)
    if "value" in case["expect"]:
        assert value == plain(case["expect"]["value"])
