"""The simulated meter's HDLC link with windows in both directions, against frames made by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hil.meters.dlms.hdlc import Ear, Heard, Station

_METER, _CLIENT = b"\x03", b"\x21"
_SNRM_WINDOWS_7 = bytes.fromhex("81800c 0502 0080 0602 0080 0701 07 0801 07".replace(" ", ""))
_RR, _RNR, _REJ = 0x11, 0x15, 0x19


class _Bench:
    def __init__(self, client_window: int) -> None:
        self.requests: list[bytes] = []
        self.station = Station(self._serve, lambda: None, client_window=client_window)
        (self.ua,) = self.say(0x93, _SNRM_WINDOWS_7)

    def _serve(self, _sap: int, request: bytes) -> list[bytes]:
        self.requests.append(request)
        return [request]

    def say(self, control: int, payload: bytes = b"", more: bool = False) -> list[Heard]:
        heard = Heard(_METER, _CLIENT, control, payload, more)
        return list(Ear().hear(self.station.receive(heard)))

    def segment(self, number: int, payload: bytes, *, polls: bool, more: bool) -> list[Heard]:
        return self.say(number << 1 | (0x10 if polls else 0), payload, more)


def test_the_meter_grants_the_window_that_it_takes() -> None:
    assert _Bench(3).ua.payload.endswith(bytes.fromhex("080400000003"))
    assert _Bench(1).ua.payload.endswith(bytes.fromhex("080400000001"))


def test_frames_of_a_window_are_answered_only_at_the_poll() -> None:
    bench = _Bench(3)
    assert bench.segment(0, b"one", polls=False, more=True) == []
    assert bench.segment(1, b"two", polls=False, more=True) == []
    (ready,) = bench.segment(2, b"three", polls=True, more=True)
    assert ready.control == 3 << 5 | _RR
    (answer,) = bench.segment(3, b"four", polls=True, more=False)
    assert answer.payload == b"onetwothreefour"


@given(lost=st.sets(st.integers(0, 2), max_size=3))
def test_a_window_with_lost_frames_is_taken_whole_once_it_is_repeated(lost: set[int]) -> None:
    bench = _Bench(3)
    frames = [(k, bytes([65 + k]), k == 2) for k in range(3)]
    for number, payload, last in frames:
        if number not in lost:
            bench.segment(number, payload, polls=last, more=not last)
    arrived = min(lost, default=3)
    (said,) = bench.say(_RR)
    assert said.control >> 5 == arrived
    answers = [said]
    for number, payload, last in frames[arrived:]:
        answers = bench.segment(number, payload, polls=last, more=not last)
    assert [answer.payload for answer in answers] == [b"ABC"]
    assert bench.requests == [b"ABC"]


def test_a_frame_outside_the_window_is_rejected() -> None:
    (rejected,) = _Bench(1).segment(2, b"x", polls=True, more=False)
    assert rejected.control == 0x97


def test_a_busy_client_is_left_alone_and_a_rejecting_one_hears_the_rest_again() -> None:
    bench = _Bench(1)
    sent = bench.segment(0, bytes(range(256)) * 2, polls=True, more=False)
    numbers = [frame.control >> 1 & 7 for frame in sent]
    assert numbers == [0, 1, 2, 3]
    assert all(not a.control & 0x10 for a, _ in pairwise(sent))
    (ready,) = bench.say(2 << 5 | _RNR)
    assert ready.control == 1 << 5 | _RR
    again = bench.say(2 << 5 | _REJ)
    assert [frame.payload for frame in again] == [frame.payload for frame in sent[2:]]


def test_a_meter_deaf_to_others_hears_another_client_only_after_the_first_disconnects() -> None:
    station = Station(lambda _sap, request: [request], lambda: None, deaf_to_others=True)
    other = Heard(_METER, b"\x03", 0x93, b"", False)
    assert station.receive(Heard(_METER, _CLIENT, 0x93, b"", False))
    assert station.receive(other) == b""
    assert station.receive(Heard(_METER, _CLIENT, 0x53, b"", False))
    assert station.receive(other)
