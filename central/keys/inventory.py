"""Which file of a key directory is what, and who needs it: one table, and what follows from it.

`hand_out` copies to a folder what one machine needs and nothing else, so that
the collector never has a key that opens a batch and the loader never one that
signs.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from central.durable import PRIVATE, PUBLIC, write_file
from central.keys.destruction import wipe
from central.keys.place import KeyPlace, KeysError, read_devices, read_keyset

ROOT, OFFICE, LOADER, COLLECTOR, BROKER, ENROL = (
    "root", "office", "loader", "collector", "broker", "enrol",
)  # fmt: skip
PARTS: Final = {
    LOADER: "opens batches",
    COLLECTOR: "takes batches and signs receipts",
    BROKER: "lets connections in",
    ENROL: "signs devices' certificates",
}
"""Whom one can hand keys out to."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Files of one kind below a key directory."""

    pattern: str
    holds: str
    secret: bool
    needed_by: frozenset[str]


def _file(pattern: str, holds: str, *needed_by: str, secret: bool = False) -> KeyFile:
    return KeyFile(pattern, holds, secret, frozenset(needed_by))


# In the order in which they are handed out: a key lies there before the keyset names it.
FILES: Final = (
    _file("root/root.seed", "signs keysets", ROOT, secret=True),
    _file("root/keyset.cose", "the keyset that the root signed last", ROOT),
    _file("authority/ca.key", "signs certificates", OFFICE, ENROL, secret=True),
    _file("epoch/*.key", "opens batches", LOADER, secret=True),
    _file("epoch/*.json", "public half and times of an epoch key", OFFICE, LOADER),
    _file("receipt/*.key", "signs receipts", COLLECTOR, secret=True),
    _file("receipt/*.json", "public half and times of a receipt key", OFFICE, COLLECTOR),
    _file("collector.key", "the collector's connection", COLLECTOR, secret=True),
    _file("collector.crt", "the collector's connection", OFFICE, COLLECTOR),
    _file("broker/broker.key", "the broker's connections", BROKER, secret=True),
    _file("broker/broker.crt", "the broker's connections", OFFICE, BROKER),
    _file("enrol/enrol.key", "the enrolment server's connections", ENROL, secret=True),
    _file("enrol/enrol.crt", "the enrolment server's connections", ENROL),
    _file("enrol/ledger.db*", "hashes of tokens, certificates given", ENROL, secret=True),
    _file("ca.crt", "the authority's certificate", OFFICE, COLLECTOR, BROKER, ENROL),
    _file("ca.crl", "revoked certificates", OFFICE, BROKER, ENROL),
    _file("root.pub", "the root's public half", OFFICE, COLLECTOR, ENROL),
    _file("keyset.cose", "the keyset in force", OFFICE, COLLECTOR, ENROL),
    _file(
        "devices.json",
        "the tenant's name, devices and their public keys",
        OFFICE,
        COLLECTOR,
        BROKER,
        ENROL,
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """One file as it lies there; `kind` is None for a file that is not of this place."""

    path: Path
    kind: KeyFile | None
    exposed: bool
    """Whether others than the owner can read a secret."""


def inventory(place: KeyPlace) -> list[Found]:
    """Every file of the key directory, and the root's where its folder is at hand."""
    found = [
        _found(path, path.relative_to(place.directory).as_posix())
        for path in _files(place.directory)
    ]
    if place.root is not None:
        found += [
            _found(path, f"root/{path.relative_to(place.root).as_posix()}")
            for path in _files(place.root)
        ]
    return found


def hand_out(place: KeyPlace, part: str, out: Path, *, move: bool = False) -> list[Path]:
    """Copy what `part` needs to the folder `out`, or what has changed of it; the files copied.

    `move` wipes the secrets here that `part` alone needs. Raises KeysError, OSError.
    """
    if out.resolve() == place.directory.resolve():
        raise KeysError(f"{out}: is the key directory itself; name the folder to hand out to")
    _refuse_older(place, KeyPlace(out))
    copied = []
    for kind in (kind for kind in FILES if part in kind.needed_by):
        for path in sorted(place.directory.glob(kind.pattern)):
            there = out / path.relative_to(place.directory)
            there.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(there, path.read_bytes(), PRIVATE if kind.secret else PUBLIC)
            copied.append(there)
            if move and kind.secret and kind.needed_by == {part}:
                wipe(path)
    if not copied:
        raise KeysError(f"{place.directory}: holds nothing that the {part} needs; see keys init")
    return copied


def _refuse_older(place: KeyPlace, there: KeyPlace) -> None:
    """Raises KeysError where the other folder knows more than the key directory."""
    if there.keyset.exists() and there.devices.exists():
        here_version, there_version = read_keyset(place).version, read_keyset(there).version
        if there_version > here_version:
            raise KeysError(
                f"{there.keyset}: version {there_version}, {place.directory} has {here_version}; "
                "it is an old copy: take the newer keyset there first (keys take)"
            )
    if there.devices.exists():
        ours, theirs = read_devices(place), read_devices(there)
        newer = [
            name
            for name, device in theirs.items()
            if name not in ours or (ours[name].active and not device.active)
        ]
        if newer:
            raise KeysError(
                f"{there.devices}: knows of {', '.join(newer)} what {place.devices} does not; copy "
                "it there first, with ca.crl"
            )


def kind_of(name: str) -> KeyFile | None:
    """What the file of that name, relative to the key directory, is."""
    return next((kind for kind in FILES if Path(name).match(kind.pattern)
                 and name.count("/") == kind.pattern.count("/")), None)  # fmt: skip


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _found(path: Path, name: str) -> Found:
    kind = kind_of(name)
    open_to_others = bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    return Found(path, kind, kind is not None and kind.secret and open_to_others)
