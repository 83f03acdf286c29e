"""The whole agent and its health: systemd, a line that hangs, a clock that is set, its own log."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from commands_bench import Bench, Running, modbus_line, prepare
from test_agent_watchdog import Systemd

import agent.health
import agent.run
from agent.clock_trust import AgentClock
from agent.config import load_config
from agent.driver import Sample
from agent.modbus.driver import ModbusDriver
from agent.run import Agent
from agent.store.opening import open_store
from hil.line.pty import served


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = prepare(tmp_path)
    with served(modbus_line(tmp_path)):
        yield bench


@pytest.fixture
def start() -> Iterator[Callable[[Bench], Running]]:
    with ExitStack() as stack:

        def begin(bench: Bench) -> Running:
            agent = Agent(load_config(bench.config))
            thread = threading.Thread(target=agent.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(agent.stop)
            return Running(agent, thread)

        yield begin


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    made = Systemd(address)
    yield made
    made.socket.close()


def logged(bench: Bench) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(bench.folder / "data" / "agent.db")) as store:
        return store.execute("SELECT code, detail FROM log_entry ORDER BY number").fetchall()


def test_systemd_hears_when_it_is_ready_that_it_is_well_and_when_it_stops(
    bench: Bench, start: Callable[[Bench], Running], systemd: Systemd
) -> None:
    running = start(bench)
    heard: list[str] = []

    def was_fed() -> bool:
        heard.extend(systemd.heard())
        return heard.count("WATCHDOG=1") >= 3

    running.until(was_fed)
    running.agent.stop()
    running.thread.join()
    heard += systemd.heard()
    assert heard[0] == "READY=1"
    assert any(
        said.startswith("STATUS=") and said.endswith("batches wait, no receipt yet, clock trusted")
        for said in heard
    )
    assert heard[-1] == "STOPPING=1"


def test_systemd_hears_that_a_store_takes_long_to_open(
    bench: Bench,
    start: Callable[[Bench], Running],
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_it_open = threading.Event()

    def slowly(*given: Any) -> Any:
        let_it_open.wait(20)
        return open_store(*given)

    monkeypatch.setattr("agent.store.custody.open_store", slowly)
    running = start(bench)
    heard: list[str] = []

    def told(word: str) -> bool:
        heard.extend(systemd.heard())
        return any(word in said for said in heard)

    try:
        running.until(lambda: told("EXTEND_TIMEOUT_USEC="))
        assert not told("READY=1")
    finally:
        let_it_open.set()
    running.until(lambda: told("READY=1"))


def test_a_line_that_hangs_in_its_driver_starves_the_watchdog_and_status_names_it(
    bench: Bench,
    start: Callable[[Bench], Running],
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent.run, "LINE_S", 1.0)
    hung, go_on = threading.Event(), threading.Event()
    sample = ModbusDriver.sample

    def hang(self: ModbusDriver, **how: object) -> Sample:
        if hung.is_set():
            go_on.wait(20)
        return sample(self, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ModbusDriver, "sample", hang)
    running = start(bench)
    running.until(lambda: running.count("reads_total") >= 2)
    assert "WATCHDOG=1" in systemd.heard()
    hung.set()
    running.until(lambda: "watchdog" in running.agent.faults.present())
    assert "line modbus-1 has not moved" in running.agent.faults.present()["watchdog"]
    systemd.heard()
    running.thread.join(1.0)
    assert "WATCHDOG=1" not in systemd.heard()
    go_on.set()
    running.until(lambda: "WATCHDOG=1" in systemd.heard())


def test_metrics_and_state_show_clock_held_rows_and_loops(
    bench: Bench, start: Callable[[Bench], Running]
) -> None:
    running = start(bench)
    running.until(lambda: "loop_idle_seconds" in running.agent.counters.prometheus())
    shown = running.agent.counters.prometheus()
    for line in (
        "loadscape_agent_clock_trusted 1",
        "loadscape_agent_clock_steps 0",
        "loadscape_agent_rows_held 0",
        'loadscape_agent_loop_idle_seconds{loop="line modbus-1"} ',
        'loadscape_agent_loop_idle_seconds{loop="the connection to the broker"} ',
    ):
        assert line in shown
    state = running.agent.state()
    assert (state["clock"], state["clock_by"], state["held"]) == ("trusted", "system", 0)


def test_lines_begin_anew_when_the_clock_is_set_back_and_the_log_tells_it_all(
    bench: Bench, start: Callable[[Bench], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s, synced = [40 * 86_400.0], threading.Event()

    def build(word: str, floor_utc_s: float, tell: Callable[[str, str], None]) -> AgentClock:
        assert word == "auto"
        return AgentClock(
            floor_utc_s=floor_utc_s,
            sources={"timesyncd": synced.is_set},
            tell=tell,
            system_utc_s=lambda: time.time() + ahead_s[0],
        )

    monkeypatch.setattr(agent.run, "build_clock", build)
    bench.edit('clock_trust = "system"', 'clock_trust = "auto"')
    running = start(bench)
    running.until(lambda: running.count("reads_total") >= 2)
    assert running.agent.state()["clock"] == "untrusted"
    (first,) = (thread for thread in threading.enumerate() if thread.name == "line modbus-1")
    ahead_s[0] = 0.0
    synced.set()
    running.until(lambda: running.agent.state()["clock"] == "trusted")
    running.until(lambda: not first.is_alive() and running.is_open("modbus-1"))
    reads = running.count("reads_total")
    running.until(lambda: running.count("reads_total") > reads)
    running.agent.stop()
    running.thread.join()
    codes = [code for code, _ in logged(bench)]
    assert codes[0] == "start"
    assert codes[-1] == "stop"
    assert ("clock_step", f"by_s={-40 * 86_400:.1f}") in logged(bench)
    assert ("clock_trusted", "by=timesyncd") in logged(bench)
    assert "clock=untrusted" in logged(bench)[0][1]


def test_an_agent_that_fails_says_why_in_its_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the line's driver is broken")

    monkeypatch.setattr(agent.run, "build_lines", fail)
    with pytest.raises(RuntimeError):
        Agent(load_config(bench.config)).run()
    assert ("failed", "RuntimeError: the line's driver is broken") in logged(bench)


def test_a_client_that_asks_for_nothing_holds_no_thread_of_the_metrics_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent.health, "_REQUEST_S", 0.1)
    server = agent.health.serve_metrics(0, agent.health.Counters())
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as silent:
            assert silent.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
