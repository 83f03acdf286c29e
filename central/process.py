"""What collector, loader and API have in common as processes.

One of each per data directory: a second one would answer or write twice. The
lock goes with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from central.config import Config
from central.metrics import MetricSet, MetricsServer

log = logging.getLogger("central")

Part = Literal["collector", "loader", "api", "enrol"]


class AlreadyRunning(Exception):
    """Another process of the same part works on the same data directory."""


@contextmanager
def claimed(config: Config, part: Part) -> Iterator[None]:
    """Be the only `part` of this data directory; raises AlreadyRunning."""
    run_dir = config.data_dir / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / f"{part}.lock"
    with open(path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise AlreadyRunning(
                f"{path}: held by process {lock.read().strip() or 'unknown'}; a second {part} "
                "on the same data is not allowed; stop the first"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextmanager
def metrics_shown(config: Config, part: Part, metrics: MetricSet, port: int) -> Iterator[None]:
    """Serve `/metrics`; its address is logged and kept in run/PART.metrics below data_dir."""
    with MetricsServer(metrics, config.metrics.host, port) as server:
        log.info("%s: metrics at http://%s/metrics", part, server.address)
        path = config.data_dir / "run" / f"{part}.metrics"
        path.write_text(f"http://{server.address}/metrics\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop
