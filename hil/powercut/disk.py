"""What a disk may hold after a power cut: a model of files, directories and what was flushed.

The model promises no more than POSIX: what was written after a file's last
fsync may be there in whole, in part, in any order, torn at a sector; a name
that was made, moved or removed after its directory's last fsync may be as it
was before or as it is now. Files that SQLite makes anew (`-shm`) are left out.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from hil.powercut.recorder import Kind, Operation

SECTOR_BYTES: Final = 512
_LEFT_OUT: Final = "-shm"
_TRUNCATES: Final = os.O_TRUNC

Image = Mapping[str, bytes]
"""Files by their paths, as the disk shows them after the cut."""


@dataclass(eq=False, slots=True)
class _File:
    """One file by whatever names; its bytes as of its last flush."""

    flushed: bytearray = field(default_factory=bytearray)


class _Folder:
    """Stands for a directory where a file could stand."""


_FOLDER: Final = _Folder()
_Entry = _File | _Folder | None


@dataclass(frozen=True, slots=True)
class _Change:
    """Bytes of a file (`data` None: its size) that no flush has covered."""

    file: _File
    at: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            content.extend(bytes(max(0, self.at - len(content))))
            del content[self.at :]
            return
        if not self.data:
            return
        content.extend(bytes(max(0, self.at - len(content))))
        content[self.at : self.at + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class _Naming:
    """Names that no flush of their directory has covered; all of one call or none."""

    entries: tuple[tuple[str, _Entry], ...]


_Pending = _Change | _Naming


class Disk:
    """Operations go in; `states` gives what a cut at this moment may leave behind."""

    def __init__(self, *, honours_flushes: bool = True) -> None:
        """A disk that honours no flush is the control: it must lose what was promised."""
        self._honours = honours_flushes
        self._named: dict[str, _Entry] = {".": _FOLDER}
        self._live: dict[str, _Entry] = {".": _FOLDER}
        self._pending: list[_Pending] = []
        self._open: dict[tuple[int, int], str | _File] = {}

    @property
    def pending(self) -> int:
        """How many changes no flush has covered."""
        return len(self._pending)

    def take(self, operation: Operation) -> bool:
        """Do what was recorded; whether the disk may look otherwise than before."""
        done = _TAKEN.get(operation.kind)
        return False if done is None else done(self, operation)

    def states(self, drawn: random.Random, count: int) -> Iterator[Image]:
        """`count` images: nothing, all, any, the first or torn ones of what is pending, in turn.

        Which comes first is drawn, so that who takes few at each cut sees all kinds.
        """
        kinds = (self._none, self._all, self._any, self._first, self._torn)
        first = drawn.randrange(len(kinds))
        for number in range(first, first + count):
            yield self._image(kinds[number % len(kinds)](drawn))

    # --- what may have reached the disk

    def _none(self, _: random.Random) -> Sequence[_Pending]:
        return []

    def _all(self, _: random.Random) -> Sequence[_Pending]:
        return self._pending

    def _any(self, drawn: random.Random) -> Sequence[_Pending]:
        share = drawn.random()
        return [change for change in self._pending if drawn.random() < share]

    def _first(self, drawn: random.Random) -> Sequence[_Pending]:
        return self._pending[: drawn.randint(0, len(self._pending))]

    def _torn(self, drawn: random.Random) -> Sequence[_Pending]:
        kept = list(self._any(drawn) if drawn.random() < 0.5 else self._first(drawn))
        writes = [i for i, change in enumerate(kept) if isinstance(change, _Change) and change.data]
        if writes:
            at = drawn.choice(writes)
            change = kept[at]
            assert isinstance(change, _Change)
            assert change.data is not None
            kept[at] = _torn(change, change.data, drawn)
        return kept

    def _image(self, kept: Sequence[_Pending]) -> Image:
        named = dict(self._named)
        contents: dict[_File, bytearray] = {}
        for change in kept:
            if isinstance(change, _Naming):
                named.update(change.entries)
            else:
                content = contents.get(change.file)
                if content is None:
                    content = contents[change.file] = bytearray(change.file.flushed)
                change.apply(content)
        return {
            path: bytes(contents.get(entry, entry.flushed))
            for path, entry in named.items()
            if isinstance(entry, _File) and _reachable(path, named)
        }

    # --- operations

    def _do_open(self, operation: Operation) -> bool:
        path = operation.path
        key = (operation.process, operation.descriptor)
        if path.endswith(_LEFT_OUT):
            self._open.pop(key, None)
            return False
        entry = self._live.get(path)
        if isinstance(entry, _Folder):
            self._open[key] = path
            return False
        changed = False
        if entry is None:
            entry = _File()
            self._name((path, entry))
            changed = True
        self._open[key] = entry
        if operation.flags & _TRUNCATES and not changed:
            self._pending.append(_Change(entry, 0, None))
            changed = True
        return changed

    def _do_write(self, operation: Operation) -> bool:
        file = self._open.get((operation.process, operation.descriptor))
        if not isinstance(file, _File):
            return False
        data = operation.data if operation.kind is Kind.WRITE else None
        self._pending.append(_Change(file, operation.at, data))
        return True

    def _do_sync(self, operation: Operation) -> bool:
        synced = self._open.get((operation.process, operation.descriptor))
        if synced is None or not self._honours:
            return False
        left: list[_Pending] = []
        for change in self._pending:
            if isinstance(change, _Change) and change.file is synced:
                change.apply(change.file.flushed)
            elif isinstance(change, _Naming) and synced in _folders(change):
                self._named.update(change.entries)
            else:
                left.append(change)
        moved = len(left) != len(self._pending)
        self._pending = left
        return moved

    def _do_rename(self, operation: Operation) -> bool:
        entry = self._live.get(operation.path)
        if isinstance(entry, _Folder):
            raise ValueError(f"{operation.path}: renaming a folder is not modelled")
        self._name((operation.path, None), (operation.other, entry))
        return True

    def _do_unlink(self, operation: Operation) -> bool:
        if operation.path not in self._live:
            return False
        self._name((operation.path, None))
        return True

    def _do_mkdir(self, operation: Operation) -> bool:
        self._name((operation.path, _FOLDER))
        return True

    def _name(self, *entries: tuple[str, _Entry]) -> None:
        for path, entry in entries:
            if entry is None:
                self._live.pop(path, None)
            else:
                self._live[path] = entry
        self._pending.append(_Naming(entries))


_TAKEN: Final[Mapping[Kind, Callable[[Disk, Operation], bool]]] = {
    Kind.OPEN: Disk._do_open,
    Kind.WRITE: Disk._do_write,
    Kind.TRUNCATE: Disk._do_write,
    Kind.SYNC: Disk._do_sync,
    Kind.RENAME: Disk._do_rename,
    Kind.UNLINK: Disk._do_unlink,
    Kind.MKDIR: Disk._do_mkdir,
    Kind.RMDIR: Disk._do_unlink,
}


def digest(image: Image) -> bytes:
    """SHA-256 over names and bytes: what tells two states apart."""
    whole = hashlib.sha256()
    for path in sorted(image):
        whole.update(f"{path}\0{len(image[path])}\0".encode())
        whole.update(image[path])
    return whole.digest()


def lay_out(image: Image, folder: Path) -> None:
    """Write the image's files into an empty folder."""
    for path, content in image.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _torn(change: _Change, data: bytes, drawn: random.Random) -> _Change:
    """The write up to the end of some sector in its middle, or nothing of it."""
    first = -(-(change.at + 1) // SECTOR_BYTES) * SECTOR_BYTES
    ends = list(range(first, change.at + len(data), SECTOR_BYTES))
    end = drawn.choice(ends) if ends else change.at
    return _Change(change.file, change.at, data[: end - change.at])


def _folders(naming: _Naming) -> set[str]:
    return {str(PurePosixPath(path).parent) for path, _ in naming.entries}


def _reachable(path: str, named: Mapping[str, _Entry]) -> bool:
    return all(
        isinstance(named.get(str(parent)), _Folder) for parent in PurePosixPath(path).parents
    )
