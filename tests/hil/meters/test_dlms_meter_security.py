"""The simulated meters' ciphers and counters, against the Green Book and against misuse."""

from __future__ import annotations

import pytest

from hil.meters.dlms.security import (
    AssociationCipher,
    CounterTooLow,
    MeterSecurity,
    Undecipherable,
)

_EK, _AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
_TITLE = bytes.fromhex("4d4d4d0000bc614e")
_GET_CLOCK = bytes.fromhex("c0010000080000010000ff0200")
_CIPHERED = bytes.fromhex("c81e3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b")
_COUNTER = 0x01234567


def a_security(**habits: object) -> MeterSecurity:
    return MeterSecurity(_EK, _AK, **habits)


def test_the_green_books_ciphered_get_is_understood_once_only():
    security = a_security()
    cipher = AssociationCipher(security, _TITLE)
    assert cipher.opened(_CIPHERED, "global") == _GET_CLOCK
    assert security.heard == _COUNTER
    with pytest.raises(CounterTooLow):
        cipher.opened(_CIPHERED, "global")


def test_a_meter_that_speaks_as_the_green_books_sender_seals_what_it_opens():
    meter = a_security(title=_TITLE, said=_COUNTER - 1)
    cipher = AssociationCipher(meter, _TITLE)
    cipher.opened(_CIPHERED, "global")
    sealed = cipher.sealed(bytes.fromhex("c401c1000600001391"))
    assert sealed[:7] == bytes.fromhex("cc1a3001234567")
    # The key stream is that of the example: same key, title and counter.
    stream = bytes(a ^ b for a, b in zip(_CIPHERED[7:16], _GET_CLOCK, strict=False))
    assert bytes(a ^ b for a, b in zip(sealed[7:16], stream, strict=True)) == bytes.fromhex(
        "c401c1000600001391"
    )


def test_the_green_books_proof_is_what_a_client_has_to_give():
    title, challenge = bytes.fromhex("4d4d4d0000000001"), bytes.fromhex("503677524a323146")
    assert a_security().proof(title, bytes.fromhex("00000001"), challenge) == bytes.fromhex(
        "10000000011a52fe7dd3e72748973c1e28"
    )


@pytest.mark.parametrize("place", range(1, len(_CIPHERED)))
def test_no_byte_of_a_request_can_be_changed_and_no_counter_is_believed_before(place):
    security = a_security()
    changed = bytearray(_CIPHERED)
    changed[place] ^= 0x40
    with pytest.raises(Undecipherable):
        AssociationCipher(security, _TITLE).opened(bytes(changed), "global")
    assert security.heard == -1


@pytest.mark.parametrize("demanded", ["dedicated", "general-global"])
def test_a_request_under_another_protection_than_demanded_is_refused(demanded):
    with pytest.raises(Undecipherable, match="where"):
        AssociationCipher(a_security(), _TITLE).opened(_CIPHERED, demanded)


def test_a_dedicated_key_that_was_never_given_opens_nothing():
    with pytest.raises(Undecipherable, match="no dedicated key"):
        AssociationCipher(a_security(), _TITLE).opened(b"\xd0" + _CIPHERED[1:], "dedicated")


def test_own_counters_begin_where_they_are_set_and_rise_by_one():
    security = a_security(said=41)
    assert [int.from_bytes(security.next_count(), "big") for _ in range(3)] == [42, 43, 44]
    assert a_security().next_count() == bytes(4)
