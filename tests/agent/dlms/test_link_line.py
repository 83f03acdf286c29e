"""HDLC against a meter's station of its own, over a line with faults, in simulated time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.errors import (
    AnswerMalformed,
    AnswerTooLarge,
    DlmsError,
    LinkLost,
    LinkRefused,
    NoAnswer,
)
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from hil.meters.dlms.hdlc import Ear, Heard, build
from tests.agent.dlms.hdlc_line import CHAR_S, CLIENT, Line, Station, a_carrier, answer_to

FAULTS = st.sampled_from(["lost", "garbled", "doubled", "cut", "noise before", "flag before"])
SIZES = st.sampled_from([32, 33, 64, 128, 200, 2030])
WINDOWS = st.integers(1, 7)


@settings(max_examples=300, deadline=None)
@given(
    faults=st.dictionaries(st.integers(1, 40), FAULTS, max_size=6),
    request_sizes=st.lists(st.integers(1, 1200), min_size=1, max_size=3),
    limits=st.tuples(SIZES, WINDOWS),
    station=st.builds(
        Station,
        answer_size=st.integers(0, 2000),
        info=SIZES,
        window=WINDOWS,
        busy=st.integers(0, 3),
        rejects=st.booleans(),
        forgets_final=st.booleans(),
        parameter_size=st.sampled_from([0, 1, 2, 4]),
        pushes=st.sampled_from([b"", b"\x0f push"]),
        acknowledges_first=st.booleans(),
    ),
    echoes=st.booleans(),
    server=st.sampled_from([CLIENT, b"\x02\x23", b"\x00\x02\x04\x59"]),
)
def test_an_answer_is_right_or_a_typed_error_in_time(
    faults, request_sizes, limits, station, echoes, server
):
    line = Line(station, server, faults, echoes=echoes)
    carrier = a_carrier(line, server, max_info=limits[0], window=limits[1])
    asked, failed = [], None
    try:
        carrier.open()
        for number, size in enumerate(request_sizes):
            request = bytes([number]) + random.Random(size).randbytes(size)
            asked.append(request)
            began_s = line.now_s
            answer = carrier.request(request, "test")
            assert answer == answer_to(request + b"", station.answer_size)
            assert line.now_s - began_s < 30.0 + 0.1
    except DlmsError as error:
        failed = error
        assert line.now_s - began_s < 30.0 + 0.1 if asked else line.now_s < 5.0
    carrier.close()
    assert line.controls[-1] == 0x53
    assert len(carrier.take_notifications()) <= 16
    assert station.asked == asked or (failed and station.asked == asked[:-1])
    if len(faults) <= 1:
        assert failed is None, "one fault has to be survived"


def test_an_echo_that_comes_after_a_repeat_is_not_the_meters():
    """Both addresses alike, and the meter's request for more came twice."""
    station = Station(answer_size=1956, info=64, window=6, forgets_final=True, pushes=b"push")
    faults = {2: "garbled", 5: "flag before", 10: "doubled", 17: "lost", 33: "doubled"}
    line = Line(station, CLIENT, faults, echoes=True)
    carrier = a_carrier(line, CLIENT, max_info=32, window=6)
    carrier.open()
    for size in range(500, 1200, 50):
        request = random.Random(size).randbytes(size)
        assert carrier.request(request, "test") == answer_to(request, 1956)


@pytest.mark.parametrize("window", range(1, 8))
def test_windows_of_the_agreed_size_go_out_and_come_in(window):
    station = Station(answer_size=1000, info=64, window=window)
    line = Line(station, b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    request = bytes(range(200)) * 5
    assert carrier.request(request, "test") == answer_to(request, 1000)
    frames = -(-1003 // 64)
    asked = [control for control in line.controls if control & 1 == 0]
    assert len(asked) == frames
    assert sum(control & 0x10 != 0 for control in asked) == -(-frames // window)
    assert len(line.controls) - 1 - frames == -(-frames // window) - 1


def test_a_busy_meter_is_asked_again_until_it_answers():
    line = Line(Station(busy=5), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    assert carrier.request(b"q", "test") == answer_to(b"q", 40)
    assert len(line.controls) == 2 + 5


def test_a_meter_that_stays_busy_is_given_up_at_the_deadline():
    line = Line(Station(busy=10**6), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    with pytest.raises(NoAnswer):
        carrier.request(b"q", "test")
    limit_s = 3 * (1.0 + (20 + 7 * (128 + 15)) * CHAR_S)
    assert line.now_s < limit_s + 1.0
    with pytest.raises(LinkLost, match="make a new one"):
        carrier.request(b"q", "test")


def test_dm_in_the_middle_is_a_lost_link_and_a_new_one_helps():
    station = Station()
    line = Line(station, b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    station.connected = False
    with pytest.raises(LinkLost, match="DM"):
        carrier.request(b"q", "test")
    carrier.open()
    assert carrier.request(b"q", "test") == answer_to(b"q", 40)


def test_frmr_in_the_middle_is_a_lost_link():
    station = Station()
    carrier = a_carrier(Line(station, b"\x02\x23"))
    carrier.open()
    station.first = 3
    with pytest.raises(LinkLost, match="FRMR"):
        carrier.request(b"q", "test")


def test_a_link_of_before_is_ended_before_the_last_snrm():
    line = Line(Station(deaf=1), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    assert line.controls == [0x93, 0x93, 0x53, 0x93]
    assert carrier.request(b"q", "test") == answer_to(b"q", 40)


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_sizes_in_ua_of_any_width_are_kept_to(size):
    station = Station(answer_size=600, info=100, window=3, parameter_size=size)
    line = Line(station, b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    assert carrier.request(bytes(500), "test") == answer_to(bytes(500), 600)
    assert sum(control & 1 == 0 for control in line.controls) == (6 if size else 4)


def test_a_refused_link_is_refused_by_name():
    class Refusing(Station):
        def receive(self, heard: Heard) -> bytes:
            return build(heard.sender, heard.to, 0x1F)

    with pytest.raises(LinkRefused, match="DM"):
        a_carrier(Line(Refusing(), b"\x02\x23")).open()


def test_notifications_disturb_no_exchange_and_can_be_taken():
    line = Line(Station(pushes=b"\x0f\x00push"), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    for _ in range(20):
        assert carrier.request(b"q", "test") == answer_to(b"q", 40)
    assert carrier.take_notifications() == [b"\x0f\x00push"] * 16
    assert carrier.take_notifications() == []


@pytest.mark.parametrize("forgets_final", [False, True])
@pytest.mark.parametrize("window", [1, 7])
def test_further_answers_are_handed_out_one_by_one(window, forgets_final):
    station = Station(messages=3, window=window, forgets_final=forgets_final)
    carrier = a_carrier(Line(station, b"\x02\x23"))
    carrier.open()
    answers = [carrier.request(b"q", "first"), carrier.more("second"), carrier.more("third")]
    assert answers == [answer_to(b"q" + bytes(number), 40) for number in range(3)]
    with pytest.raises(NoAnswer):
        carrier.more("fourth")


def test_an_answer_beyond_the_limit_is_too_large():
    carrier = a_carrier(Line(Station(answer_size=2000), b"\x02\x23"), longest_answer=1000)
    carrier.open()
    with pytest.raises(AnswerTooLarge):
        carrier.request(b"q", "test")


def test_an_exchange_that_gets_on_slowly_ends_with_its_deadline():
    line = Line(Station(answer_size=20_000, info=32), b"\x02\x23", reaction_s=0.5)
    carrier = a_carrier(line, window=1, exchange_s=5.0)
    carrier.open()
    began_s = line.now_s
    with pytest.raises(NoAnswer, match="longer than 5 s"):
        carrier.request(b"q", "test")
    assert line.now_s - began_s < 5.1


@pytest.mark.parametrize("babble", [b"\x7e", b"\x00", b"\x7e\xa7\xff", b"\x7e\xa0\x07"])
def test_a_babbling_line_ends_with_the_deadline(babble):
    class Babbling(Line):
        def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
            self.now_s += 0.005
            return (babble * 16)[:16]

    line = Babbling(Station(), b"\x02\x23")
    with pytest.raises(NoAnswer):
        a_carrier(line).open()
    assert line.now_s < 6.0


def test_the_observer_sees_what_was_sent_and_heard():
    seen: list[tuple[str, bytes]] = []
    line = Line(Station(), b"\x02\x23")
    carrier = HdlcCarrier(
        line,
        LinkSettings(),
        client_address=CLIENT,
        server_address=b"\x02\x23",
        name="a meter",
        observe=lambda direction, data: seen.append((direction, data)),
        now_s=line.clock,
        sleep=line.sleep,
    )
    carrier.open()
    carrier.close()
    assert [(direction, next(Ear().hear(data)).control) for direction, data in seen] == [
        ("sent", 0x93),
        ("heard", 0x73),
        ("sent", 0x53),
        ("heard", 0x73),
    ]


def test_a_malformed_ua_is_malformed():
    class Garbled(Station):
        def receive(self, heard: Heard) -> bytes:
            return build(heard.sender, heard.to, 0x73, b"\x81\x80\x09")

    with pytest.raises(AnswerMalformed, match="818009"):
        a_carrier(Line(Garbled(), b"\x02\x23")).open()


def test_a_window_longer_than_a_ports_buffer_goes_out_in_pieces():
    line = Line(Station(info=2030), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    request = bytes(10_000)
    began_s = line.now_s
    assert carrier.request(request, "test") == answer_to(request, 40)
    assert line.now_s - began_s < (10_000 + 5 * 15 + 100) * CHAR_S + 1.0


def test_a_meter_that_only_asks_again_is_given_up_by_its_tries():
    class Forgetful(Station):
        def _take(self, heard: Heard) -> None:
            """Never takes a request, and says RR to every poll."""

    line = Line(Forgetful(), b"\x02\x23")
    carrier = a_carrier(line)
    carrier.open()
    began_s = line.now_s
    with pytest.raises(NoAnswer):
        carrier.request(b"q", "test")
    assert line.now_s - began_s < 3 * (1.0 + (20 + 7 * (128 + 15)) * CHAR_S)


@pytest.mark.parametrize("server", [CLIENT, b"\x02\x23"])
def test_an_echo_does_not_shorten_the_time_a_meter_has(server):
    line = Line(Station(), server, echoes=True, reaction_s=0.8)
    carrier = a_carrier(line, server)
    carrier.open()
    assert carrier.request(b"q", "test") == answer_to(b"q", 40)
    assert line.controls == [0x93, 0x10]
