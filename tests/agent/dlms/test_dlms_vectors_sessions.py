"""Captured sessions with foreign servers, replayed byte for byte through the client.

The captures are third parties' and stay outside the project: see `test_dlms_vectors.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.client import Client
from agent.dlms.link.frame import FrameCutter, client_address, frame
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.security.settings import Keys, Security

FOLDER = os.environ.get("LOADSCAPE_VECTORS")

pytestmark = pytest.mark.skipif(
    FOLDER is None,
    reason="captured frames are not part of the project; set LOADSCAPE_VECTORS to their folder",
)

SESSIONS: dict[str, dict[str, Any]] = (
    {
        case["id"]: case
        for case in json.loads((Path(FOLDER) / "dlms_frames.json").read_text())["cases"]
        if case["layer"] == "session"
    }
    if FOLDER
    else {}
)

CAPTURED_CONFORMANCE = bytes.fromhex("401e5d")


class Recorded:
    """A `Port` that answers each request of a capture as the server did, and wants no other.

    `expected(frame)` says what of ours stands for a captured frame.
    """

    char_s = 1e-5

    def __init__(self, exchanges: list[dict[str, Any]], expected: Callable[[bytes], bytes]) -> None:
        self._exchanges = iter(exchanges)
        self._expected = expected
        self._waiting = b""

    def write(self, data: bytes) -> None:
        exchange = next(self._exchanges)
        assert data.hex() == self._expected(bytes.fromhex(exchange["tx"])).hex()
        self._waiting += b"".join(map(bytes.fromhex, exchange["rx"]))

    def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def discard(self) -> bytes:
        return self.read(1, 0.0)

    @property
    def left(self) -> int:
        return len(list(self._exchanges))


class CountFrom:
    """An invocation counter that begins where a capture does."""

    def __init__(self, first: int) -> None:
        self.value = first

    def next(self) -> int:
        self.value += 1
        return self.value - 1

    def raise_above(self, value: int) -> None:
        raise AssertionError("nothing asks for that here")


class Keyring:
    """Deciphers and ciphers what the client sent in a capture, without the client's ciphers."""

    def __init__(self, case: dict[str, Any]) -> None:
        keys = {name: bytes.fromhex(value) for name, value in case.get("keys", {}).items()}
        self.keys = Keys(keys["ek"], keys["ak"]) if keys else None
        self.title = keys.get("client_title", b"")

    def crypted(self, body: bytes) -> bytes:
        """Security control, counter and ciphertext to plain text, or plain text to ciphertext."""
        assert self.keys is not None
        nonce = self.title + body[1:5]
        return AESGCM(self.keys.encryption).encrypt(nonce, body[5:], None)[: len(body) - 5]

    def sealed(self, head: bytes, plain: bytes) -> bytes:
        assert self.keys is not None
        known = head[:1] + self.keys.authentication
        text = AESGCM(self.keys.encryption).encrypt(self.title + head[1:5], plain, known)
        return head + text[:-4]

    def plain(self, apdu: bytes) -> bytes:
        """The plain form of a request as captured; all of them are shorter than 128 bytes."""
        if apdu[0] not in (0xC8, 0xCB, 0xDB):
            return apdu
        return self.crypted(apdu[11 if apdu[0] == 0xDB else 2 : -12])


def apdus_of(case: dict[str, Any]) -> list[bytes]:
    """The client's APDUs in a capture."""
    frames = [next(FrameCutter().feed(bytes.fromhex(e["tx"]))) for e in case["input"]["exchanges"]]
    return [heard.info[3:] for heard in frames if heard.info]


def with_our_conformance(case: dict[str, Any], ring: Keyring) -> Callable[[bytes], bytes]:
    """The captured AARQ with what this client proposes instead; all else must be equal.

    The captured client proposes the ACCESS service, which this client does not
    have, and general protection even where it then does not use it.
    """
    general = any(apdu[0] == 0xDB for apdu in apdus_of(case))
    ours = bytes.fromhex("401e1d" if general else "001e1d")

    def expected(sent: bytes) -> bytes:
        heard = next(FrameCutter().feed(sent))
        apdu = heard.info[3:]
        if apdu[:1] != b"\x60":
            return sent
        if ring.keys is None:
            changed = apdu.replace(CAPTURED_CONFORMANCE, ours)
        else:
            at = apdu.index(b"\x04\x21\x21\x1f") + 4
            head, plain = apdu[at : at + 5], ring.crypted(apdu[at:-12])
            changed = apdu[:at] + ring.sealed(head, plain.replace(CAPTURED_CONFORMANCE, ours))
        assert changed != apdu
        return frame(heard.destination, heard.source, heard.control, heard.info[:3] + changed)

    return expected


def security_of(case: dict[str, Any], ring: Keyring) -> tuple[Security, bytes]:
    """What the captured client was set to, and its challenge."""
    aarq = apdus_of(case)[0]
    if ring.keys is None:
        at = aarq.index(b"\xac") + 4
        return Security(mechanism="lls", password=aarq[at : at + aarq[at - 1]]), b""
    at = aarq.index(b"\xac\x12\x80\x10") + 4
    count = aarq.index(b"\x21\x1f\x30") + 3
    general = any(apdu[0] == 0xDB for apdu in apdus_of(case))
    security = Security(
        mechanism="hls-gmac",
        ciphering="general-global" if general else "global",
        keys=ring.keys,
        client_title=ring.title,
        counter=CountFrom(int.from_bytes(aarq[count : count + 4], "big")),
    )
    return security, aarq[at : at + 16]


def attribute_and_selection(request: bytes) -> tuple[Attribute, bytes]:
    """What a captured GET asked for."""
    attribute = Attribute(int.from_bytes(request[3:5], "big"), request[5:11], request[11])
    return attribute, request[13:]


@pytest.mark.parametrize("name", list(SESSIONS) or ["none"])
def test_a_captured_session_is_followed_to_its_end(name):
    case = SESSIONS[name]
    ring = Keyring(case)
    security, challenge = security_of(case, ring)
    first = next(FrameCutter().feed(bytes.fromhex(case["input"]["exchanges"][0]["tx"])))
    sap = first.source[0] >> 1
    port = Recorded(case["input"]["exchanges"], with_our_conformance(case, ring))
    settings = LinkSettings(max_info=128, window=1, gap_s=0.0, response_s=0.01)
    carrier = HdlcCarrier(
        port,
        settings,
        client_address=client_address(sap),
        server_address=first.destination,
        name=name,
    )
    requests = [ring.plain(apdu) for apdu in apdus_of(case)]
    heard: list[tuple[bytes, bytes]] = []
    client = Client(
        carrier,
        security,
        name=name,
        release=any(request[:1] == b"\x62" for request in requests),
        random_bytes=lambda size: challenge,
        # The captured clients used one invoke id for all requests.
        invoke_ids=(1,),
        observe_apdu=lambda way, carried, plain: heard.append((carried, plain)),
    )
    answers = {}
    with client:
        for request in requests:
            if request[:2] == b"\xc0\x01":
                attribute, selection = attribute_and_selection(request)
                answers[attribute, selection] = client.get_data(attribute, selection)
    assert port.left == 0
    assert shown_rows(answers) == case["expect"].get("range_rows", case["expect"].get("entry_rows"))
    if ring.keys is not None:
        assert {request[:1] for request in requests} >= {b"\xc0", b"\xc3"}
        assert all(carried != plain for carried, plain in heard if plain[:1] in (b"\xc0", b"\xc4"))


def shown_rows(answers: dict[tuple[Attribute, bytes], bytes]) -> list[list[object]]:
    """Stamp and value of the rows that were selected last."""
    data = [data for (_, selection), data in answers.items() if selection][-1]
    rows, _ = decode_rows(data)
    return [
        [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(MeterTime(0).utc_s(clock))), value]
        for clock, value in rows
    ]
