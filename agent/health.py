"""What the agent counts, what is wrong with it now, and where both can be read.

A failure is logged once when it begins and once when it is over, however
often it shows in between. `/metrics` is served on the loopback only, and only
when a port is configured.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

_log = logging.getLogger("loadscape.agent")

_HELP = {
    "reads_total": "Successful reads of meters.",
    "read_errors_total": "Reads of meters that failed.",
    "chore_errors_total": "Reads of meters' clocks and event logs that failed.",
    "pushes_total": "Lists read of meters that send by themselves.",
    "pushes_unread_total": "Notifications that were not read: forged, repeated, of no meter, …",
    "rows_total": "Intervals written to the store, including those without data.",
    "rows_no_data_total": "Intervals reported missing.",
    "rows_restamped_total": "Intervals that got another end when the clock became trusted.",
    "rows_lost_total": "Intervals without a receipt that were dropped because the store was full.",
    "events_total": "Entries of meters' event logs written to the store.",
    "events_lost_total": "Events without a receipt that were dropped because the store was full.",
    "batches_cut_total": "Batches sealed.",
    "batches_sent_total": "Batches handed to the broker, repetitions included.",
    "batches_receipted_total": "Batches that central has signed for.",
    "batches_repeated_total": "Batches sent again because no receipt came.",
    "receipts_refused_total": "Messages from central that failed verification.",
    "scrubs_total": "Times the whole store was found to be what was written.",
    "streams_begun_total": "Times a new stream was begun after a rollback or a fork.",
    "ports_lost_total": "Times a serial port vanished.",
    "puback_refused_total": "Publications that the broker refused.",
}

_GAUGE_HELP = {
    "outbox_batches": "Batches that wait for a receipt.",
    "receipt_age_seconds": "Time since central committed what its newest receipt tells of.",
    "rows_held": "Intervals that wait for a clock that is trusted.",
    "clock_trusted": "1 while somebody vouches for the clock, else 0.",
    "clock_correction_seconds": "How far the agent's clock is ahead of the machine's.",
    "clock_steps": "How often the clock was set since the start.",
    "certificate_ends_utc_seconds": "When the device's certificate ends, UTC.",
    "lines_open": "Serial lines whose port is open.",
    "meters_failing": "Meters that did not answer the last time.",
    "recovery_known_intervals": "Intervals of the recovery window that are known.",
    "recovery_expected_intervals": "Intervals that the recovery window has.",
    "faults": "Things that are wrong now; status names them.",
}

_EACH_HELP = {
    "line_busy_share": "Share of about the last minute in which a meter of the line was asked.",
    "line_cycle_share": "Share of the sampling cycle that one read of each meter takes.",
    "line_cycle_ratio": "What one read of each meter takes, over what the line formula says.",
    "line_missed_samples_total": "Samples of the cycle for which the line had no time.",
    "loop_idle_seconds": "Time since a loop of the agent last moved.",
    "meter_turnaround_seconds": "Time from a request to its answer, as learned.",
    "meter_clock_ahead_seconds": "How far a meter's clock was ahead when it was read last.",
    "meter_clock_drift_seconds_per_day": "How much further ahead a meter's clock gets.",
    "meter_frames_rejected_total": "Frames that were not accepted as the meter's answer.",
}
"""Values of each line, meter or loop, told apart by labels."""

METRICS = {**_HELP, **_GAUGE_HELP, **_EACH_HELP}
"""Everything on /metrics, without the prefix `loadscape_agent_`, and what it means."""

ALARMS = ("clone", "rollback")
"""Faults that central is told of: another one may run with this agent's keys."""

_REQUEST_S = 10.0
"""So long a client may take to ask for metrics; each holds a thread meanwhile."""

Labels = tuple[tuple[str, str], ...]
"""Name and value of each label."""


class Counters:
    """Monotone counters and plain gauges by name; safe from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_HELP, 0)
        self._gauges: dict[str, float] = {}
        self._each: dict[str, dict[Labels, float]] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Raise a counter of the list above; raises KeyError for another name."""
        with self._lock:
            self._counts[name] += amount

    def show(self, name: str, value: float) -> None:
        """Set a gauge of the list above; raises KeyError for another name."""
        _GAUGE_HELP[name]
        with self._lock:
            self._gauges[name] = value

    def show_each(self, name: str, values: Mapping[Labels, float]) -> None:
        """Set all values of one labelled metric of the list above; raises KeyError for another."""
        _EACH_HELP[name]
        with self._lock:
            self._each[name] = dict(values)

    def snapshot(self) -> dict[str, float]:
        """All values without labels at one moment."""
        with self._lock:
            return {**self._counts, **self._gauges}

    def prometheus(self) -> str:
        """The values in Prometheus' text form."""
        parts = []
        for name, value in self.snapshot().items():
            metric = f"loadscape_agent_{name}"
            kind, text = ("counter", _HELP[name]) if name in _HELP else ("gauge", _GAUGE_HELP[name])
            parts.append(f"# HELP {metric} {text}\n# TYPE {metric} {kind}\n")
            parts.append(f"{metric} {value}\n")
        with self._lock:
            each = {name: dict(values) for name, values in self._each.items()}
        for name, values in each.items():
            metric = f"loadscape_agent_{name}"
            kind = "counter" if name.endswith("_total") else "gauge"
            parts.append(f"# HELP {metric} {_EACH_HELP[name]}\n# TYPE {metric} {kind}\n")
            parts += [f"{metric}{_labels(labels)} {value}\n" for labels, value in values.items()]
        return "".join(parts)


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Faults:
    """What is wrong now. Each fault has a key; it is logged when it comes and when it goes."""

    def __init__(self, tell: Callable[[str, str], None] | None = None) -> None:
        """`tell` is called with "fault" or "recovery" and what of, once each, in any thread."""
        self._lock = threading.Lock()
        self._present: dict[str, str] = {}
        self._tell = tell

    def report(self, key: str, message: str) -> None:
        """A fault is seen; logged only if it was not there before."""
        with self._lock:
            known = key in self._present
            self._present[key] = message
        if not known:
            _log.warning("%s: %s", key, message)
            if self._tell is not None:
                self._tell("fault", f"{key}: {message}")

    def over(self, key: str) -> None:
        """A fault is not seen any more; logged only if it was there."""
        with self._lock:
            message = self._present.pop(key, None)
        if message is not None:
            _log.info("%s: over (was: %s)", key, message)
            if self._tell is not None:
                self._tell("recovery", key)

    def present(self) -> dict[str, str]:
        """Key and message of every fault that is there now."""
        with self._lock:
            return dict(self._present)


def serve_metrics(port: int, counters: Counters) -> ThreadingHTTPServer:
    """Answer GET /metrics on 127.0.0.1 from a thread of its own; raises OSError if taken."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = counters.prometheus().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests for metrics are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
