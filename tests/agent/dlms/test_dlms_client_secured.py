"""The client against a ciphering meter: what both sides prove, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.client import Client, read_counter
from agent.dlms.constants import Tag
from agent.dlms.errors import (
    AnswerMalformed,
    AssociationRefused,
    AssociationSilent,
    CounterBehind,
    DlmsError,
    LinkLost,
    MeterDiffers,
    MeterNotAuthentic,
    ReplyForged,
    ReplyReplayed,
    ReplyUnprotected,
    ServiceRefused,
)
from agent.dlms.security.settings import Security
from agent.line.port import PortLost
from tests.agent.dlms.secured_meter import (
    CLIENT_TITLE,
    KEYS,
    Counter,
    SecuredMeter,
    Spoken,
    a_security,
    ciphered,
)

CLOCK = Attribute.parse("8/0.0.1.0.0.255/2")
SHIFT = Method.parse("8/0.0.1.0.0.255/6")
COUNTER = Attribute.parse("1/0.0.43.1.0.255/2")
CHALLENGE = b"client challenge"


def serve(apdu: bytes) -> bytes:
    """A meter with one value for every attribute, which takes every SET and ACTION."""
    if apdu[0] == 0xC0:
        return bytes([0xC4, 1, apdu[2], 0]) + axdr.number(Tag.U32, 5009)
    if apdu[0] == 0xC1:
        return bytes([0xC5, 1, apdu[2], 0])
    return bytes([0xC7, 1, apdu[2], 0, 0])


def a_client(carrier: Spoken, **changes: object) -> Client:
    return Client(
        carrier,
        a_security(**changes),
        name="meter 7",
        random_bytes=lambda size: CHALLENGE if size == 16 else bytes(range(size)),
    )


MODES = ["none", "global", "dedicated", "general-global"]


@pytest.mark.parametrize("suite", [0, 2])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mechanism", ["none", "lls", "hls-gmac"])
def test_every_service_works_in_every_kind_of_association(mechanism, mode, suite):
    meter = SecuredMeter(
        serve,
        suite=suite,
        diagnostic=14 if mechanism == "hls-gmac" else 0,
        context=1 if mode == "none" else 3,
    )
    carrier = Spoken(meter)
    counter = Counter()
    client = a_client(
        carrier,
        mechanism=mechanism,
        ciphering=mode,
        suite=suite,
        counter=counter,
        password=b"12345678",
    )
    with client:
        assert client.get(CLOCK) == 5009
        client.set(CLOCK, axdr.octets(bytes(12)))
        assert client.act(SHIFT, axdr.number(Tag.I16, -3)) is None
    assert carrier.closed == 1
    services = carrier.asked[-3:]
    wrapped = {
        "none": [0xC0, 0xC1, 0xC3],
        "global": [0xC8, 0xC9, 0xCB],
        "dedicated": [0xD0, 0xD1, 0xD3],
        "general-global": [0xDB] * 3,
    }
    assert [apdu[0] for apdu in services] == wrapped[mode]
    assert [apdu[0] for apdu in meter.plain[-3:]] == [0xC0, 0xC1, 0xC3]
    assert sorted(meter.client_counters) == counter.given
    if mechanism == "hls-gmac":
        assert meter.plain[0][:2] == b"\xc3\x01"


@pytest.mark.parametrize("mode", ["global", "dedicated", "general-global"])
def test_no_request_of_many_associations_uses_a_counter_twice(mode):
    counter = Counter(first=77)
    used: list[int] = []
    for _ in range(3):
        meter = SecuredMeter(serve)
        with a_client(Spoken(meter), ciphering=mode, counter=counter) as client:
            client.get(CLOCK)
        used += meter.client_counters
    assert len(set(used)) == len(used) == len(counter.given)
    assert min(used) == 77


def test_a_meter_that_starts_counting_at_0_is_read():
    with a_client(Spoken(SecuredMeter(serve, first_counter=0))) as client:
        assert client.get(CLOCK) == 5009


@pytest.mark.parametrize(
    ("habit", "error", "said"),
    [
        ({"diagnostic": 0}, MeterNotAuthentic, "accepted another mechanism or none"),
        ({"mechanism": 2}, MeterNotAuthentic, "accepted another mechanism"),
        ({"context": 1}, AssociationRefused, "accepted the other kind"),
        ({"challenge": b"short"}, AnswerMalformed, "challenge of 8 to 64 bytes"),
        ({"challenge": bytes(65)}, AnswerMalformed, "challenge of 8 to 64 bytes"),
        ({"challenge": CHALLENGE}, MeterNotAuthentic, "our own challenge"),
        ({"title": CLIENT_TITLE}, ReplyForged, "own system title"),
        ({"told_title": b"METER"}, ReplyForged, "own system title"),
        ({"told_title": b"METERTWO"}, ReplyForged, "tag is wrong"),
        ({"told_title": b""}, ReplyForged, "own system title"),
        ({"proof": lambda proof: proof[:-1] + b"\x00"}, MeterNotAuthentic, "did not prove"),
        ({"result": 1, "diagnostic": 1}, AssociationRefused, "rejected-permanent.*no-reason"),
        ({"result": 1, "diagnostic": 13}, CounterBehind, "authentication-failure.*counter"),
    ],
)
def test_a_meter_that_does_not_prove_itself_is_left_and_says_nothing(habit, error, said):
    asked: list[bytes] = []

    def heard(apdu: bytes) -> bytes:
        asked.append(apdu)
        return serve(apdu)

    carrier = Spoken(SecuredMeter(heard, **habit))
    with pytest.raises(error, match=f"meter 7: .*{said}"), a_client(carrier) as client:
        client.get(CLOCK)
    assert carrier.closed == 1
    assert asked == []


@pytest.mark.parametrize("mechanism", ["none", "lls"])
@pytest.mark.parametrize("mode", ["none", "global"])
def test_a_meter_that_wants_hls_is_not_asked_for_anything_without_it(mechanism, mode):
    carrier = Spoken(SecuredMeter(serve, context=1 if mode == "none" else 3))
    with (
        pytest.raises(AssociationRefused, match="wants high-level security"),
        a_client(carrier, mechanism=mechanism, ciphering=mode, password=b"12345678"),
    ):
        pass
    assert len(carrier.asked) == carrier.closed == 1


@pytest.mark.parametrize("title", [b"", b"ME", b"METERTWO", CLIENT_TITLE])
def test_a_meter_with_a_title_that_is_not_its_own_is_left_even_without_ciphering(title):
    carrier = Spoken(SecuredMeter(serve, context=1, told_title=title))
    with pytest.raises(MeterNotAuthentic), a_client(carrier, ciphering="none"):
        pass
    assert all(apdu[0] != 0xC0 for apdu in carrier.asked)


def test_a_client_with_other_keys_is_refused_by_the_meter_and_refuses_it():
    meter = SecuredMeter(serve, context=1)
    with (
        pytest.raises(AssociationRefused, match="did not take our proof: read-write-denied"),
        a_client(
            Spoken(meter),
            ciphering="none",
            keys=type(KEYS[0])(bytes(16), KEYS[0].authentication),
        ),
    ):
        pass


def test_a_plain_association_that_should_be_ciphered_is_refused():
    carrier = Spoken(SecuredMeter(serve, carried=lambda said: serve(bytes([0xC0, 1, 0xC2]))))
    with pytest.raises(ReplyUnprotected, match=r"meter 7.*in the clear"), a_client(carrier):
        pass


@given(st.integers(0, 10_000), st.sampled_from(["global", "dedicated", "general-global"]))
def test_an_answer_with_any_bit_changed_is_an_error_and_never_data(bit, mode):
    changing = False

    def carried(said: bytes) -> bytes:
        if not changing:
            return said
        changed = bytearray(said)
        changed[bit // 8 % len(said)] ^= 0x80 >> bit % 8
        return bytes(changed)

    carrier = Spoken(SecuredMeter(serve, carried=carried))
    with a_client(carrier, ciphering=mode) as client:
        assert client.get(CLOCK) == 5009
        changing = True
        with pytest.raises(DlmsError, match="meter 7"):
            client.get(CLOCK)
        changing = False
        assert client.get(CLOCK) == 5009
    assert carrier.closed == 1


@pytest.mark.parametrize("mode", ["global", "dedicated", "general-global"])
def test_an_answer_that_was_heard_before_is_refused(mode):
    recorded: list[bytes] = []

    def replaying(said: bytes) -> bytes:
        recorded.append(said)
        return recorded[1] if len(recorded) > 2 else said

    with a_client(Spoken(SecuredMeter(serve, carried=replaying)), ciphering=mode) as client:
        assert client.get(CLOCK) == 5009
        with pytest.raises(ReplyReplayed, match="has to rise"):
            client.get(CLOCK)


def test_an_answer_without_a_tag_is_refused():
    meter = SecuredMeter(serve)
    with a_client(Spoken(meter)) as client:
        meter.carried = lambda said: ciphered(
            bytes([0xC4, 1, 0xC2, 0, 0x11, 5]), meter.counter, control=0x20
        )
        with pytest.raises(ReplyUnprotected, match="came 20"):
            client.get(CLOCK)


def test_refusals_in_the_clear_are_named_and_the_link_ends():
    meter = SecuredMeter(serve)
    carrier = Spoken(meter)
    with a_client(carrier) as client:
        meter.carried = lambda said: bytes.fromhex("d80102")
        with pytest.raises(ServiceRefused, match="service-not-supported"):
            client.get(CLOCK)
        meter.carried = lambda said: bytes.fromhex("d80106000003e8")
        with pytest.raises(CounterBehind) as caught:
            client.get(CLOCK)
        assert caught.value.expected == 1000
    assert carrier.closed == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("d80106000003e8", 1000), ("d80106", None), ("d80105", None)],
)
def test_an_association_that_fails_for_its_counter_says_so(answer, expected):
    carrier = Spoken(lambda apdu: bytes.fromhex(answer))
    with pytest.raises(CounterBehind, match="meter 7") as caught, a_client(carrier):
        pass
    assert caught.value.expected == expected
    assert carrier.closed == 1


def test_a_deciphering_error_in_the_aare_says_that_the_counter_may_be_behind():
    aare = bytes.fromhex("611fa109060760857405080103a203020101a305a103020101be0604040e010006")
    with pytest.raises(CounterBehind, match="deciphering-error"), a_client(Spoken(lambda _: aare)):
        pass


def test_a_wrong_password_is_no_matter_of_counters():
    meter = SecuredMeter(serve, context=1, result=1, diagnostic=13)
    with (
        pytest.raises(AssociationRefused, match=r"authentication-failure.*password"),
        a_client(Spoken(meter), mechanism="lls", ciphering="none", password=b"wrong"),
    ):
        pass


def test_a_counter_is_read_by_the_public_client_and_raises_ours():
    meter = SecuredMeter(serve, diagnostic=0, context=1)
    carrier = Spoken(meter)
    assert read_counter(Client(carrier, Security(), name="meter 7"), COUNTER) == 5009
    assert carrier.closed == 1
    assert b"\x8b" not in carrier.asked[0]


@pytest.mark.parametrize("value", [axdr.visible("5"), axdr.number(Tag.I32, -1)])
def test_a_counter_that_is_none_is_refused(value):
    def say(apdu: bytes) -> bytes:
        return bytes([0xC4, 1, apdu[2], 0]) + value

    meter = SecuredMeter(say, diagnostic=0, context=1)
    with pytest.raises(MeterDiffers, match="expected an invocation counter"):
        read_counter(Client(Spoken(meter), Security(), name="meter 7"), COUNTER)


def test_both_forms_of_every_apdu_can_be_observed():
    seen: list[tuple[str, bytes, bytes]] = []
    carrier = Spoken(SecuredMeter(serve))
    with Client(
        carrier, a_security(), name="meter 7", observe_apdu=lambda *said: seen.append(said)
    ) as client:
        client.get(CLOCK)
    assert [(way, carried[0], plain[0]) for way, carried, plain in seen] == [
        ("sent", 0x60, 0x60),
        ("heard", 0x61, 0x61),
        ("sent", 0xCB, 0xC3),
        ("heard", 0xCF, 0xC7),
        ("sent", 0xC8, 0xC0),
        ("heard", 0xCC, 0xC4),
    ]


@pytest.mark.parametrize(
    "answer", ["6303800100", "6324800100be", "d80102", "00", "", None], ids=str
)
def test_any_answer_to_a_release_counts_and_the_link_ends(answer):
    meter = SecuredMeter(serve)

    def say(apdu: bytes) -> bytes | list[bytes]:
        if apdu[0] == 0x62:
            return [] if answer is None else bytes.fromhex(answer)
        return meter(apdu)

    carrier = Spoken(say)
    with Client(carrier, a_security(), name="meter 7", release=True) as client:
        client.get(CLOCK)
    assert carrier.asked[-1].hex() == "6203800100"
    assert carrier.closed == 1


@pytest.mark.parametrize("error", [LinkLost("gone"), ValueError("a mistake of ours")])
def test_the_link_ends_whatever_happens_while_it_comes_up(error):
    def say(apdu: bytes) -> bytes:
        raise error

    carrier = Spoken(say)
    with pytest.raises(type(error)), a_client(carrier):
        pass
    assert carrier.closed == 1


def test_a_port_that_is_lost_is_not_asked_to_end_the_link():
    def say(apdu: bytes) -> bytes:
        raise PortLost("unplugged")

    carrier = Spoken(say)
    with pytest.raises(PortLost), a_client(carrier):
        pass
    assert carrier.closed == 0


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x61", b"\x61\x40", b"\xa1\x09"]))
def test_any_answer_to_an_association_is_understood_or_an_error(data, head):
    carrier = Spoken(lambda apdu: head + data)
    with pytest.raises(DlmsError), a_client(carrier):
        pass
    assert carrier.closed == 1


@given(st.data(), st.sampled_from(["none", "global"]))
def test_an_aare_with_any_byte_changed_never_makes_a_weaker_association(data, mode):
    changed_at = data.draw(st.integers(0, 200))
    value = data.draw(st.integers(0, 255))

    meter = SecuredMeter(serve, context=1 if mode == "none" else 3)

    def say(apdu: bytes) -> bytes:
        said = bytearray(meter(apdu))
        if apdu[0] == 0x60 and changed_at < len(said):
            said[changed_at] = value
        return bytes(said)

    carrier = Spoken(say)
    with contextlib.suppress(DlmsError), a_client(carrier, ciphering=mode) as client:
        assert client.get(CLOCK) == 5009
        assert meter.plain[0][:2] == b"\xc3\x01"
    if mode == "global":
        assert all(apdu[0] in (0x60, 0xCB, 0xC8) for apdu in carrier.asked)


@pytest.mark.parametrize("answer", [[], [b"\xd8\x01\x01"]])
def test_an_association_that_did_not_come_about_is_not_released(answer):
    carrier = Spoken(lambda apdu: answer)
    with (
        pytest.raises((AssociationSilent, ServiceRefused)),
        Client(carrier, a_security(), name="meter 7", release=True),
    ):
        pass
    assert [apdu[0] for apdu in carrier.asked] == [0x60]
    assert carrier.closed == 1
