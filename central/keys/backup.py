"""A key directory in one encrypted file, and back.

The file is a line of text, the work of a guess as a power of two, a salt, and
a tar archive encrypted under the passphrase: scrypt (RFC 7914, r = 8, p = 1),
then Cobblestone-256 (C2SP chunked encryption) with the head as its context,
which notices every change and every cut. A backup keeps what is destroyed
elsewhere: it has to be destroyed itself by the day that `write_backup`
returns, and `restore` brings back no private half whose day has come.
"""

from __future__ import annotations

import io
import secrets
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from central.durable import PRIVATE, PUBLIC, write_file
from central.keys.destruction import due
from central.keys.inventory import FILES, kind_of
from central.keys.place import KeyPlace, KeysError
from central.keys.record import EPOCH, PURPOSES, destroy_at_utc_s, private_file, read_records

SHORTEST_PASSPHRASE: Final = 16
_FORM: Final = b"loadscape keys backup 1\n"
_SALT_BYTES: Final = 16
_WORK_AT: Final = len(_FORM)
_HEAD_BYTES: Final = _WORK_AT + 1 + _SALT_BYTES
_KEY_BYTES: Final = 32
_WORK: Final = 17
"""Scrypt's N is two to this; each guess takes 128 MiB."""
_WORK_READ: Final = range(14, 21)
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written."""

    files: int
    destroy_by_utc_s: int | None
    """When the first epoch key in it is to be destroyed; None if it holds none."""


def write_backup(
    place: KeyPlace, out: Path, passphrase: str, *, epoch_keys: bool = True, work: int = _WORK
) -> Backup:
    """Write all files of `place` to `out`; raises KeysError, OSError.

    Without `epoch_keys` it can be kept for ever, and what was sealed cannot be opened with it.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise KeysError(f"a passphrase of {len(passphrase)} characters; take at least "
                        f"{SHORTEST_PASSPHRASE}, best six random words")  # fmt: skip
    archive, files = io.BytesIO(), 0
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for kind in FILES:
            for path in sorted(place.directory.glob(kind.pattern)):
                if epoch_keys or kind.pattern != "epoch/*.key":
                    _add(tar, path.relative_to(place.directory).as_posix(), path.read_bytes())
                    files += 1
    head = _FORM + bytes([work]) + secrets.token_bytes(_SALT_BYTES)
    encryptor = Cobblestone256Encryptor(_key(passphrase, head), head)
    write_file(out, head + encryptor.update(archive.getvalue()) + encryptor.finalize())
    held = [
        destroy_at_utc_s(record, EPOCH)
        for record in read_records(place, EPOCH)
        if epoch_keys and private_file(place, EPOCH, record.kid).exists()
    ]
    return Backup(files, min(held, default=None))


def restore(source: Path, directory: Path, passphrase: str, *, now_utc_s: float) -> list[bytes]:
    """Write the files of a backup to the empty `directory`; raises KeysError, OSError.

    Returns the ids of keys whose private halves were left out because their day has come.
    """
    if directory.exists() and any(directory.iterdir()):
        raise KeysError(f"{directory}: not empty; choose a new directory")
    with tarfile.open(fileobj=io.BytesIO(_opened(source, passphrase))) as tar:
        contents = {member.name: _content(source, tar, member) for member in tar}
    public = {name: data for name, data in contents.items() if not _secret(source, name)}
    for name, data in public.items():
        _put(directory / name, data, PUBLIC)
    over = _destroyed_by(KeyPlace(directory), now_utc_s)
    for name in contents.keys() - public.keys() - over.keys():
        _put(directory / name, contents[name], PRIVATE)
    return [kid for name, kid in over.items() if name in contents]


def _destroyed_by(place: KeyPlace, now_utc_s: float) -> dict[str, bytes]:
    """Names of private halves that must not come back, and the ids of their keys."""
    return {
        private_file(place, purpose, record.kid).relative_to(place.directory).as_posix(): record.kid
        for purpose in PURPOSES.values()
        for record in due(place, purpose, now_utc_s)
    }


def _content(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeysError(f"{source}: {member.name!r} is not a file; it is no backup of keys")
    return file.read()


def _secret(source: Path, name: str) -> bool:
    kind = kind_of(name)
    if kind is None:
        raise KeysError(f"{source}: holds {name!r}, which is no file of a key directory")
    return kind.secret


def _put(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, data, mode)


def _opened(source: Path, passphrase: str) -> bytes:
    data = source.read_bytes()
    head, sealed = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
    ours = head.startswith(_FORM) and len(head) == _HEAD_BYTES and head[_WORK_AT] in _WORK_READ
    if not ours or len(data) > _MOST_BYTES:
        raise KeysError(f"{source}: not a backup that keys backup wrote; name another file")
    decryptor = Cobblestone256Decryptor(_key(passphrase, head), head)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except (InvalidTag, ValueError) as error:
        raise KeysError(
            f"{source}: does not open; the passphrase is another one, or the file is damaged"
        ) from error


def _key(passphrase: str, head: bytes) -> bytes:
    kdf = Scrypt(salt=head[_WORK_AT + 1 :], length=_KEY_BYTES, n=1 << head[_WORK_AT], r=8, p=1)
    return kdf.derive(passphrase.encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
