"""Makes what lay in a file unreadable: overwritten where it lies, synced, then removed.

That holds for file systems that write in place (ext4, FAT). A flash card may
keep an old copy of a block that only its own controller reaches: against
whoever takes the chip off, only keys and folders that were sealed help.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 20


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
