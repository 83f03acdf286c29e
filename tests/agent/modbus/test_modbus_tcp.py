"""Meters behind a Modbus TCP gateway; the gateway is a server that other people wrote."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from gateway_bench import Server, energy_kwh, served
from pymodbus.constants import ExcCodes

from agent.driver import MeterRefused, MeterSilent
from agent.line.port import PortLost
from agent.modbus.budget import ReadBudget
from agent.modbus.driver import ModbusDriver
from agent.modbus.exchange import AnswerRejected
from agent.modbus.frame import Frame
from agent.modbus.profile import shipped
from agent.modbus.tcp import TcpExchange, TcpGateway
from agent.modbus.transaction import Answered, ReadRequest, Refused
from wire.clock import SystemClock

CLOCK = SystemClock()
PROFILE = shipped("eastron_sdm120")
ATTEMPT_S = 1.0
"""The longest that one takes here: a meter's 0.5 s and half a second for the network."""


@pytest.fixture
def server() -> Iterator[Server]:
    with served(range(1, 13)) as there:
        yield there


@pytest.fixture
def gateway(server: Server) -> Iterator[TcpGateway]:
    there = TcpGateway("127.0.0.1", server.port)
    yield there
    there.close()


def driver(gateway: TcpGateway, unit: int) -> ModbusDriver:
    return ModbusDriver.behind_gateway(gateway, unit, PROFILE, CLOCK)


VOLTAGE = struct.pack(">f", 230.0)


def voltage(unit: int) -> ReadRequest:
    return ReadRequest(unit, 4, 0, 2)


def energy(unit: int) -> ReadRequest:
    return ReadRequest(unit, 4, 72, 2)


def test_many_units_share_one_connection_and_each_shows_its_own_values(
    gateway: TcpGateway,
) -> None:
    drivers = {unit: driver(gateway, unit) for unit in range(1, 13)}
    for _ in range(2):
        for unit, meter in drivers.items():
            sample = meter.sample()
            assert sample.import_wh == round(energy_kwh(unit) * 1000)
            assert (sample.voltage_dv, sample.current_ca, sample.power_w) == (2300, 100, 230)
    assert not any(meter.exchange.rejected for meter in drivers.values())


def test_a_late_answer_is_told_from_the_next_one(server: Server, gateway: TcpGateway) -> None:
    server.delay_s[1] = ATTEMPT_S + 0.3
    exchange = TcpExchange(gateway, 1)
    with pytest.raises(MeterSilent, match=r"within 1\.0 s, asked 1 times, got nothing"):
        exchange.ask(voltage(1), 1)
    answer = exchange.ask(energy(1), 1)
    assert answer == Answered(struct.pack(">f", energy_kwh(1)))
    assert exchange.rejected == {"late": 1}


def test_a_gateway_busy_with_a_silent_unit_does_not_make_its_neighbours_silent(
    server: Server, gateway: TcpGateway
) -> None:
    server.delay_s[1] = ATTEMPT_S + 0.3
    server.code[1] = ExcCodes.GATEWAY_NO_RESPONSE
    dead, alive = TcpExchange(gateway, 1), TcpExchange(gateway, 2)
    with pytest.raises(MeterSilent):
        dead.ask(voltage(1), 1)
    assert alive.ask(voltage(2), 1) == Answered(VOLTAGE)
    assert dead.rejected == {"late": 1}
    assert not alive.rejected


def test_a_gateways_word_that_a_unit_does_not_answer_is_silence(
    server: Server, gateway: TcpGateway
) -> None:
    for code, words_for_it in (
        (ExcCodes.GATEWAY_PATH_UNAVIABLE, "exception 10 .gateway path unavailable"),
        (ExcCodes.GATEWAY_NO_RESPONSE, "exception 11 .gateway target failed to respond"),
    ):
        server.code[1] = code
        with pytest.raises(MeterSilent, match=f"gateway's {words_for_it}"):
            driver(gateway, 1).sample()


def with_bytes(place: int, value: int) -> Callable[[bytes], bytes]:
    def tamper(data: bytes) -> bytes:
        return data[:place] + bytes([value]) + data[place + 1 :]

    return tamper


def one_register_less(data: bytes) -> bytes:
    body = data[6:8] + bytes([data[8] - 2]) + data[9:-2]
    return data[:4] + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (with_bytes(6, 9), "other_unit"),
        (with_bytes(7, 3), "other_function"),
        (with_bytes(1, 250), "noise"),
        (one_register_less, "other_count"),
        (with_bytes(8, 2), "other_count"),
    ],
    ids=["other unit", "other function", "other transaction", "fewer registers", "wrong count"],
)
def test_a_wrong_answer_is_no_answer_and_the_next_read_is_right(
    server: Server, gateway: TcpGateway, tamper: Callable[[bytes], bytes], reason: str
) -> None:
    server.tamper = tamper
    exchange = TcpExchange(gateway, 1)
    with pytest.raises(AnswerRejected, match=f"rejected since start: 1 {reason}"):
        exchange.ask(energy(1), 1)
    assert exchange.rejected == {reason: 1}
    server.tamper = bytes
    assert exchange.ask(voltage(1), 1) == Answered(VOLTAGE)


def test_a_wrong_answer_before_the_right_one_costs_nothing(
    server: Server, gateway: TcpGateway
) -> None:
    server.tamper = lambda data: with_bytes(6, 9)(data) + data
    exchange = TcpExchange(gateway, 1)
    assert exchange.ask(voltage(1), 1) == Answered(VOLTAGE)
    assert exchange.rejected == {"other_unit": 1}


def test_a_unit_that_refuses_is_told_from_one_that_is_busy(
    server: Server, gateway: TcpGateway
) -> None:
    exchange = TcpExchange(gateway, 1)
    assert exchange.ask(ReadRequest(1, 4, 5000, 2), 2) == Refused(2)
    server.code[1] = ExcCodes.DEVICE_BUSY
    began_s = time.monotonic()
    assert exchange.ask(voltage(1), 2) == Refused(6)
    assert time.monotonic() - began_s > 0.15
    with pytest.raises(MeterRefused, match="exception 6"):
        driver(gateway, 1).sample()


def test_no_attempt_is_begun_that_could_end_after_the_deadline(
    server: Server, gateway: TcpGateway
) -> None:
    exchange = TcpExchange(gateway, 1)
    exchange.ask(voltage(1), 1)
    server.delay_s[1] = 5.0
    began_s = time.monotonic()
    with pytest.raises(MeterSilent, match="asked 0 times of 2, then the time budget"):
        exchange.ask(voltage(1), 2, began_s + 0.5)
    assert time.monotonic() - began_s < 0.2
    with pytest.raises(MeterSilent, match="asked 1 times of 2, then the time budget"):
        exchange.ask(voltage(1), 2, began_s + 1.6)
    assert time.monotonic() - began_s < 1.6


def test_a_gateway_that_is_away_is_a_lost_port_and_reading_goes_on_when_it_is_back() -> None:
    with served(range(1, 3)) as server:
        gateway = TcpGateway("127.0.0.1", server.port)
        meter = driver(gateway, 1)
        assert meter.sample().import_wh == 1_001_000
        server.stop()
        with pytest.raises(PortLost, match="connection is closed, check the gateway's power"):
            meter.sample()
        with pytest.raises(PortLost, match="expected a gateway that takes a connection"):
            gateway.open()
        server.start()
        assert meter.sample().import_wh == 1_001_000
        gateway.close()


def test_the_time_that_the_schedule_gives_a_dead_unit_is_enough_to_find_it_again(
    server: Server, gateway: TcpGateway
) -> None:
    meter = driver(gateway, 1)
    budget = ReadBudget(meter, PROFILE)
    server.code[1] = ExcCodes.GATEWAY_NO_RESPONSE
    for _ in range(4):
        server.delay_s[1] = 2 * ATTEMPT_S
        with pytest.raises(MeterSilent, match=r"asked [12] times"):
            meter.sample(deadline_s=time.monotonic() + budget.longest_s)
    server.code.clear()
    deadline_s = time.monotonic() + budget.longest_s
    assert meter.sample(deadline_s=deadline_s).import_wh == 1_001_000


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[TcpGateway]:
    """A gateway at whose far end `answer` has the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            there, _ = listener.accept()
            with there:
                there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer(there)

        thread = threading.Thread(target=accept)
        thread.start()
        gateway = TcpGateway(*listener.getsockname())
        yield gateway
        gateway.close()
        thread.join(5)


def test_something_that_does_not_speak_modbus_is_named_with_what_it_sent() -> None:
    def ssh(there: socket.socket) -> None:
        there.recv(64)
        there.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with (
        answering(ssh) as gateway,
        pytest.raises(PortLost, match="header of a Modbus TCP frame, got: 53 53 48 2d 32 2e"),
    ):
        TcpExchange(gateway, 1).ask(voltage(1), 1)


def test_an_answer_in_pieces_is_put_together_and_two_in_one_are_taken_apart() -> None:
    def in_pieces(there: socket.socket) -> None:
        head = there.recv(64)[:4]
        answer = head + bytes([0, 7, 1, 4, 4]) + VOLTAGE
        for piece in (answer[:1], answer[1:5], answer[5:8], answer[8:12], answer[12:]):
            there.sendall(piece)
            time.sleep(0.01)
        head = there.recv(64)[:4]
        there.sendall(answer + head + bytes([0, 3, 1, 0x84, 2]))

    with answering(in_pieces) as gateway:
        exchange = TcpExchange(gateway, 1)
        assert exchange.ask(voltage(1), 1) == Answered(VOLTAGE)
        assert exchange.ask(energy(1), 1) == Refused(2)
        assert exchange.rejected == {"noise": 1}


def test_a_connection_that_the_gateway_closes_is_a_lost_port() -> None:
    def close(there: socket.socket) -> None:
        there.recv(64)

    with (
        answering(close) as gateway,
        pytest.raises(PortLost, match=r"expected an open connection, got: .*how many clients"),
    ):
        TcpExchange(gateway, 1).ask(voltage(1), 1)


def test_every_frame_is_shown_with_its_verdict(server: Server, gateway: TcpGateway) -> None:
    frames: list[Frame] = []
    exchange = TcpExchange(gateway, 1, observe=frames.append)
    exchange.ask(voltage(1), 1)
    exchange.ask(ReadRequest(1, 4, 5000, 2), 1)
    assert [(f.direction, f.data.hex(), f.verdict) for f in frames] == [
        ("sent", "010400000002", "request"),
        ("heard", "010404" + VOLTAGE.hex(), "answer"),
        ("sent", "010413880002", "request"),
        ("heard", "018402", "exception 2 (illegal data address)"),
    ]
