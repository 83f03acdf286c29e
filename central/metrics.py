"""Counters and gauges of one process, shown as Prometheus text at `/metrics`.

A metric exists from the moment it is declared, so that a counter shows 0
before its first event. Any thread may count.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_S = 10.0
"""So long a client may take to ask; each holds a thread meanwhile."""
Labels = tuple[tuple[str, str], ...]


class MetricSet:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._declared: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[Labels, float]] = {}

    def counter(self, name: str, text: str, *labels: Mapping[str, str]) -> None:
        """Declare a counter; `labels` are the combinations that show 0 at once."""
        self._declare(name, "counter", text, labels)

    def gauge(self, name: str, text: str, *labels: Mapping[str, str]) -> None:
        """Declare a gauge; `labels` are the combinations that show 0 at once."""
        self._declare(name, "gauge", text, labels)

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Raise the declared counter `name`; raises KeyError if it was not declared."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            values = self._values[name]
            values[key] = values.get(key, 0) + by

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set the declared gauge `name`; raises KeyError if it was not declared."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] = value

    def value(self, name: str, **labels: str) -> float:
        """The present value, 0 if it never counted; raises KeyError if not declared."""
        with self._lock:
            return self._values[name].get(tuple(sorted(labels.items())), 0)

    def text(self) -> str:
        """Everything in the Prometheus text format."""
        lines: list[str] = []
        with self._lock:
            for name, (kind, text) in self._declared.items():
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                for labels, value in sorted(self._values[name].items()):
                    inside = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
                    lines.append(
                        f"{name}{{{inside}}} {value:.17g}" if inside else f"{name} {value:.17g}"
                    )
        return "\n".join(lines) + "\n"

    def _declare(
        self, name: str, kind: str, text: str, labels: tuple[Mapping[str, str], ...]
    ) -> None:
        with self._lock:
            self._declared[name] = (kind, text)
            values = self._values.setdefault(name, {})
            for combination in labels:
                values.setdefault(tuple(sorted(combination.items())), 0)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer:
    """Serves a `MetricSet` at http://host:port/metrics from a thread of its own."""

    def __init__(self, metrics: MetricSet, host: str, port: int) -> None:
        """`port` 0 takes any free port; raises OSError if the port is taken."""

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_S

            def do_GET(self) -> None:
                if self.path != "/metrics":
                    self.send_error(404, "only /metrics is here")
                    return
                body = metrics.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Being asked for metrics is no event."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        host, port = self._server.server_address[:2]
        return f"{host if isinstance(host, str) else host.decode()}:{port}"

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
