"""The API as a process: it starts, says where it is, and stops at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from central.api.serve import ApiPlaceTaken, serve
from central.config import load_config


def config_file(folder: Path, port: int) -> Path:
    path = folder / "central.toml"
    path.write_text(
        f'tenant = "demo"\ndata_dir = "data"\n[broker]\nhost = "127.0.0.1"\nca_file = "a"\n'
        f'cert_file = "b"\nkey_file = "c"\n[keys]\ndir = "k"\n'
        f"[api]\nport = {port}\nopen = true\n"
    )
    return path


def test_it_stops_promptly_although_a_page_listens_to_events(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = config_file(tmp_path, port)
    program = (
        "import logging, sys, pathlib; logging.basicConfig(level=20);"
        "from central.api.serve import serve; from central.config import load_config;"
        "serve(load_config(pathlib.Path(sys.argv[1])))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert child.stderr is not None
        assert any(f"http://127.0.0.1:{port}/" in line for line in child.stderr)
        url = f"http://127.0.0.1:{port}/api/v1/events"
        with urllib.request.urlopen(url, timeout=20) as events:
            assert events.readline() == b"event: version\n"
            asked_s = time.monotonic()
            child.send_signal(signal.SIGTERM)
            child.wait(20)
        assert time.monotonic() - asked_s < 1.9, "it did not wait for the open stream"
    finally:
        child.kill()
        child.wait()


def test_a_taken_port_names_the_key_to_change(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = config_file(tmp_path, taken.getsockname()[1])
        with pytest.raises(ApiPlaceTaken, match=r"central\.toml, \[api\]: cannot listen.*port"):
            serve(load_config(path))
