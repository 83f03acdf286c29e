"""A process's counts over HTTP: whoever asks gets them, whoever does not is let go."""

from __future__ import annotations

import socket
import urllib.request
from urllib.error import HTTPError

import pytest

import central.metrics
from central.metrics import MetricSet, MetricsServer


def test_counts_and_gauges_are_served_with_help_and_escaped_labels() -> None:
    metrics = MetricSet()
    metrics.counter("things_total", "Things seen.", {"kind": 'a "b"'})
    metrics.gauge("depth", "How deep.", {})
    metrics.count("things_total", 2, kind='a "b"')
    metrics.set("depth", 1.5)
    with MetricsServer(metrics, "127.0.0.1", 0) as server:
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(f"http://{server.address}/", timeout=5)
    assert "# HELP things_total Things seen.\n# TYPE things_total counter\n" in text
    assert 'things_total{kind="a \\"b\\""} 2\n' in text
    assert "depth 1.5\n" in text


def test_a_client_that_asks_for_nothing_holds_no_thread_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(central.metrics, "_REQUEST_S", 0.1)
    with MetricsServer(MetricSet(), "127.0.0.1", 0) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as silent:
            assert silent.recv(1) == b""
