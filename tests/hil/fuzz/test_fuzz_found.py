"""Inputs that a decoder once did not take properly; each is refused with the error named here."""

from __future__ import annotations

import pytest

from agent.dlms.axdr import AxdrError, length
from agent.dlms.errors import AnswerMalformed, DlmsError, MeterDiffers, RequestTooLong
from hil.fuzz.apdu import as_records
from hil.fuzz.client import aare
from hil.fuzz.decoders import decoders
from hil.fuzz.values import CAPTURE_OBJECTS

GET = bytes.fromhex("c4014100020f0016ff")
TWO = bytes.fromhex("c4034102000f00000f00")
GET_OBJECTS = b"\xc4\x01\x41\x00" + CAPTURE_OBJECTS
FOUND: dict[str, tuple[str, bytes, type[Exception]]] = {
    "a compact array whose type description makes many objects of each byte": (
        "axdr",
        b"\x13" + b"\x02\x01" * 15 + b"\x11" + length(4096) + bytes(4096),
        AxdrError,
    ),
    "a meter that says it takes requests of 11 bytes, asked to SET": (
        "client",
        as_records([aare(0x00FE1F, 11), *[GET] * 6, b"\xc5\x01\x41\x00"]),
        RequestTooLong,
    ),
    "a capture object whose logical name is a number: no memory of that size is taken": (
        "profile-objects",
        bytes.fromhex("0101" + "02041200011540000000000000000f02120000"),
        AnswerMalformed,
    ),
    "a capture period of 146 billion years": (
        "driver-profile",
        as_records([aare(0x001014, 0), b"\xc4\x01\x41\x00\x15\x40" + bytes(7), GET_OBJECTS]),
        MeterDiffers,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_refused(name):
    decoder_name, data, error = FOUND[name]
    decoder = decoders()[decoder_name]
    refused = decoder.refused(data)
    assert isinstance(refused, error)
    assert isinstance(refused, AxdrError | DlmsError)
