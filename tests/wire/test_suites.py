"""HPKE suites: numbers that stay, keys of one length, and both kinds of batch in one stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor, cose, suites
from wire.envelope import (
    BLOCK,
    NO_PREV,
    BatchHeader,
    DeviceSigner,
    NotOpened,
    chain_hash,
    open_sealed,
    seal,
    verify,
)
from wire.keyset import EpochKey, Keyset, KeysetError, sign_keyset, verify_keyset
from wire.suites import DoesNotOpen, UnknownSuite, suite
from wire.unknown import NotKnownYet

DEVICE, ROOT = DeviceSigner(b"\1" * 32), DeviceSigner(b"\3" * 32)
PRIVATE = {1: bytes(range(32)), 2: bytes(range(32, 64))}
KID = {1: b"epoch001", 2: b"epoch002"}
HEADER = BatchHeader(
    cose.ED25519, BLOCK, DEVICE.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV, KID[1], 1, 1
)
EVERY_SUITE = pytest.mark.parametrize("number", suites.SUITES)


def sealed(plaintext: bytes, number: int, *, seq: int = 1, prev: bytes = NO_PREV) -> bytes:
    header = replace(HEADER, suite=number, epoch_kid=KID[number], seq=seq, prev=prev)
    public = suite(number).public_of(PRIVATE[number])
    return seal(header, plaintext, epoch_public=public, signer=DEVICE)


@settings(max_examples=30)
@given(st.sampled_from(sorted(suites.SUITES)), st.binary(max_size=500), st.binary(max_size=50))
def test_what_is_encrypted_opens_with_its_own_key_and_info_alone(
    number: int, plaintext: bytes, info: bytes
) -> None:
    one = suite(number)
    data = one.encrypt(plaintext, one.public_of(PRIVATE[number]), info)
    assert one.decrypt(data, PRIVATE[number], info) == plaintext
    for key, other_info in ((bytes(32), info), (PRIVATE[number], info + b"x")):
        with pytest.raises(DoesNotOpen):
            one.decrypt(data, key, other_info)


def test_one_stream_may_change_its_suite_and_change_it_back() -> None:
    prev, opened = NO_PREV, []
    for seq, number in enumerate((1, 2, 2, 1), 1):
        data = sealed(b"readings %d" % seq, number, seq=seq, prev=prev)
        header = verify(data, DEVICE.public)
        assert (header.suite, header.seq, header.prev) == (number, seq, prev)
        opened.append(open_sealed(data, PRIVATE[header.suite]))
        prev = chain_hash(data)
    assert opened == [b"readings 1", b"readings 2", b"readings 3", b"readings 4"]


def test_the_hybrid_costs_the_encapsulated_lattice_key_and_nothing_more() -> None:
    one, other = (len(cose.read_sign1(sealed(b"readings", n)).payload) for n in (1, 2))
    assert other - one == 1088


@EVERY_SUITE
def test_a_header_that_names_another_suite_opens_nothing(number: int) -> None:
    signed = cose.read_sign1(sealed(b"readings", number))
    fields = signed.header[-70001]
    assert isinstance(fields, list)
    fields = [*fields[:7], 3 - number, *fields[8:]]
    moved = cose.sign1({cose.CONTENT: BLOCK, -70001: fields}, signed.payload, DEVICE)
    with pytest.raises(NotOpened):
        open_sealed(moved, PRIVATE[number])


def test_a_suite_of_a_later_program_is_told_apart_from_damage() -> None:
    fields: list[cbor.Value] = [
        1, "demo", b"stream01", b"boot0001", 1, NO_PREV, b"epoch001", 9, 1, bytes(16),
    ]  # fmt: skip
    data = cose.sign1({cose.CONTENT: BLOCK, -70001: fields}, b"later", DEVICE)
    assert verify(data, DEVICE.public).suite == 9
    with pytest.raises(UnknownSuite, match="suite 9") as told:
        open_sealed(data, PRIVATE[1])
    assert isinstance(told.value, NotKnownYet)


@EVERY_SUITE
def test_keys_of_another_length_are_refused(number: int) -> None:
    one = suite(number)
    with pytest.raises(ValueError, match="expected 32"):
        one.public_of(bytes(31))
    with pytest.raises(ValueError, match=f"expected {one.public_bytes}"):
        one.encrypt(b"x", bytes(one.public_bytes + 1), b"")
    with pytest.raises(ValueError, match="expected 32"):
        one.decrypt(bytes(2000), bytes(64), b"")


def keyset(*keys: EpochKey, revoked: tuple[bytes, ...] = ()) -> Keyset:
    return Keyset(3, "demo", keys, (), revoked)


def epoch(number: int, kid: bytes, not_before: int) -> EpochKey:
    public = suite(number).public_of(PRIVATE[number]) if number in suites.SUITES else b"later"
    return EpochKey(kid, number, public, not_before, 300)


def test_a_device_seals_to_the_youngest_key_whose_suite_it_has() -> None:
    keys = keyset(
        epoch(1, b"epoch001", 100), epoch(2, b"epoch002", 110), epoch(7, b"later007", 120)
    )
    data = sign_keyset(keys, ROOT)
    taken = verify_keyset(data, ROOT.public, tenant="demo", lowest_version=0)
    assert taken == keys
    assert taken.epoch_key(105).kid == b"epoch001"
    assert taken.epoch_key(200).kid == b"epoch002"
    with pytest.raises(KeysetError, match="update"):
        keyset(epoch(7, b"later007", 100)).epoch_key(200)


def test_a_revoked_epoch_key_is_not_sealed_to() -> None:
    keys = keyset(epoch(1, b"epoch001", 100), epoch(2, b"epoch002", 110), revoked=(b"epoch002",))
    assert keys.epoch_key(200).kid == b"epoch001"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (keyset(EpochKey(b"epoch001", 1, bytes(33), 1, 2)), "33 bytes, expected 32"),
        (keyset(EpochKey(b"epoch001", 2, bytes(32), 1, 2)), "32 bytes, expected 1216"),
        (keyset(EpochKey(b"short", 1, bytes(32), 1, 2)), "id of 8 bytes"),
        (keyset(EpochKey(b"epoch001", 1, bytes(32), 2, 2)), "span of time"),
        (keyset(revoked=(b"short",)), "key ids of 8 bytes"),
        (replace(keyset(), version=1 << 62), "keyset version"),
    ],
)
def test_a_keyset_with_fields_out_of_bounds_is_refused(wrong: Keyset, why: str) -> None:
    with pytest.raises(KeysetError, match=why):
        verify_keyset(sign_keyset(wrong, ROOT), ROOT.public, tenant="demo", lowest_version=0)
