"""The recorder under an unmodified process: a small library in C that `LD_PRELOAD` puts there.

It is compiled on first use. What it writes, and the marks that an observer
puts between (what had been promised by then), is read back as operations.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

SOURCE: Final = Path(__file__).with_name("shim.c")
BUILT: Final = Path(__file__).resolve().parents[2] / "build" / "powercut"
_HEAD: Final = struct.Struct("<IIiiqIIII")
_MAGIC: Final = 0x50435554


class RecorderError(Exception):
    """The recorder cannot be built, or its log is not what it writes."""


class Kind(IntEnum):
    """What was done; the numbers of the shim, and MARK of the observer."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    MARK = 9


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. Paths are relative to the recorded folder, which itself is `.`."""

    kind: Kind
    process: int
    descriptor: int
    at: int
    """Offset of a WRITE, new size of a TRUNCATE, bytes."""
    path: str
    other: str
    """Target of a RENAME."""
    data: bytes
    flags: int
    """Of an OPEN."""

    @property
    def mark(self) -> Mapping[str, Any]:
        """What an observer's MARK says."""
        told: Mapping[str, Any] = json.loads(self.data)
        return told


def under_recorder(folder: Path, log: Path, command: Sequence[str]) -> list[str]:
    """`command` with the recorder below it, for `folder`; raises RecorderError."""
    return [
        "env",
        f"LD_PRELOAD={built()}",
        f"POWERCUT_ROOT={folder}",
        f"POWERCUT_LOG={log}",
        *command,
    ]


def built() -> Path:
    """The compiled recorder; raises RecorderError if it does not compile."""
    source = SOURCE.read_bytes()
    library = BUILT / f"recorder-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if library.exists():
        return library
    BUILT.mkdir(parents=True, exist_ok=True)
    beside = library.with_suffix(f".{os.getpid()}")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(beside), str(SOURCE), "-ldl", "-lpthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RecorderError("no C compiler; ./dev setup installs one (gcc, libc6-dev)") from error
    except subprocess.CalledProcessError as error:
        raise RecorderError(f"{SOURCE}: does not compile: {error.stderr}") from error
    os.replace(beside, library)
    return library


def mark(log: Path, told: Mapping[str, Any]) -> None:
    """Put a mark behind all that was recorded until now."""
    data = json.dumps(told).encode()
    head = _HEAD.pack(_MAGIC, Kind.MARK, os.getpid(), -1, 0, 0, 0, len(data), 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, head + data)
    finally:
        os.close(descriptor)


def read_log(log: Path) -> Iterator[Operation]:
    """The recorded operations in their order; raises RecorderError."""
    data = log.read_bytes()
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise RecorderError(f"{log}: ends inside a record at byte {at}; record anew")
        magic, kind, process, descriptor, offset, *sizes, flags = _HEAD.unpack_from(data, at)
        if magic != _MAGIC:
            raise RecorderError(f"{log}: no record begins at byte {at}; record anew")
        at += _HEAD.size
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += size
        path, other = parts[0].decode(), parts[1].decode()
        yield Operation(
            Kind(kind), process, descriptor, offset, path, other, parts[2], flags
        )  # fmt: skip
