"""Starts, watches, kills and stops the processes of an installation; every log goes to a file.

Each process gets a group of its own, so that stopping it also stops what it
started, and dies with this process even if that one is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ProcessDied(RuntimeError):
    """A process of the installation ended by itself."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Running:
    """One process: what it was started with, and the file that holds what it says."""

    name: str
    command: tuple[str, ...]
    log: Path
    popen: subprocess.Popen[bytes]

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass(slots=True)
class Processes:
    """The processes of one installation, in the order in which they were started."""

    logs: Path
    _running: dict[str, Running] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> Running:
        """Start `command`; its output is appended to `logs/<name>.log`."""
        if name in self._running:
            raise ValueError(f"process {name!r} is running already; stop it first")
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        running = Running(name, tuple(command), log, popen)
        self._running[name] = running
        return running

    def __contains__(self, name: object) -> bool:
        return name in self._running

    def pid(self, name: str) -> int:
        """Process id of `name`."""
        return self._running[name].popen.pid

    def names(self) -> list[str]:
        """Names in the order of their start."""
        return list(self._running)

    def check(self) -> None:
        """Raise ProcessDied, with the end of its log, if any process has ended by itself."""
        for running in self._running.values():
            code = running.popen.poll()
            if code is not None:
                raise ProcessDied(
                    f"{running.name} ended by itself with status {code}; its log {running.log} "
                    f"ends:\n{running.tail()}"
                )

    def kill(self, name: str) -> Running:
        """kill -9 the process and all that it started; returns what it was, for a new start."""
        running = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.popen.pid, signal.SIGKILL)
        running.popen.wait()
        return running

    def stop(self, name: str, patience_s: float = 10.0) -> None:
        """Ask the process to end (SIGTERM) and wait; after `patience_s` real seconds kill it."""
        self._stop([self._running.pop(name)], patience_s)

    def stop_all(self, patience_s: float = 10.0) -> None:
        """Stop everything, the last started first and all at once."""
        ending = list(reversed(self._running.values()))
        self._running.clear()
        self._stop(ending, patience_s)

    @staticmethod
    def _stop(ending: list[Running], patience_s: float) -> None:
        for running in ending:
            if running.popen.poll() is None:
                running.popen.terminate()
        deadline_s = time.monotonic() + patience_s
        for running in ending:
            try:
                running.popen.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.popen.pid, signal.SIGKILL)
                running.popen.wait()
            # What it started must not outlive it, even if it ended without looking after them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.popen.pid, signal.SIGKILL)
