"""Who holds a serial port, so that "busy" can say what to stop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with its command line, as far as this user may see it."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def holders(path: str) -> list[Holder]:
    """Processes that hold the port: by its lock; if it has none, by their open files.

    Other users' open files are visible to root only, so the list may be empty
    although the port is held.
    """
    try:
        status = os.stat(path)
    except OSError:
        return []
    key = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    pids = _locking(key) or _having_open(os.path.realpath(path))
    return [Holder(pid, _command(pid)) for pid in sorted(pids - {os.getpid()})]


def _locking(key: str) -> set[int]:
    try:
        lines = (_PROC / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    fields = [line.split() for line in lines]
    return {int(f[4]) for f in fields if len(f) > 5 and f[1] == "FLOCK" and f[5] == key}


def _having_open(device: str) -> set[int]:
    found = set()
    for process in _PROC.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            targets = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if device in targets:
            found.add(int(process.name))
    return found


def _command(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    return b" ".join(word for word in words if word).decode("utf-8", "replace") or "unknown"
