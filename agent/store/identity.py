"""Who this agent is and how far its stream has come, in a small file beside the database.

A lost or restored database must not make the agent repeat a sequence number:
the file is compared with the database at every start. Written as temporary
file, fsync, rename, fsync of the folder, so that a power cut leaves the old
or the new one.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

SUFFIX_BESIDE = ".new"
"""Of a file that is about to take the place of the one without it."""
NO_HASH = bytes(16)
"""What the first batch of a stream names as its predecessor."""


class IdentityDamaged(ValueError):
    """The identity file cannot be read; the agent begins a new stream."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """A chain of batches: its random name, the next sequence number, the last batch's hash."""

    stream: bytes
    next_seq: int
    hash: bytes

    @classmethod
    def fresh(cls) -> StreamHead:
        """The head of a new chain, under a random name."""
        return cls(os.urandom(8), 1, NO_HASH)


def read_identity(path: Path, common_name: str) -> StreamHead | None:
    """The head that was last written, None if there is no file; raises IdentityDamaged."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityDamaged(f"{path}: {error}; a new stream is begun") from error
    try:
        fields = json.loads(text)
        if fields["device"] != common_name:
            raise IdentityDamaged(
                f"{path}: belongs to {fields['device']!r}, this is {common_name!r}: the data_dir "
                "was copied from another agent; a new stream is begun"
            )
        return StreamHead(
            bytes.fromhex(fields["stream"]), int(fields["next"]), bytes.fromhex(fields["head"])
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, IdentityDamaged):
            raise
        raise IdentityDamaged(
            f"{path}: expected device, stream, next and head, came {error!r}; a new stream is begun"
        ) from error


def write_identity(path: Path, common_name: str, head: StreamHead) -> None:
    """Replace the file durably."""
    fields = {
        "device": common_name,
        "stream": head.stream.hex(),
        "next": head.next_seq,
        "head": head.hash.hex(),
    }
    replace_file(path, json.dumps(fields).encode("ascii"), durable=True)


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write beside and rename, so that a reader sees the old or the new content, never half."""
    beside = path.with_name(path.name + SUFFIX_BESIDE)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        written = os.write(descriptor, content)
        if written != len(content):
            raise OSError(errno.ENOSPC, f"{written} of {len(content)} bytes written", str(beside))
        if durable:
            os.fsync(descriptor)
    except OSError:
        beside.unlink()
        raise
    finally:
        os.close(descriptor)
    os.replace(beside, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
