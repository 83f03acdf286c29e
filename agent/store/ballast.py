"""A file that only takes up room, so that there is some when the disk is full.

On a full disk even a deletion fails: the database's log has to grow first. The
file is twice what the log holds before it is folded in, and many times what the
largest deletion writes; it is given up when the disk is full and made again
when there is plenty of room. Until then the database leaves its room free.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

BALLAST_FILE = "ballast"
BALLAST_BYTES = 4 << 20
_PLENTY = 3
"""Made again when so many times its size is free."""

_Result = TypeVar("_Result")


class Ballast:
    """One file; `release` and `restore` may be called again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def release(self) -> bool:
        """Give the room up; whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def restore(self) -> None:
        """Take the room again if it was given up and there is plenty; raises OSError otherwise."""
        if self._path.exists() or self._free_bytes() < _PLENTY * BALLAST_BYTES:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        finally:
            os.close(descriptor)

    def room_beside_bytes(self) -> int | None:
        """What is free on the disk beyond its room; None while it takes that up itself."""
        return None if self._path.exists() else max(0, self._free_bytes() - BALLAST_BYTES)

    def spare(self, write: Callable[[], _Result]) -> _Result:
        """Write; if the disk is full, once more in the ballast's place. Raises OSError."""
        try:
            return write()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self.release():
                raise
            return write()

    def _free_bytes(self) -> int:
        room = os.statvfs(self._path.parent)
        return room.f_bavail * room.f_frsize
