"""Responders that misbehave because of who else is on the line, or of what came before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.modbus.transaction import ReadRequest
from hil.line.company import (
    BusLow,
    Hurried,
    Impostor,
    SameUnitTwice,
    SecondTryOnly,
    ShortReadsOnly,
    TwoMasters,
)
from hil.line.responder import Answer
from hil.line.uart import Uart, misread
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

VOLTAGE = ReadRequest(1, 4, 0, 2).frame
LONG = ReadRequest(1, 4, 0, 10).frame
LOW = Steady(voltage_v=115.2)


def bus(unit: int = 1, face: Steady | None = None) -> ModbusBus:
    return ModbusBus({unit: ModbusMeter("eastron_sdm120", face or Steady())}, SystemClock())


def data(answers: list[Answer]) -> list[bytes]:
    return [answer.data for answer in answers]


RIGHT = data(bus().receive(VOLTAGE))
OTHER = data(bus(face=LOW).receive(VOLTAGE))


class Hands:
    """A clock whose hands are set by the test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_second_masters_question_and_answer_come_before_ours() -> None:
    question = ReadRequest(1, 4, 72, 2).frame
    heard = data(TwoMasters(bus(), question).receive(VOLTAGE))
    assert heard == [question, *data(bus().receive(question)), *RIGHT]


def test_two_meters_of_one_unit_collide_or_follow_each_other() -> None:
    (collided,) = data(SameUnitTwice(bus(), bus(face=LOW), 0.0).receive(VOLTAGE))
    assert collided == bytes(a & b for a, b in zip(RIGHT[0], OTHER[0], strict=True))
    late = SameUnitTwice(bus(), bus(face=LOW), 0.03).receive(VOLTAGE)
    assert [(answer.data, answer.delay_s) for answer in late] == [(RIGHT[0], 0.0), (OTHER[0], 0.03)]


def test_an_impostor_answers_for_another_unit_with_its_own_values() -> None:
    impostor = Impostor(bus(2, LOW), own=2, other=1)
    assert data(impostor.receive(VOLTAGE)) == OTHER
    assert data(impostor.receive(ReadRequest(2, 4, 0, 2).frame)) != OTHER
    assert impostor.receive(ReadRequest(3, 4, 0, 2).frame) == []


def test_only_the_second_of_two_equal_requests_is_answered() -> None:
    shy = SecondTryOnly(bus())
    heard = [data(shy.receive(request)) for request in (VOLTAGE, VOLTAGE, VOLTAGE, LONG, LONG)]
    assert [bool(answers) for answers in heard] == [False, True, False, False, True]


@pytest.mark.parametrize(("reaction", "heard"), [("deaf", []), ("busy", [6]), ("reboot", [])])
def test_a_hurried_meter_reacts_and_a_rested_one_answers(reaction: str, heard: list[int]) -> None:
    hands = Hands()
    meter = Hurried(bus(), 0.05, reaction, down_s=1.0, monotonic=hands)
    assert data(meter.receive(VOLTAGE)) == RIGHT
    hands.now_s += 0.02
    assert [answer[2] for answer in data(meter.receive(VOLTAGE))] == heard
    hands.now_s += 0.06
    assert (data(meter.receive(VOLTAGE)) == RIGHT) == (reaction != "reboot")
    hands.now_s += 1.1
    assert data(meter.receive(VOLTAGE)) == RIGHT


def test_nothing_is_heard_while_the_bus_is_low() -> None:
    hands = Hands()
    low = BusLow(bus(), 0.6, monotonic=hands)
    flood = low.receive(VOLTAGE)
    assert set(b"".join(data(flood))) == {0}
    assert 0.5 < max(answer.delay_s for answer in flood) < 0.6
    hands.now_s += 0.5
    assert low.receive(VOLTAGE) == []
    hands.now_s += 0.2
    assert data(low.receive(VOLTAGE)) == RIGHT


def test_long_reads_are_refused_or_met_with_silence() -> None:
    assert data(ShortReadsOnly(bus(), 8).receive(VOLTAGE)) == RIGHT
    assert data(ShortReadsOnly(bus(), 8).receive(LONG))[0][1:3] == bytes([0x84, 2])
    assert ShortReadsOnly(bus(), 8, code=0).receive(LONG) == []


@given(st.binary(max_size=40), st.sampled_from("NEO"), st.sampled_from([1, 2]))
def test_a_uart_with_the_senders_bits_hears_what_was_sent(
    sent: bytes, parity: str, stopbits: int
) -> None:
    sender = Uart(9600, parity, stopbits)  # type: ignore[arg-type]
    # A second stop bit is idle time for who expects one.
    assert misread(sent, sender, Uart(9600, parity, 1)) == sent  # type: ignore[arg-type]


@given(st.integers(1, 247), st.integers(0, 65000), st.sampled_from([2400, 4800, 19200, 38400]))
def test_a_request_at_another_baud_rate_is_never_heard_as_it_was_sent(
    unit: int, address: int, baud: int
) -> None:
    request = ReadRequest(unit, 4, address, 2).frame
    assert misread(request, Uart(9600), Uart(baud)) != request


def test_a_byte_at_half_the_readers_baud_is_worked_by_hand() -> None:
    # 0x01: start 0, then 1 0000000, stop 1, each as long as two bits of the reader. It sees
    # start 0, data 0 11 00000 (0x06), a low stop bit; then no edge before the real stop bit.
    assert misread(b"\x01", Uart(9600), Uart(19200)) == b"\x06"
