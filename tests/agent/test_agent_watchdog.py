"""systemd's watchdog is fed only while every loop of the agent moves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.health import Faults
from agent.watchdog import Loop, Notifier, Watchdog


class Systemd:
    """The other end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Systemd]:
    made = Systemd(address)
    yield made
    made.socket.close()


class Dog:
    """A watchdog over two loops, with a clock that the test moves."""

    def __init__(self, address: str, faults: Faults) -> None:
        self.now_s = 1000.0
        self.moved = {"line": 1000.0, "writer": 1000.0}
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "90000000"}
        self.watchdog = Watchdog(
            Notifier.of(environ),
            [
                Loop("line", 300.0, lambda: self.moved["line"]),
                Loop("writer", 60.0, lambda: self.moved["writer"]),
            ],
            faults,
            lambda: self.now_s,
        )

    def passes(self, seconds: float, *moving: str) -> None:
        self.now_s += seconds
        self.moved |= dict.fromkeys(moving, self.now_s)
        self.watchdog.look(lambda: "3 batches wait")


def test_it_is_fed_in_time_and_told_the_state(address: str, systemd: Systemd) -> None:
    dog = Dog(address, Faults())
    for _ in range(450):
        dog.passes(0.2, "line", "writer")
    assert systemd.heard() == ["STATUS=3 batches wait", "WATCHDOG=1"] * 2


@pytest.mark.parametrize(("hung", "deadline_s"), [("line", 300), ("writer", 60)])
def test_one_loop_that_hangs_stops_the_feed_however_the_others_move(
    address: str, systemd: Systemd, hung: str, deadline_s: int
) -> None:
    faults = Faults()
    dog = Dog(address, faults)
    other = "writer" if hung == "line" else "line"
    for _ in range(deadline_s // 10):
        dog.passes(10, other)
    assert systemd.heard().count("WATCHDOG=1") >= 1
    for _ in range(60):
        dog.passes(10, other)
    assert "WATCHDOG=1" not in systemd.heard()
    assert f"{hung} has not moved for" in faults.present()["watchdog"]
    dog.passes(60, "line", "writer")
    assert "WATCHDOG=1" in systemd.heard()
    assert faults.present() == {}


def test_an_agent_that_looks_through_its_store_is_not_given_up_for_an_hour(
    address: str, systemd: Systemd
) -> None:
    now_s = 1000.0
    notifier = Notifier(address, monotonic_s=lambda: now_s)
    for _ in range(8):
        notifier.starting()
        now_s += 600
    assert systemd.heard() == ["EXTEND_TIMEOUT_USEC=60000000\nSTATUS=looks through the store"] * 6


def test_the_abstract_namespace_is_understood() -> None:
    name = f"loadscape-test-{os.getpid()}"
    systemd = Systemd("\0" + name)
    Notifier.of({"NOTIFY_SOCKET": "@" + name}).send("READY=1", "STATUS=well")
    assert systemd.heard() == ["READY=1\nSTATUS=well"]
    systemd.socket.close()


def test_a_watchdog_of_another_process_is_not_fed(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    assert Notifier.of({**environ, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert Notifier.of({**environ, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.of({}).watchdog_s is None


def test_without_systemd_nothing_is_sent_and_a_socket_that_is_gone_harms_nothing(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier.of({}).send("READY=1")
    gone = Notifier.of({"NOTIFY_SOCKET": address})
    gone.send("READY=1")
    gone.send("WATCHDOG=1")
    assert caplog.text.count("systemd cannot be told") == 1
