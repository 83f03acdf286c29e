"""The running agent: its threads, what they share, and an end within two seconds.

One thread per serial line, one writer, paho's. The main thread wakes when
something was cut or answered, lets the publisher send, and writes
`status.json` for `loadscape-agent status`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import AgentConfig
from agent.health import Counters, Faults, serve_metrics
from agent.keyring import Keyring
from agent.poll.lines import (
    Line,
    Shared,
    build_lines,
    clock_state,
    clock_states,
    line_state,
    meter_states,
    show_clocks,
    show_on_metrics,
)
from agent.publish import Publisher
from agent.store.identity import replace_file
from agent.store.writer import Writer, WriterSettings
from wire.clock import Clock, SharedClock, SystemClock

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

_log = logging.getLogger("loadscape.agent")

STATUS_FILE = "status.json"
STATUS_AGE_S = 15.0
"""A status older than this was left by an agent that runs no more, or hangs."""
_WAKE_S = 0.2
_STATUS_EVERY_S = 2.0
_LINES_END_S = 0.8
_WRITER_END_S = 0.8


class AgentFailed(Exception):
    """A part of the agent ended by itself; it should be started afresh."""


def clock_of(config: AgentConfig) -> Clock:
    """The system's clock, or the shared one of demo and bench."""
    return SharedClock(config.clock_file) if config.clock_file else SystemClock()


def keyring_of(config: AgentConfig) -> Keyring:
    """The keys with the newest keyset; raises KeyringError."""
    keyring = Keyring(
        config.tenant,
        config.keys.sign_key_file,
        config.keys.root_public_file,
        config.data_dir / "keyset.cose",
    )
    keyring.load(config.keys.keyset_file)
    return keyring


class Agent:
    """All parts put together. `run` returns when `stop` is called or a signal came."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._boot = os.urandom(8)
        self._stop_event = threading.Event()
        self._wake = threading.Event()
        self.counters = Counters()
        self.faults = Faults()
        self._clock = clock_of(config)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        self._keyring = keyring_of(config)
        self._writer = Writer(
            WriterSettings(
                data_dir=config.data_dir,
                common_name=config.common_name,
                tenant=config.tenant,
                lines=tuple(line.name for line in config.lines if config.meters_of(line.name)),
                interval_s=config.interval_s,
                batch_intervals=config.batch_intervals,
                recall_days=max(1, config.recover_days, config.history_days),
                history_days=config.history_days,
                quota_mib=config.quota_mib,
            ),
            clock=self._clock,
            keyring=self._keyring,
            boot=self._boot,
            counters=self.counters,
            faults=self.faults,
            changed=self._wake.set,
        )
        self._publisher = Publisher(
            config.broker,
            config.tenant,
            config.device,
            boot=self._boot,
            keyring=self._keyring,
            writer=self._writer,
            counters=self.counters,
            faults=self.faults,
            state=self.state,
            wake=self._wake.set,
        )
        self._lines: list[Line] = []
        self._status_after_s = 0.0

    def run(self) -> None:
        """Serve until stopped; raises AgentFailed if a thread ended by itself."""
        metrics = None
        if self._config.metrics_port is not None:
            metrics = self._serve_metrics(self._config.metrics_port)
        self._writer.start()
        try:
            recalled = self._writer.wait_ready()
            shared = Shared(
                self._clock, self._writer.hand_over, self.counters, self.faults, self._stop_event
            )
            self._lines = build_lines(self._config, recalled, shared)
            for line in self._lines:
                line.thread.start()
            self._publisher.start()
            _log.info(
                "%s reads %d meters on %d lines",
                self._config.common_name,
                len(self._config.meters),
                len(self._lines),
            )
            while not self._stop_event.is_set():
                self._wake.wait(_WAKE_S)
                self._wake.clear()
                self._publisher.tick()
                self._look_after()
        finally:
            self._end()
            if metrics is not None:
                metrics.shutdown()

    def stop(self) -> None:
        """Let `run` return soon; may be called from a signal handler or another thread."""
        self._stop_event.set()
        self._wake.set()

    def state(self) -> dict[str, Any]:
        """What is published on the retained state topic and written to `status.json`."""
        view = self._writer.view
        now_utc_s = self._clock.now_utc_s()
        threads = [line.thread for line in self._lines]
        progress = [thread.progress() for thread in threads]
        receipt_utc_s = self._publisher.last_receipt_utc_s
        return {
            "online": True,
            "boot": self._boot.hex(),
            "stream": view.stream.hex(),
            "next": view.last_seq + 1,
            "head": view.head_hash.hex(),
            "keyset": self._keyring.version,
            "versions": {"agent": _version()},
            "outbox": view.waiting,
            "receipt_age_s": None
            if receipt_utc_s is None
            else max(0, int(now_utc_s) - receipt_utc_s),
            "clock": "trusted" if now_utc_s >= (receipt_utc_s or 0) - 60 else "untrusted",
            "recovery": {
                "known": sum(known for known, _ in progress),
                "expected": sum(expected for _, expected in progress),
            },
            "last_end_utc_s": min((thread.finished_edge_utc_s for thread in threads), default=None),
            "meter_clocks": clock_state(self._lines),
            "lines": [line_state(thread) for thread in threads],
        }

    def _serve_metrics(self, port: int) -> ThreadingHTTPServer:
        try:
            return serve_metrics(port, self.counters)
        except OSError as error:
            place = self._config.places.name("agent", 0, "metrics_port")
            raise AgentFailed(
                f"{place}: 127.0.0.1:{port} cannot be used ({error.strerror}); choose another port"
            ) from error

    def _look_after(self) -> None:
        if self._writer.failure is not None:
            raise AgentFailed("the writer ended") from self._writer.failure
        for line in self._lines:
            if not line.thread.is_alive() and not self._stop_event.is_set():
                raise AgentFailed(f"the thread of line {line.thread.line} ended")
        now_s = time.monotonic()
        if now_s >= self._status_after_s:
            self._status_after_s = now_s + _STATUS_EVERY_S
            self._write_status(running=True)

    def _write_status(self, *, running: bool) -> None:
        state = self.state()
        faults = self.faults.present()
        meters = meter_states(self._lines)
        self._show_gauges(state, len(faults))
        show_on_metrics(self.counters, state["lines"], meters)
        show_clocks(self.counters, self._lines)
        status = {
            "running": running,
            "pid": os.getpid(),
            "written_utc_s": int(time.time()),
            "shown_utc_s": int(self._clock.now_utc_s()),
            "device": self._config.common_name,
            "connected": self._publisher.connected,
            **state,
            "meters": meters,
            "clocks": clock_states(self._lines),
            "faults": faults,
            "counters": self.counters.snapshot(),
        }
        text = json.dumps(status, indent=1)
        replace_file(self._config.data_dir / STATUS_FILE, text.encode(), durable=False)

    def _show_gauges(self, state: dict[str, Any], faults: int) -> None:
        lines = state["lines"]
        shown = {
            "outbox_batches": state["outbox"],
            "lines_open": sum(line["open"] for line in lines),
            "meters_failing": sum(len(line["failing"]) for line in lines),
            "recovery_known_intervals": state["recovery"]["known"],
            "recovery_expected_intervals": state["recovery"]["expected"],
            "faults": faults,
        }
        if state["receipt_age_s"] is not None:
            shown["receipt_age_seconds"] = state["receipt_age_s"]
        for name, value in shown.items():
            self.counters.show(name, value)

    def _end(self) -> None:
        self._stop_event.set()
        ends_s = time.monotonic() + _LINES_END_S
        for line in self._lines:
            if line.thread.is_alive():
                line.thread.join(max(0.0, ends_s - time.monotonic()))
        self._publisher.stop()
        if self._writer.is_alive():
            self._writer.finish(_WRITER_END_S)
        self._write_status(running=False)


def stop_on_signals(agent: Agent) -> None:
    """SIGTERM and SIGINT end the agent cleanly."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """The last `status.json`, None if there is none; raises ValueError if it is damaged."""
    try:
        text = (data_dir / STATUS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        status = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{data_dir / STATUS_FILE}: not JSON: {error}; restart the agent"
        ) from error
    if not isinstance(status, dict):
        raise ValueError(f"{data_dir / STATUS_FILE}: expected a JSON object; restart the agent")
    return status


def is_running(status: dict[str, Any]) -> bool:
    """Whether the agent that wrote this status still runs: it said so lately, and its pid lives."""
    if not status.get("running") or time.time() - status.get("written_utc_s", 0) > STATUS_AGE_S:
        return False
    try:
        os.kill(int(status["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("loadscape")
    except PackageNotFoundError:
        return "0.1.0+source"
