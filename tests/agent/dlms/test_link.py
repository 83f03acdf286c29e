"""Frames and the link's table, without a line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.link.frame import (
    DISC,
    DM,
    FRMR,
    SNRM,
    UA,
    UI,
    FrameCutter,
    LinkParameters,
    agree_parameters,
    client_address,
    encode_parameters,
    frame,
    server_address,
)
from agent.dlms.link.hdlc import (
    TABLE,
    Closed,
    Failed,
    Heard,
    Link,
    Message,
    Opened,
    Send,
    State,
    Unasked,
    Wait,
)

CLIENT = client_address(16)
SERVER = server_address("1/17")
WANTED = LinkParameters(2030, 2030, 7, 7)
SMALL = LinkParameters(32, 128, 3, 1)


def from_meter(control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
    return frame(CLIENT, SERVER, control, info, segmented=segmented)


def information(number: int, received: int, info: bytes, *, more=False, final=True) -> bytes:
    return from_meter(received << 5 | final << 4 | number << 1, info, segmented=more)


def supervisory(received: int) -> bytes:
    return from_meter(received << 5 | 0x11)


def busy(received: int) -> bytes:
    return from_meter(received << 5 | 0x15)


def rejected(received: int) -> bytes:
    return from_meter(received << 5 | 0x19)


def a_link(state: State) -> Link:
    """A link that has been brought into `state` by frames alone.

    Asking and beyond, three segments of the request are out of the four.
    """
    link = Link(CLIENT, SERVER, WANTED, longest_answer=10_000)
    if state is State.CLOSED:
        return link
    link.open()
    if state is State.OPENING:
        return link
    small = LinkParameters(SMALL.info_in, SMALL.info_out, SMALL.window_in, SMALL.window_out)
    link.receive(from_meter(UA, encode_parameters(small)))
    if state is State.READY:
        return link
    if state is State.CLOSING:
        link.close()
        return link
    link.ask(bytes(100))
    if state is State.ASKING:
        return link
    link.receive(supervisory(3))
    link.receive(information(0, 4, b"\xe6\xe7\x00an", more=True))
    if state is State.STREAMING:
        link.receive(information(1, 4, b"swer", final=False))
    assert link.state is state
    return link


NEXT = {State.RECEIVING: 1, State.STREAMING: 2}
"""The number of the information that is expected in a state."""
BEGUN = {State.RECEIVING: b"x"}
"""What information has in it where the LLC header has come before."""


def the_frame(heard: Heard, state: State) -> bytes:
    """A frame that means `heard` in `state`, where it can mean it."""
    number, info = NEXT.get(state, 0), BEGUN.get(state, b"\xe6\xe7\x00x")
    have = 4 if state in NEXT else 0
    return {
        Heard.UA: from_meter(UA, encode_parameters(WANTED)),
        Heard.DM: from_meter(DM),
        Heard.FRMR: from_meter(FRMR),
        Heard.UI: from_meter(UI, b"push"),
        Heard.PART: information(number, have, info, more=True),
        Heard.WHOLE: information(number, have, info, final=False),
        Heard.LAST: information(number, have, info),
        Heard.OUT_OF_TURN: information(number + 5 & 7, have, b"x"),
        Heard.TAKEN: supervisory(have + 1),
        Heard.WANTED: supervisory(have),
        Heard.IDLE: supervisory(have),
        Heard.BUSY: busy(have),
        Heard.REJECTED: rejected(have),
        Heard.OTHER: from_meter(0x97 ^ 0x20, b""),
    }[heard]


OUTCOMES = {
    (State.OPENING, Heard.UA): Opened,
    (State.OPENING, Heard.DM): Failed,
    (State.OPENING, Heard.FRMR): Failed,
    (State.ASKING, Heard.TAKEN): Send,
    (State.ASKING, Heard.WANTED): Send,
    (State.ASKING, Heard.REJECTED): Send,
    (State.ASKING, Heard.IDLE): Wait,
    (State.ASKING, Heard.BUSY): Wait,
    (State.ASKING, Heard.PART): Send,
    (State.ASKING, Heard.WHOLE): Message,
    (State.ASKING, Heard.LAST): Message,
    (State.ASKING, Heard.DM): Failed,
    (State.ASKING, Heard.FRMR): Failed,
    (State.RECEIVING, Heard.IDLE): Wait,
    (State.RECEIVING, Heard.BUSY): Wait,
    (State.RECEIVING, Heard.PART): Send,
    (State.RECEIVING, Heard.WHOLE): Message,
    (State.RECEIVING, Heard.LAST): Message,
    (State.RECEIVING, Heard.DM): Failed,
    (State.RECEIVING, Heard.FRMR): Failed,
    (State.STREAMING, Heard.IDLE): None,
    (State.STREAMING, Heard.BUSY): None,
    (State.STREAMING, Heard.PART): Send,
    (State.STREAMING, Heard.WHOLE): Message,
    (State.STREAMING, Heard.LAST): Message,
    (State.STREAMING, Heard.DM): Failed,
    (State.STREAMING, Heard.FRMR): Failed,
    (State.CLOSING, Heard.UA): Closed,
    (State.CLOSING, Heard.DM): Closed,
    **{(state, Heard.UI): Unasked for state in State},
}

NEEDS_WHOLE_REQUEST = {Heard.IDLE, Heard.PART, Heard.WHOLE, Heard.LAST}
"""What only comes once the meter has the whole request."""


def test_every_row_of_the_table_has_its_case():
    assert set(OUTCOMES) == set(TABLE)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("heard", Heard)
def test_a_row_of_the_table_does_what_it_says_and_the_rest_is_passed_over(state, heard):
    link = a_link(state)
    frame_heard = the_frame(heard, state)
    if state is State.ASKING and heard in NEEDS_WHOLE_REQUEST:
        link.receive(supervisory(3))
        frame_heard = {
            Heard.IDLE: supervisory(4),
            Heard.PART: information(0, 4, b"\xe6\xe7\x00x", more=True),
            Heard.WHOLE: information(0, 4, b"\xe6\xe7\x00x", final=False),
            Heard.LAST: information(0, 4, b"\xe6\xe7\x00x"),
        }[heard]
    outcomes = link.receive(frame_heard)
    if (state, heard) not in TABLE:
        meant_otherwise = heard is Heard.WANTED and (state, Heard.IDLE) in TABLE
        if not meant_otherwise:
            assert outcomes == []
            assert link.state is state
        return
    expected = OUTCOMES[state, heard]
    assert [type(outcome) for outcome in outcomes] == ([expected] if expected else [])
    assert link.state is TABLE[state, heard][1]


def test_a_long_request_goes_out_in_segments_and_llc_only_in_the_first():
    link = Link(CLIENT, SERVER, LinkParameters(), longest_answer=1000)
    link.open()
    link.receive(from_meter(UA))
    request = bytes(range(200))
    sent = [link.ask(request)]
    for number in (1, 2):
        outcomes = link.receive(supervisory(number))
        sent += [outcome.data for outcome in outcomes if isinstance(outcome, Send)]
    frames = [heard for data in sent for heard in FrameCutter().feed(data)]
    assert b"".join(heard.info for heard in frames) == b"\xe6\xe6\x00" + request
    assert [heard.segmented for heard in frames] == [True, False]
    assert max(len(heard.info) for heard in frames) == 128


def test_a_window_is_acknowledged_once_at_its_end():
    link = a_link(State.READY)
    link.ask(b"question")
    assert link.receive(information(0, 1, b"\xe6\xe7\x00a", more=True, final=False)) == []
    assert link.receive(information(1, 1, b"b", more=True, final=False)) == []
    (send,) = link.receive(information(2, 1, b"c", more=True))
    assert send == Send(frame(SERVER, CLIENT, 3 << 5 | 0x11))
    assert link.receive(information(3, 1, b"d")) == [Message(b"abcd")]


def test_a_late_answer_is_asked_for_before_the_request_is_repeated():
    link = a_link(State.READY)
    request = link.ask(b"question")
    poll = frame(SERVER, CLIENT, 0x11)
    assert link.again() == poll
    assert link.receive(supervisory(0)) == [Send(request)]
    assert link.receive(supervisory(0)) == []
    assert link.again() == poll
    assert link.again() == request


def test_an_answer_without_its_llc_header_fails_the_link():
    link = a_link(State.ASKING)
    link.receive(supervisory(3))
    (failed,) = link.receive(information(0, 4, b"\xe6\xe6\x00x"))
    assert isinstance(failed, Failed)
    assert "e6e700" in failed.reason


def test_an_answer_beyond_the_limit_fails_the_link():
    link = Link(CLIENT, SERVER, WANTED, longest_answer=100)
    link.open()
    link.receive(from_meter(UA, encode_parameters(WANTED)))
    link.ask(b"question")
    (failed,) = link.receive(information(0, 1, b"\xe6\xe7\x00" + bytes(200)))
    assert isinstance(failed, Failed)


def test_a_ua_without_parameters_means_the_defaults():
    assert agree_parameters(WANTED, b"") == LinkParameters(128, 128, 1, 1)


def test_parameters_of_one_two_and_four_bytes_are_understood():
    answer = bytes.fromhex("81800e 0502 0100 060180 070400000001 0801 01".replace(" ", ""))
    assert agree_parameters(WANTED, answer) == LinkParameters(128, 256, 1, 1)


def test_malformed_parameters_are_refused():
    assert agree_parameters(WANTED, bytes.fromhex("818004050901")) is None


@pytest.mark.parametrize(
    ("text", "size", "address"),
    [
        ("1", None, "03"),
        ("1/17", None, "0223"),
        ("1/17", 4, "00020023"),
        ("1/300", None, "00020459"),
    ],
)
def test_server_addresses_take_the_form_that_holds_them(text, size, address):
    assert server_address(text, size) == bytes.fromhex(address)


@pytest.mark.parametrize(
    "text", ["", "1/2/3", "a/1", "-1", "1/20000", "0", "127", "1/0", "1/126", "1/127", "1/16383"]
)
def test_an_impossible_server_address_is_refused(text):
    with pytest.raises(ValueError, match="server address"):
        server_address(text)


def test_the_published_snrm_is_what_is_sent():
    assert frame(SERVER, CLIENT, SNRM).hex() == "7ea00802232193bd647e"


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), min_size=1, max_size=6),
    st.binary(max_size=30),
    st.integers(1, 50),
)
def test_frames_are_found_behind_noise_and_however_they_are_cut(payloads, noise, step):
    noise = noise.replace(b"\x7e", b"")
    stream = noise + b"".join(
        frame(CLIENT, SERVER, 0x10, info, segmented=more) for info, more in payloads
    )
    cutter = FrameCutter()
    found = []
    for at in range(0, len(stream), step):
        assert cutter.needed >= 1
        found += list(cutter.feed(stream[at : at + step]))
    assert [(heard.info, heard.segmented) for heard in found] == payloads


@given(
    st.sampled_from([b"\x7e\xa7\xff", b"\x7e\xa1\x00\x03", b"\x7e\xa7\xff\x03\x21\x10"]),
    st.binary(min_size=10, max_size=100),
    st.integers(1, 50),
)
def test_a_flag_and_a_length_in_the_noise_do_not_swallow_the_frame_behind(noise, info, step):
    stream = noise + frame(CLIENT, SERVER, 0x10, info)
    cutter = FrameCutter()
    found = [
        heard for at in range(0, len(stream), step) for heard in cutter.feed(stream[at:][:step])
    ]
    assert [heard.info for heard in found] == [info]
    assert cutter.damaged >= 1


def test_one_flag_may_close_and_open():
    two = frame(CLIENT, SERVER, UA) + frame(CLIENT, SERVER, DM)[1:]
    assert [heard.control for heard in FrameCutter().feed(two)] == [UA, DM]


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["open", "ask", "again", "close"]),
            st.binary(max_size=20),
            st.tuples(st.integers(0, 255), st.binary(max_size=8), st.booleans()),
        ),
        max_size=40,
    )
)
def test_no_sequence_of_frames_leads_out_of_the_table(steps):
    link = Link(CLIENT, SERVER, WANTED, longest_answer=64)
    for step in steps:
        if step == "open":
            link.open()
        elif step == "ask" and link.state is State.READY:
            link.ask(b"q")
        elif step == "again":
            link.again()
        elif step == "close":
            link.close()
        elif isinstance(step, bytes):
            link.receive(step)
        elif isinstance(step, tuple):
            control, info, more = step
            outcomes = link.receive(from_meter(control, info, segmented=more))
            assert len(outcomes) <= 1
            if any(isinstance(outcome, Failed) for outcome in outcomes):
                assert link.state is State.CLOSED
    assert link.close()[-1] == 0x7E
    link.receive(from_meter(UA))
    assert link.state is State.CLOSED
    assert DISC == 0x53


def test_an_answer_to_something_else_than_the_request_is_passed_over():
    link = a_link(State.READY)
    link.ask(b"question")
    assert link.receive(information(0, 0, b"\xe6\xe7\x00late")) == []
    assert link.receive(information(0, 1, b"\xe6\xe7\x00answer")) == [Message(b"answer")]


@pytest.mark.parametrize("received", [4, 5, 7])
def test_an_acknowledgement_of_what_was_not_sent_is_passed_over(received):
    link = a_link(State.ASKING)
    assert link.receive(supervisory(received)) == []
    assert [type(outcome) for outcome in link.receive(supervisory(3))] == [Send]


def test_a_window_is_sent_again_once_and_then_only_after_a_time_out():
    link = a_link(State.ASKING)
    assert [type(outcome) for outcome in link.receive(supervisory(0))] == [Send]
    assert link.receive(supervisory(0)) == []
    assert link.receive(rejected(0)) == []
    link.again()
    assert [type(outcome) for outcome in link.receive(supervisory(0))] == [Send]


def test_what_is_sent_again_keeps_its_numbers_and_acknowledges_no_more():
    link = a_link(State.READY)
    request = link.ask(bytes(100))
    (again,) = link.receive(rejected(0))
    assert again == Send(request)
    (rest,) = link.receive(rejected(2))
    assert [heard.control >> 1 & 7 for heard in FrameCutter().feed(rest.data)] == [2, 3]
