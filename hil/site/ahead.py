"""Processes that see a later date than the machine shows: months pass, certificates end.

A shared clock (`wire.clock`) reaches our own processes and never goes beyond
the machine's date; a broker and OpenSSL ask the machine. A small library in C,
compiled on first use and put there by `LD_PRELOAD`, adds seconds to the date
of every process that is started with `environment`; they may change while it
runs. Waits and time-outs are as long as ever.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("ahead.c")
_BUILT: Final = Path(__file__).resolve().parents[2] / "build" / "ahead"
_SECONDS: Final = struct.Struct("=q")


class AheadError(Exception):
    """The library cannot be built."""


class Ahead:
    """How far ahead processes see the date; all of those with this file the same."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.show(0)

    def show(self, ahead_s: int) -> None:
        """From now on the date is `ahead_s` later than the machine's."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            # In place: the processes have this very file mapped.
            os.pwrite(descriptor, _SECONDS.pack(ahead_s), 0)
        finally:
            os.close(descriptor)

    def environment(self) -> dict[str, str]:
        """Variables to start a process with; raises AheadError."""
        return {"LD_PRELOAD": str(_library()), "AHEAD_FILE": str(self._file)}


def _library() -> Path:
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    library = _BUILT / f"ahead-{digest}.so"
    if library.exists():
        return library
    _BUILT.mkdir(parents=True, exist_ok=True)
    beside = library.with_suffix(f".{os.getpid()}")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(beside), str(_SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise AheadError("no C compiler; ./dev setup installs one (gcc, libc6-dev)") from error
    except subprocess.CalledProcessError as error:
        raise AheadError(f"{_SOURCE}: does not compile: {error.stderr}") from error
    os.replace(beside, library)
    return library
