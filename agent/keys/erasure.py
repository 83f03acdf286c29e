"""Makes what lay in a file unreadable: overwritten where it lies, synced, then removed.

That holds for file systems that write in place (ext4, FAT). What files of
earlier days have left in blocks that are free now goes the same way, and the
medium is told to discard those blocks. A flash card may keep an old copy of a
block that only its own controller reaches: against whoever takes the chip off,
only keys and folders that were sealed help.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

_PIECE: Final = 1 << 20
_BLOCK: Final = 512
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FITRIM: Final = 0xC0185879
"""Discard free blocks: _IOWR('X', 121, struct fstrim_range) of linux/fs.h."""
_WHOLE: Final = struct.pack("QQQ", 0, (1 << 64) - 1, 0)


def erase_file(path: Path) -> bool:
    """Erase a file, or remove a link without following it; whether there was one. Raises OSError.

    Also a file that is half erased: it may be called again after a cut.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(kind):
        _overwrite(path)
    path.unlink()
    return True


def erase_free_space(folder: Path) -> tuple[int, bool]:
    """Overwrite what the file system of `folder` has free; raises OSError.

    Bytes that were written, and whether the medium was told to discard the
    free blocks too. ext4 keeps 2 % of its blocks, 16 MiB at most, from being
    written by anybody: those are discarded only.
    """
    written = 0
    with ExitStack() as files:
        while True:
            # Without a name from the start: a cut leaves nothing that fills the disk.
            file = files.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            more = _fill(file)
            written += more
            if not more:
                break
    return written, _discard(folder)


def _fill(file: IO[bytes]) -> int:
    """Bytes that could be written until the disk was full or the file as long as it may be."""
    written = 0
    for piece in (_PIECE, _BLOCK):
        zeros = bytes(piece)
        try:
            while count := os.write(file.fileno(), zeros):
                written += count
        except OSError as error:
            if error.errno not in (*_FULL, errno.EFBIG):
                raise
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _FULL:
            raise
    return written


def _discard(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.sync()
        fcntl.ioctl(descriptor, _FITRIM, bytearray(_WHOLE))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        left = os.fstat(descriptor).st_size
        zeros = bytes(min(_PIECE, left))
        while left:
            left -= os.write(descriptor, zeros[: min(_PIECE, left)])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
