"""Whose a pushed list is, whatever is sent: the right meter's reading, or a typed error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.errors import DlmsError
from agent.dlms.link.push_sources import address_of
from agent.dlms.push import PushedReading
from agent.dlms.push_class import load_push_class
from agent.dlms.pushed_meters import PushedMeter, PushedMeters
from agent.dlms.security.settings import Keys
from hil.meters.climbing import Climbing
from hil.meters.dlms.hdlc import build
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.push import notification
from hil.meters.dlms.security import MeterSecurity
from tests.agent.dlms.conftest import NOW_UTC_S

KEYS = bytes(range(16)), bytes(range(16, 32))
CIPHERED = notification(
    DlmsMeter(Climbing("A"), security=MeterSecurity(*KEYS)), "kamstrup_omnipower", NOW_UTC_S
)
PLAIN = notification(DlmsMeter(Climbing("B")), "iskra_am550", NOW_UTC_S)


def the_meters() -> PushedMeters:
    return PushedMeters(
        [
            PushedMeter("a", load_push_class("kamstrup_omnipower"), Keys(*KEYS)),
            PushedMeter("b", load_push_class("iskra_am550"), address=(1, 17), serial="B"),
        ]
    )


def heard(meters: PushedMeters, apdu: bytes) -> tuple[str, PushedReading] | None:
    try:
        found = meters.hear(1, (1, 17), apdu)
    except DlmsError:
        return None
    return None if found is None else (found[0].name, found[1])


@pytest.mark.parametrize(("apdu", "name", "serial"), [(CIPHERED, "a", "A"), (PLAIN, "b", "B")])
def test_a_list_is_of_the_meter_that_it_names(apdu, name, serial):
    found = heard(the_meters(), apdu)
    assert found is not None
    assert (found[0], found[1].serial) == (name, serial)


@given(st.binary(max_size=200))
def test_any_bytes_are_nobodys(apdu):
    assert heard(the_meters(), apdu) is None


@given(st.integers(0, len(CIPHERED) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_ciphered_list_is_believed_and_the_true_one_still_is(at, flip):
    meters = the_meters()
    changed = bytearray(CIPHERED)
    changed[at] ^= flip
    assert heard(meters, bytes(changed)) is None
    found = heard(meters, CIPHERED)
    assert found is not None
    assert found[0] == "a"
    assert heard(meters, CIPHERED) is None


@given(st.integers(0, len(CIPHERED)))
def test_a_list_that_was_cut_is_not_believed(size):
    assert (heard(the_meters(), CIPHERED[:size]) is None) == (size < len(CIPHERED))


@given(st.integers(0, 0x3FFF), st.integers(0, 0x3FFF))
def test_addresses_of_each_length_are_told_as_the_bench_writes_them(upper, lower):
    assert address_of(bytes([(upper % 128) << 1 | 1])) == (upper % 128,)
    two = bytes([upper % 128 << 1, lower % 128 << 1 | 1])
    assert address_of(two) == (upper % 128, lower % 128)
    four = bytes([upper >> 7 << 1, upper % 128 << 1, lower >> 7 << 1, lower % 128 << 1 | 1])
    assert address_of(four) == (upper, lower)
    assert build(b"\x41", four, 0x13)[4:8] == four
