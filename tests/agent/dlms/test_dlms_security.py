"""Ciphered APDUs and proofs, against published values and against `cryptography` directly."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.apdu.association import initiate_request
from agent.dlms.apdu.refusal import refuse_errors
from agent.dlms.errors import (
    AnswerMalformed,
    CounterBehind,
    DlmsError,
    MeterNotAuthentic,
    ReplyForged,
    ReplyReplayed,
    ReplyUnprotected,
    ServiceRefused,
)
from agent.dlms.security.authentication import check_proof, proof
from agent.dlms.security.cipher import Cipher, PushCipher
from agent.dlms.security.settings import Keys
from tests.agent.dlms.secured_meter import (
    CLIENT_TITLE,
    KEYS,
    METER_TITLE,
    Counter,
    a_security,
    ciphered,
)

EK, AK = KEYS[0].encryption, KEYS[0].authentication
DEDICATED = bytes(range(100, 132))
ANSWER = bytes.fromhex("c401c1000600001391")


def test_the_green_books_ciphered_get_is_what_is_sent():
    cipher = Cipher(a_security(counter=Counter(0x01234567)))
    assert cipher.protect(bytes.fromhex("c0010000080000010000ff0200")) == bytes.fromhex(
        "c81e3001234567" + "411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b"
    )


def test_the_green_books_proof_is_what_is_sent():
    security = a_security(counter=Counter(1), client_title=bytes.fromhex("4d4d4d0000000001"))
    assert proof(security, bytes.fromhex("503677524a323146")) == bytes.fromhex(
        "10" + "00000001" + "1a52fe7dd3e72748973c1e28"
    )


def test_an_initiate_request_carries_the_dedicated_key():
    plain = initiate_request(0x007E1F, 1200, dedicated_key=bytes(range(16)))
    assert plain == bytes.fromhex("010110" + bytes(range(16)).hex() + "0000065f1f0400007e1f04b0")


@pytest.mark.parametrize(
    ("mode", "suite", "tag"),
    [
        ("global", 0, 0xC8),
        ("global", 2, 0xC8),
        ("dedicated", 0, 0xD0),
        ("dedicated", 2, 0xD0),
        ("general-global", 0, 0xDB),
        ("general-global", 2, 0xDB),
    ],
)
def test_requests_are_wrapped_as_the_meter_class_says_once_the_association_is_up(mode, suite, tag):
    security = a_security(ciphering=mode, suite=suite)
    dedicated = DEDICATED[: len(KEYS[suite].encryption)]
    cipher = Cipher(security, dedicated_key=dedicated)
    plain = bytes.fromhex("c001c100080000010000ff0200")
    key = KEYS[suite].encryption
    made = {"key": key, "authentication": KEYS[suite].authentication, "title": CLIENT_TITLE}
    assert cipher.protect(plain) == ciphered(plain, 1, 0xC8, control=0x30 | suite, **made)
    cipher.establish()
    made["key"] = dedicated if mode == "dedicated" else key
    carried = cipher.protect(plain)
    assert carried == ciphered(plain, 2, tag, control=0x30 | suite, **made)
    assert len(carried) <= len(plain) + cipher.overhead


@pytest.mark.parametrize("suite", [0, 2])
@pytest.mark.parametrize(("tag", "dedicated"), [(0xCC, 0), (0xDB, 0), (0xD4, 1), (0xDC, 1)])
@given(body=st.binary(max_size=300), counter=st.integers(0, 2**32 - 1))
def test_any_protected_answer_is_revealed(suite, tag, dedicated, body, counter):
    key = DEDICATED[: len(KEYS[suite].encryption)]
    cipher = Cipher(a_security(suite=suite), METER_TITLE, dedicated_key=key)
    plain = b"\xc4" + body
    said = ciphered(
        plain,
        counter,
        tag,
        control=0x30 | suite,
        key=key if dedicated else KEYS[suite].encryption,
        authentication=KEYS[suite].authentication,
    )
    assert cipher.reveal(said) == plain


@given(st.integers(0, 10_000), st.sampled_from([0xCC, 0xDB]))
def test_an_answer_with_any_bit_changed_is_refused_and_changes_nothing(bit, tag):
    said = ciphered(ANSWER, 7, tag)
    changed = bytearray(said)
    changed[bit // 8 % len(said)] ^= 0x80 >> bit % 8
    cipher = Cipher(a_security(), METER_TITLE)
    with pytest.raises(DlmsError):
        refuse_errors(cipher.reveal(bytes(changed)))
    assert cipher.reveal(said) == ANSWER
    assert cipher.server_title == METER_TITLE


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xcc", b"\xdb\x08METERONE", b"\xd4"]))
def test_no_bytes_at_all_pass_for_a_protected_answer(data, head):
    cipher = Cipher(a_security(), METER_TITLE)
    if (head + data)[:1] in (b"\xd8", b"\x0e"):
        return
    with pytest.raises(DlmsError):
        cipher.reveal(head + data)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_only_answers_whose_counter_rises_are_used(counters):
    cipher = Cipher(a_security(), METER_TITLE)
    highest = -1
    for counter in counters:
        said = ciphered(ANSWER, counter)
        if counter > highest:
            assert cipher.reveal(said) == ANSWER
        else:
            with pytest.raises(ReplyReplayed, match=f"is {counter}, it was {highest}"):
                cipher.reveal(said)
        highest = max(highest, counter)


def test_a_forged_answer_does_not_move_the_counter():
    cipher = Cipher(a_security(), METER_TITLE)
    with pytest.raises(ReplyForged):
        cipher.reveal(ciphered(ANSWER, 2**32 - 1, key=bytes(16)))
    assert cipher.reveal(ciphered(ANSWER, 0)) == ANSWER


@given(
    st.lists(st.sampled_from(["get", "set", "act", "proof", "initiate"]), max_size=20),
    st.sampled_from(["global", "dedicated", "general-global"]),
    st.integers(0, 20),
)
def test_no_counter_is_used_twice_for_any_sequence_of_requests(requests, mode, established_at):
    counter = Counter(first=1000)
    security = a_security(counter=counter, ciphering=mode)
    cipher = Cipher(security, dedicated_key=DEDICATED[:16])
    plain = {"get": b"\xc0\x01", "set": b"\xc1\x01", "act": b"\xc3\x01", "initiate": b"\x01\x00"}
    used = []
    for at, what in enumerate(requests):
        if at == established_at:
            cipher.establish()
        if what == "proof":
            used.append(proof(security, b"challenge")[1:5])
        elif what != "initiate" or at < established_at or mode == "global":
            made = cipher.protect(plain[what])
            at_control = made.index(0x30)
            used.append(made[at_control + 1 : at_control + 5])
    assert [int.from_bytes(count, "big") for count in used] == counter.given
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("control", [0x00, 0x10, 0x20, 0x32, 0x70, 0xB0])
def test_an_answer_with_weaker_or_other_protection_is_refused(control):
    with pytest.raises(ReplyUnprotected, match=f"expected security control 30.*came {control:02x}"):
        Cipher(a_security(), METER_TITLE).reveal(ciphered(ANSWER, 5, control=control))


def test_an_answer_in_the_clear_is_refused():
    with pytest.raises(ReplyUnprotected, match="in the clear"):
        Cipher(a_security(), METER_TITLE).reveal(ANSWER)


def test_an_answer_of_another_service_than_its_wrapping_says_is_refused():
    with pytest.raises(AnswerMalformed, match="cc holds c5"):
        Cipher(a_security(), METER_TITLE).reveal(ciphered(b"\xc5\x01\xc1\x00", 5))


def test_an_answer_under_a_dedicated_key_that_was_never_agreed_is_refused():
    with pytest.raises(ReplyUnprotected, match="none was agreed"):
        Cipher(a_security(), METER_TITLE).reveal(ciphered(ANSWER, 5, 0xD4, key=bytes(16)))


def test_the_meters_title_is_learnt_once_and_only_from_what_it_could_sign():
    cipher = Cipher(a_security())
    with pytest.raises(ReplyForged):
        cipher.reveal(ciphered(ANSWER, 5, 0xDB, title=b"IMPOSTOR", key=bytes(16)))
    assert cipher.server_title == b""
    assert cipher.reveal(ciphered(ANSWER, 5, 0xDB)) == ANSWER
    assert cipher.server_title == METER_TITLE
    with pytest.raises(ReplyForged, match="title was"):
        cipher.reveal(ciphered(ANSWER, 6, 0xDB, title=b"METERTWO"))
    with pytest.raises(ReplyForged, match="title was"):
        cipher.learn_title(b"METERTWO")


def test_a_meter_with_the_clients_own_title_is_refused():
    with pytest.raises(ReplyForged, match="the meter's own system title"):
        Cipher(a_security()).learn_title(CLIENT_TITLE)


def test_refusals_come_through_in_the_clear_and_are_never_data():
    cipher = Cipher(a_security(), METER_TITLE)
    for refusal, error in (("d80102", ServiceRefused), ("0e010601", ServiceRefused)):
        with pytest.raises(error):
            refuse_errors(cipher.reveal(bytes.fromhex(refusal)))


@pytest.mark.parametrize(
    ("tag", "refusal"), [(0x2E, "0e050000"), (0x4E, "0e050000"), (0xDB, "d80102")]
)
def test_ciphered_refusals_are_deciphered_and_named(tag, refusal):
    cipher = Cipher(a_security(), METER_TITLE, dedicated_key=EK)
    with pytest.raises(ServiceRefused):
        refuse_errors(cipher.reveal(ciphered(bytes.fromhex(refusal), 1, tag)))


def test_a_counter_that_the_meter_has_seen_is_named_with_what_it_expects():
    with pytest.raises(CounterBehind, match="expects 4660") as caught:
        refuse_errors(bytes.fromhex("d8010600001234"))
    assert caught.value.expected == 0x1234
    with pytest.raises(CounterBehind) as caught:
        refuse_errors(bytes.fromhex("d80106"))
    assert caught.value.expected is None
    with pytest.raises(CounterBehind, match="keys"):
        refuse_errors(bytes.fromhex("d80105"))


@pytest.mark.parametrize(
    ("apdu", "said"),
    [
        ("0e010601", r"initiate \(1\): initiate, dlms-version-too-low \(1\)"),
        ("0e010006", "deciphering-error"),
        ("0e05ff09", "kind 255"),
        ("0e01", "0e01"),
    ],
)
def test_confirmed_service_errors_are_named(apdu, said):
    with pytest.raises(ServiceRefused, match=said):
        refuse_errors(bytes.fromhex(apdu))


@pytest.mark.parametrize("suite", [0, 2])
@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1))
def test_each_sides_proof_is_taken_by_the_other(suite, challenge, counter):
    ours = a_security(suite=suite)
    theirs = a_security(suite=suite, client_title=METER_TITLE, counter=Counter(counter))
    check_proof(ours, METER_TITLE, challenge, proof(theirs, challenge))


@given(st.integers(0, 17 * 8 - 1))
def test_a_proof_with_any_bit_changed_is_refused(bit):
    theirs = a_security(client_title=METER_TITLE, counter=Counter(9))
    changed = bytearray(proof(theirs, bytes(16)))
    changed[bit // 8] ^= 0x80 >> bit % 8
    with pytest.raises(MeterNotAuthentic):
        check_proof(a_security(), METER_TITLE, bytes(16), bytes(changed))


def test_our_own_proof_or_one_of_another_challenge_is_refused():
    ours = proof(a_security(), bytes(16))
    theirs = proof(a_security(client_title=METER_TITLE), bytes(15) + b"\x01")
    for answer in (ours, theirs, b"", None):
        with pytest.raises(MeterNotAuthentic):
            check_proof(a_security(), METER_TITLE, bytes(16), answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": None},
        {"counter": None},
        {"client_title": b"short"},
        {"keys": Keys(EK, AK + b"\x00")},
        {"keys": Keys(b"", AK)},
        {"suite": 2, "keys": Keys(EK, AK)},
    ],
)
def test_keys_that_do_not_fit_are_refused_before_anything_is_sent(changes):
    security = dataclasses.replace(a_security(), **changes)
    with pytest.raises(ValueError, match=r"needs keys|expected an"):
        Cipher(security)


def test_keys_never_show_in_what_is_printed():
    shown = repr(a_security(password=b"geheim"))
    for secret in (EK, AK, b"geheim"):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_pushes_are_revealed_in_order_and_only_from_their_meter():
    push = bytes.fromhex("0f00000001000600001391")
    cipher = PushCipher(KEYS[0])
    assert cipher.reveal(ciphered(push, 0, 0xDB)) == push
    with pytest.raises(ReplyReplayed):
        cipher.reveal(ciphered(push, 0, 0xDB))
    with pytest.raises(ReplyForged, match=b"METERTWO".hex()):
        cipher.reveal(ciphered(push, 1, 0xDB, title=b"METERTWO"))
    with pytest.raises(ReplyUnprotected):
        cipher.reveal(ciphered(push, 1, 0xDB, control=0x20))
    with pytest.raises(ReplyUnprotected):
        cipher.reveal(push)
    assert cipher.reveal(ciphered(push, 1, 0xDB)) == push


def test_pushes_without_a_tag_are_taken_only_where_there_is_no_key_to_check_one():
    push = bytes.fromhex("0f00000001000600001391")
    said = ciphered(push, 1, 0xDB, control=0x20)
    assert PushCipher(Keys(EK, b"")).reveal(said) == push
    with pytest.raises(ReplyUnprotected, match="expected security control 30"):
        PushCipher(KEYS[0]).reveal(said)


def test_counters_of_the_dedicated_and_the_global_key_rise_each_for_itself():
    cipher = Cipher(a_security(ciphering="dedicated"), METER_TITLE, dedicated_key=DEDICATED[:16])
    for counter, (tag, key) in itertools.product((3, 4), ((0xCC, EK), (0xD4, DEDICATED[:16]))):
        assert cipher.reveal(ciphered(ANSWER, counter, tag, key=key)) == ANSWER


def test_an_answer_under_the_global_key_is_refused_where_a_dedicated_one_was_agreed():
    cipher = Cipher(a_security(ciphering="dedicated"), METER_TITLE, dedicated_key=DEDICATED[:16])
    cipher.establish()
    for tag in (0xCC, 0xDB):
        with pytest.raises(ReplyUnprotected, match="earlier association"):
            cipher.reveal(ciphered(ANSWER, 9, tag))
    assert cipher.reveal(ciphered(ANSWER, 3, 0xD4, key=DEDICATED[:16])) == ANSWER


@pytest.mark.parametrize("counter", [1, 2**32 - 1])
def test_a_push_of_another_meter_without_a_tag_neither_teaches_its_title_nor_its_counter(counter):
    push = bytes.fromhex("0f00000001000600001391")
    cipher = PushCipher(Keys(EK, b""))
    other = ciphered(push, counter, 0xDB, control=0x20, key=bytes(16), title=b"METERTWO")
    with pytest.raises(ReplyForged, match="the keys are not this meter's"):
        cipher.reveal(other)
    assert cipher.reveal(ciphered(push, 0, 0xDB, control=0x20)) == push
