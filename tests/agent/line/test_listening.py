"""The TCP port on which the agent listens: connections that come, end, and are too many."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.line.listening import MOST_CONNECTIONS, ListeningPort
from agent.line.port import PortBusy, PortLost


@pytest.fixture
def port() -> Iterator[ListeningPort]:
    port = ListeningPort("127.0.0.1", 0)
    port.open()
    yield port
    port.close()


def heard(port: ListeningPort, count: int) -> list[tuple[int, bytes]]:
    """The next `count` things that come within 5 s."""
    found: list[tuple[int, bytes]] = []
    until_s = time.monotonic() + 5
    while len(found) < count:
        assert time.monotonic() < until_s, found
        found += port.receive(time.monotonic() + 0.1)
    return found


def connected(port: ListeningPort) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.bound_port), 2)


def test_each_connection_has_a_number_and_an_end(port):
    with connected(port) as one, connected(port) as other:
        one.sendall(b"one")
        assert heard(port, 1) == [(1, b"one")]
        other.sendall(b"other")
        assert heard(port, 1) == [(2, b"other")]
    assert sorted(heard(port, 2)) == [(1, b""), (2, b"")]


def test_nothing_comes_before_its_time_is_over(port):
    began_s = time.monotonic()
    assert port.receive(began_s + 0.05) == []
    assert time.monotonic() - began_s >= 0.045


def test_one_connection_too_many_ends_the_one_that_was_silent_the_longest(port):
    with ExitStack() as stack:
        for number in range(MOST_CONNECTIONS):
            connection = stack.enter_context(connected(port))
            connection.sendall(b"x")
            assert heard(port, 1) == [(number + 1, b"x")]
            if number == 0:
                first = connection
        first.sendall(b"still here")
        assert heard(port, 1) == [(1, b"still here")]
        newest = stack.enter_context(connected(port))
        assert heard(port, 1) == [(2, b"")]
        newest.sendall(b"new")
        assert heard(port, 1) == [(MOST_CONNECTIONS + 1, b"new")]


def test_a_connection_is_dropped_and_one_that_resets_has_ended(port):
    with connected(port) as one:
        one.sendall(b"one")
        heard(port, 1)
        port.drop(1)
        assert one.recv(1) == b""
    other = connected(port)
    other.sendall(b"x")
    heard(port, 1)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    assert heard(port, 1) == [(2, b"")]


def test_a_port_that_is_taken_or_not_of_this_machine_is_said_so(port):
    with pytest.raises(PortBusy, match="free TCP port"):
        ListeningPort("127.0.0.1", port.bound_port).open()
    with pytest.raises(PortLost, match="address of this machine"):
        ListeningPort("192.0.2.1", 0).open()


def test_a_closed_port_opens_again_at_its_next_use(port):
    port.close()
    port.close()
    assert port.receive(time.monotonic() + 0.01) == []
    with connected(port) as one:
        one.sendall(b"one")
        assert heard(port, 1)[0][1] == b"one"
