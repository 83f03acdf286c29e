"""The installation's processes start, are watched, and leave nothing behind."""

import os
import sys
import time
from pathlib import Path

import pytest

from hil.site.ports import PortTaken, free_port, is_free, wanted_port
from hil.site.processes import ProcessDied, Processes

FOREVER = [sys.executable, "-c", "import threading; threading.Event().wait()"]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_was_started_is_stopped(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("one", FOREVER)
    pid = processes.pid("one")
    processes.check()
    processes.stop_all()
    assert not _alive(pid)
    assert processes.names() == []


def test_a_process_that_ends_by_itself_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("one", [sys.executable, "-c", "print('no keys found'); raise SystemExit(3)"])
    deadline_s = time.monotonic() + 10
    with pytest.raises(ProcessDied, match=r"(?s)one ended by itself with status 3.*no keys found"):
        while time.monotonic() < deadline_s:
            processes.check()
    processes.stop_all()


def test_stopping_a_process_also_ends_what_it_started(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    parent = (
        "import subprocess, sys, threading, pathlib;"
        "wait = 'import threading; threading.Event().wait()';"
        "c = subprocess.Popen([sys.executable, '-c', wait]);"
        f"pathlib.Path({str(child_file)!r}).write_text(str(c.pid));"
        "threading.Event().wait()"
    )
    processes = Processes(tmp_path)
    processes.start("parent", [sys.executable, "-c", parent])
    deadline_s = time.monotonic() + 10
    while not (child_file.exists() and child_file.read_text()):
        assert time.monotonic() < deadline_s
    child = int(child_file.read_text())
    processes.kill("parent")
    while _alive(child) and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline_s, "the child outlived its parent"


def test_one_name_is_one_process(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("one", FOREVER)
    with pytest.raises(ValueError, match="running already"):
        processes.start("one", FOREVER)
    processes.stop_all()


def test_a_taken_port_is_refused_with_the_option_that_chooses_another() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(PortTaken, match="--port"):
            wanted_port(port, "--port")
    assert wanted_port(free_port(), "--port") > 0
