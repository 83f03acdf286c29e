"""The running agent: its threads, what they share, and an end within two seconds.

One thread per serial line, one writer, paho's. The main thread wakes when
something was cut or answered, lets the publisher send, looks after clock and
watchdog, and writes `status.json` for `loadscape-agent status`. Lines begin
anew when the clock was set back by more than an interval.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from agent.clock_trust import AgentClock, Believed, build_clock
from agent.config import AgentConfig
from agent.device_log import DeviceLog
from agent.enrol.enrolled import Validity, broker_of, provider_of, require_keys
from agent.enrol.renewal import Renewal, build_renewal
from agent.health import ALARMS, Counters, Faults, serve_metrics
from agent.keyring import Keyring, KeyringError
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
from agent.status_file import write_status
from agent.store.outline import Recalled
from agent.store.writer import Writer, WriterSettings
from agent.watchdog import LINE_S, NETWORK_S, WRITER_S, Loop, Notifier, Watchdog
from wire.clock import Clock, SharedClock, SystemClock

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

_log = logging.getLogger("loadscape.agent")

KEPT_KEYSET_FILE = "keyset.cose"
"""The newest keyset that came over the broker, in the data folder."""
_WAKE_S = 0.2
_STATUS_EVERY_S = 2.0
_LINES_END_S = 0.8
_LINES_ANEW_S = 60.0
"""Longest wait for lines to end that begin anew: one read may take so long."""
_WRITER_END_S = 0.8


class AgentFailed(Exception):
    """A part of the agent ended by itself; it should be started afresh."""


def clock_of(config: AgentConfig) -> Clock:
    """The system's clock, or the shared one of demo and bench."""
    return SharedClock(config.clock_file) if config.clock_file else SystemClock()


def keyring_of(config: AgentConfig) -> Keyring:
    """The keys with the newest keyset; raises KeyringError."""
    require_keys(config.keys)
    keyring = Keyring(
        config.tenant,
        config.keys.sign_key_file,
        config.keys.root_public_file,
        config.data_dir / KEPT_KEYSET_FILE,
        provider_of(config.keys),
    )
    keyring.load(config.keys.keyset_file)
    return keyring


class Agent:
    """All parts put together. `run` returns when `stop` is called or a signal came."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._boot = os.urandom(8)
        self._stop_event = threading.Event()
        self._lines_stop = threading.Event()
        self._wake = threading.Event()
        self.counters = Counters()
        self.device_log = DeviceLog()
        self.faults = Faults(self.device_log.add)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        self._keyring = keyring_of(config)
        self._clock = self._trusted_clock()
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
            device_log=self.device_log,
            trust=self._clock,
        )
        self._publisher = Publisher(
            broker_of(config),
            config.tenant,
            config.device,
            boot=self._boot,
            keyring=self._keyring,
            writer=self._writer,
            counters=self.counters,
            faults=self.faults,
            state=self.state,
            wake=self._wake.set,
            tls_utc_s=self._clock.tls_utc_s,
        )
        self._renewal: Renewal = build_renewal(
            config, self._clock.now_utc_s, self.faults, self._go_over_to_new_keys
        )
        self._lines: list[Line] = []
        self._notifier = Notifier.of(os.environ)
        self._watchdog = Watchdog(self._notifier, [], self.faults)
        self._network_moved_s = time.monotonic()
        self._keyset_told = self._keyring.version
        self._status_after_s = 0.0

    def run(self) -> None:
        """Serve until stopped; raises AgentFailed if a thread ended by itself."""
        metrics = None
        if self._config.metrics_port is not None:
            metrics = self._serve_metrics(self._config.metrics_port)
        self._tell_start()
        self._writer.start()
        try:
            self._begin_lines(self._writer.wait_ready(self._notifier.starting))
            self._publisher.start()
            self._notifier.send("READY=1")
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
        except BaseException as error:
            self.device_log.add("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._notifier.send("STOPPING=1")
            self._end()
            if metrics is not None:
                metrics.shutdown()

    def stop(self) -> None:
        """Let `run` return soon; may be called from a signal handler or another thread."""
        self._stop_event.set()
        self._lines_stop.set()
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
            "clock": self._clock_quality(now_utc_s, receipt_utc_s or 0),
            "clock_by": self._clock.trusted_by,
            "certificate_ends_utc_s": int(self._renewal.ends_utc_s),
            "held": view.held,
            "alarms": [key for key in ALARMS if key in self.faults.present()],
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

    def _clock_quality(self, now_utc_s: float, receipt_utc_s: int) -> str:
        right = self._clock.trusted and now_utc_s >= receipt_utc_s - 60
        return "trusted" if right else "untrusted"

    def _trusted_clock(self) -> AgentClock | Believed:
        if self._config.clock_file:
            return Believed(SharedClock(self._config.clock_file))
        # A keyset was signed when its oldest epoch key was in use, or later.
        floor_utc_s = min(key.not_before_utc_s for key in self._keyring.keyset.epoch_keys)
        return build_clock(self._config.clock_trust, floor_utc_s, self.device_log.add)

    def _tell_start(self) -> None:
        path = self._config.places.path
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "none"
        self.device_log.add(
            "start",
            f"version={_version()} boot={self._boot.hex()} config={digest} "
            f"keyset={self._keyring.version} clock={self._clock.trusted_by or 'untrusted'}",
        )

    # --- lines

    def _begin_lines(self, recalled: Mapping[str, Recalled]) -> None:
        self._lines_stop = threading.Event()
        if self._stop_event.is_set():
            self._lines_stop.set()
        shared = Shared(
            self._clock, self._writer.hand_over, self.counters, self.faults, self._lines_stop
        )
        self._lines = build_lines(self._config, recalled, shared)
        for line in self._lines:
            line.thread.start()
        loops = [
            Loop(f"line {line.thread.line}", LINE_S, partial(getattr, line.thread, "moved_s"))
            for line in self._lines
        ]
        loops.append(Loop("the writer", WRITER_S, lambda: self._writer.moved_s))
        loops.append(Loop("the connection to the broker", NETWORK_S, self._network_moved))
        self._watchdog = Watchdog(self._notifier, loops, self.faults)

    def _begin_lines_anew(self) -> None:
        """What the lines have planned and sampled lies in a future that is none any more."""
        self._lines_stop.set()
        ends_s = time.monotonic() + _LINES_ANEW_S
        for line in self._lines:
            line.thread.join(max(0.0, ends_s - time.monotonic()))
            if line.thread.is_alive():
                raise AgentFailed(f"line {line.thread.line} has not ended to begin anew")
        self._begin_lines(self._writer.recall())

    def _network_moved(self) -> float:
        name = f"paho-mqtt-client-{self._config.common_name}"
        if any(thread.name == name for thread in threading.enumerate()):
            self._network_moved_s = time.monotonic()
        return self._network_moved_s

    # --- what the main thread looks after

    def _look_after(self) -> None:
        if self._writer.failure is not None:
            raise AgentFailed("the writer ended") from self._writer.failure
        for line in self._lines:
            if not line.thread.is_alive() and not self._stop_event.is_set():
                raise AgentFailed(f"the thread of line {line.thread.line} ended")
        self._look_at_clock()
        self._renewal.tick()
        if self._keyring.version != self._keyset_told:
            self._keyset_told = self._keyring.version
            self.device_log.add("keyset", f"version={self._keyset_told}")
        self._watchdog.look(self._status_line)
        now_s = time.monotonic()
        if now_s >= self._status_after_s:
            self._status_after_s = now_s + _STATUS_EVERY_S
            self._write_status(running=True)

    def _go_over_to_new_keys(self, validity: Validity) -> None:
        try:
            self._keyring.take_new_key()
            self._publisher.show_new_certificate(broker_of(self._config))
        except (KeyringError, OSError) as error:
            raise AgentFailed(f"the renewed keys cannot be used: {error}") from error
        kid = self._keyring.signer.kid.hex()
        self.device_log.add("renewed", f"kid={kid} ends_utc_s={validity.not_after_utc_s:.0f}")

    def _look_at_clock(self) -> None:
        self._clock.look()
        fault = self._clock.fault()
        if fault is None:
            self.faults.over("clock")
        else:
            self.faults.report("clock", fault)
        if self._clock.take_set_back_s() > self._config.interval_s:
            self._begin_lines_anew()

    def _status_line(self) -> str:
        state = self.state()
        age_s = state["receipt_age_s"]
        receipt = "no receipt yet" if age_s is None else f"receipt {age_s} s old"
        return f"{state['outbox']} batches wait, {receipt}, clock {state['clock']}"

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
        write_status(self._config.data_dir, status, self.faults)

    def _show_gauges(self, state: dict[str, Any], faults: int) -> None:
        lines = state["lines"]
        shown = {
            "outbox_batches": state["outbox"],
            "certificate_ends_utc_seconds": int(self._renewal.ends_utc_s),
            "lines_open": sum(line["open"] for line in lines),
            "meters_failing": sum(len(line["failing"]) for line in lines),
            "recovery_known_intervals": state["recovery"]["known"],
            "recovery_expected_intervals": state["recovery"]["expected"],
            "faults": faults,
            "rows_held": state["held"],
            "clock_trusted": int(state["clock"] == "trusted"),
            "clock_correction_seconds": round(self._clock.correction_s, 3),
            "clock_steps": self._clock.steps,
        }
        self.counters.show_each(
            "loop_idle_seconds",
            {(("loop", name),): idle_s for name, idle_s in self._watchdog.idle_s().items()},
        )
        if state["receipt_age_s"] is not None:
            shown["receipt_age_seconds"] = state["receipt_age_s"]
        for name, value in shown.items():
            self.counters.show(name, value)

    def _end(self) -> None:
        self._stop_event.set()
        self._lines_stop.set()
        self.device_log.add("stop")
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


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("loadscape")
    except PackageNotFoundError:
        return "0.1.0+source"
