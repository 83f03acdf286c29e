"""A TCP connection behaves as a port: deadlines hold, ends are told, the next use opens anew."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from agent.line.port import Port, PortLost
from agent.line.tcp_port import TcpPort


class FarEnd:
    """A real server on this machine; takes one connection after the other."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.number: int = self.listener.getsockname()[1]
        self.connection: socket.socket | None = None

    def take(self) -> socket.socket:
        self.connection, _ = self.listener.accept()
        return self.connection

    def close(self) -> None:
        for end in (self.connection, self.listener):
            if end is not None:
                end.close()


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    end = FarEnd()
    yield end
    end.close()


@pytest.fixture
def port(far_end: FarEnd) -> Iterator[TcpPort]:
    port = TcpPort("127.0.0.1", far_end.number)
    yield port
    port.close()


def soon(s: float = 2.0) -> float:
    return time.monotonic() + s


def test_bytes_go_out_and_come_back_and_the_port_says_when_it_opened(
    far_end: FarEnd, port: TcpPort
) -> None:
    assert port.opened_at_s < 0
    as_port: Port = port
    before_s = time.monotonic()
    as_port.write(b"\x7e\xa0")
    assert before_s <= port.opened_at_s <= time.monotonic()
    meter = far_end.take()
    assert meter.recv(10) == b"\x7e\xa0"
    meter.sendall(b"answer")
    assert port.read(6, soon()) == b"answer"


def test_bytes_that_dribble_are_awaited_as_long_as_the_serial_line_would_take(
    far_end: FarEnd,
) -> None:
    port = TcpPort("127.0.0.1", far_end.number, char_s=0.1)
    port.open()
    meter = far_end.take()
    meter.sendall(b"ab")
    threading.Timer(0.05, meter.sendall, [b"cd"]).start()
    assert port.read(4, soon()) == b"abcd"
    port.close()


def test_a_far_end_without_a_serial_line_gives_what_is_there(
    far_end: FarEnd, port: TcpPort
) -> None:
    port.open()
    far_end.take().sendall(b"ab")
    began_s = time.monotonic()
    assert port.read(400, soon()) == b"ab"
    assert time.monotonic() - began_s < 1


def test_silence_ends_at_the_deadline_and_a_past_one_at_once(
    far_end: FarEnd, port: TcpPort
) -> None:
    port.open()
    far_end.take()
    began_s = time.monotonic()
    assert port.read(1, began_s + 0.05) == b""
    assert 0.05 <= time.monotonic() - began_s < 0.5
    began_s = time.monotonic()
    assert port.read(1, began_s - 5) == b""
    assert time.monotonic() - began_s < 0.04


def test_a_babbling_far_end_cannot_move_the_deadline(far_end: FarEnd) -> None:
    port = TcpPort("127.0.0.1", far_end.number, char_s=10.0)
    port.open()
    meter = far_end.take()
    stop = threading.Event()

    def babble() -> None:
        while not stop.wait(0.005):
            meter.sendall(b"z")

    thread = threading.Thread(target=babble)
    thread.start()
    began_s = time.monotonic()
    assert port.read(10_000, began_s + 0.1)
    assert time.monotonic() - began_s < 0.5
    stop.set()
    thread.join()
    port.close()


def test_nothing_is_looked_at_before_it_is_due(far_end: FarEnd, port: TcpPort) -> None:
    port.open()
    far_end.take().sendall(b"early")
    due_s = time.monotonic() + 0.05
    assert port.read(5, soon(), due_s) == b"early"
    assert time.monotonic() >= due_s


def test_what_waits_unread_is_discarded_without_waiting(far_end: FarEnd, port: TcpPort) -> None:
    port.open()
    meter = far_end.take()
    meter.sendall(b"late answer")
    assert port.read(1, soon())[:1] == b"l"
    began_s = time.monotonic()
    assert port.discard() == b""
    assert time.monotonic() - began_s < 0.5
    meter.sendall(b"more")
    heard = b""
    while not heard:
        heard = port.discard()
    assert heard == b"more"


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_ended_connection_is_lost_with_the_reason_and_opened_anew(
    far_end: FarEnd, port: TcpPort, how: str
) -> None:
    port.open()
    meter = far_end.take()
    if how == "reset":
        meter.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    meter.close()
    why = "the far end closed it" if how == "closed" else "reset"
    with pytest.raises(PortLost, match=rf"127\.0\.0\.1:{far_end.number}: .*{why}.*check the far"):
        port.read(1, soon())
    port.write(b"again")
    assert far_end.take().recv(5) == b"again"


def test_a_far_end_that_ends_while_it_is_written_to_is_lost(far_end: FarEnd, port: TcpPort) -> None:
    port.open()
    meter = far_end.take()
    meter.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    meter.close()
    with pytest.raises(PortLost, match="expected to send"):
        for _ in range(1000):
            port.write(b"x" * 10_000)


def test_nobody_there_is_told_with_what_to_check(far_end: FarEnd) -> None:
    far_end.close()
    port = TcpPort("127.0.0.1", far_end.number)
    with pytest.raises(PortLost, match=r"within 3 s, got: .*refused; check address, cable"):
        port.read(1, soon())


def test_closing_twice_is_no_fault_and_an_ipv6_address_keeps_its_brackets() -> None:
    port = TcpPort("::1", 4059)
    port.close()
    port.close()
    assert port.path == "[::1]:4059"
