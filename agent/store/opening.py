"""Opening the store so that the agent starts whatever it finds on its disk.

A database that is none, or is not what was written, is put aside (two are
kept) and a new one begun with all rows of it that are sound. That one comes
into its place only when it is complete, so that a power cut in between costs
nothing. The stream's head is compared with the identity file: a database older
than the file was restored, so the stream cannot be continued.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from functools import partial
from pathlib import Path

from agent.health import Faults
from agent.store.ballast import BALLAST_FILE, Ballast
from agent.store.connection import is_damage
from agent.store.database import Store, StoreDamaged, StoreFull
from agent.store.identity import IdentityDamaged, StreamHead, read_identity, write_identity
from agent.store.salvage import UNREADABLE

DATABASE_FILE = "agent.db"
IDENTITY_FILE = "identity.json"
DAMAGED_FILE = "agent.db.damaged"
"""Says that the running agent has found damage: the next start puts the database aside."""
_SALVAGING = "agent.db.salvaging"
_SALVAGED = "agent.db.salvaged"
QUARANTINE = "quarantine"
_KEPT = 2
_SUFFIXES = ("-shm", "-wal", "")


def open_store(
    data_dir: Path, common_name: str, quota_mib: int, faults: Faults
) -> tuple[Store, StreamHead]:
    """The store and the head to continue from; raises OSError if the folder cannot be used."""
    data_dir.mkdir(parents=True, exist_ok=True)
    fresh = False
    if (data_dir / _SALVAGED).exists():
        fresh = True
        _replace(data_dir)
    try:
        if (data_dir / DAMAGED_FILE).exists():
            raise StoreDamaged((data_dir / DAMAGED_FILE).read_text(errors="replace"))
        store = _store(data_dir, DATABASE_FILE, quota_mib, faults)
    except StoreDamaged as error:
        fresh = True
        faults.report("store", str(error))
        _salvage(data_dir, quota_mib, faults)
        store = _store(data_dir, DATABASE_FILE, quota_mib, faults)
    if fresh:
        head = StreamHead.fresh()
    else:
        head = _head(store, data_dir / IDENTITY_FILE, common_name, faults)
    if store.head() != head:
        with store.transaction():
            store.set_head(head)
    store.ballast.spare(partial(write_identity, data_dir / IDENTITY_FILE, common_name, head))
    return store, head


def note_damage(data_dir: Path, error: BaseException) -> None:
    """If this is what ended the agent, let its next start put the database aside."""
    if isinstance(error, StoreDamaged) or (
        isinstance(error, sqlite3.DatabaseError) and is_damage(error)
    ):
        (data_dir / DAMAGED_FILE).write_text(f"{error}\n")


def _store(data_dir: Path, name: str, quota_mib: int, faults: Faults) -> Store:
    """Opens in the ballast's place if the disk is full."""
    damaged = partial(faults.report, "stored_rows")
    try:
        return Store(data_dir / name, quota_mib, damaged)
    except StoreFull as error:
        if not Ballast(data_dir / BALLAST_FILE).release():
            raise OSError(str(error)) from error
        return Store(data_dir / name, quota_mib, damaged)


def _head(store: Store, identity: Path, common_name: str, faults: Faults) -> StreamHead:
    try:
        written = read_identity(identity, common_name)
    except IdentityDamaged as error:
        faults.report("identity", str(error))
        return StreamHead.fresh()
    stored = store.head()
    if stored is None:
        return StreamHead.fresh()
    if written is None:
        faults.report("identity", f"{identity}: is gone; a new stream is begun")
        return StreamHead.fresh()
    if written.stream != stored.stream or written.next_seq > stored.next_seq:
        faults.report(
            "identity",
            f"rollback_detected: the database ends at batch {stored.next_seq - 1}, "
            f"{identity.name} at {written.next_seq - 1}; a new stream is begun",
        )
        return StreamHead.fresh()
    return stored


# --- a database that is not what was written


def _salvage(data_dir: Path, quota_mib: int, faults: Faults) -> None:
    _make_room_aside(data_dir)
    for suffix in _SUFFIXES:
        (data_dir / (_SALVAGING + suffix)).unlink(missing_ok=True)
    new = _store(data_dir, _SALVAGING, quota_mib, faults)
    try:
        faults.report("salvage", f"taken over: {new.take_over(data_dir / DATABASE_FILE)}")
    except UNREADABLE as error:
        faults.report("salvage", f"nothing could be taken over: {error}")
    except StoreFull as error:
        faults.report("salvage", f"not all could be taken over: {error}; free space on the disk")
    finally:
        new.close()
    os.replace(data_dir / _SALVAGING, data_dir / _SALVAGED)
    _sync(data_dir)
    _replace(data_dir)


def _replace(data_dir: Path) -> None:
    """Put the damaged database aside and the salvaged one in its place; may be done again."""
    _make_room_aside(data_dir)
    target = data_dir / QUARANTINE / f"{time.time_ns():020d}"
    target.mkdir(parents=True)
    for suffix in _SUFFIXES:
        file = data_dir / (DATABASE_FILE + suffix)
        if file.exists():
            os.replace(file, target / file.name)
    # A log that is left behind would be taken for the new database's.
    _sync(data_dir)
    os.replace(data_dir / _SALVAGED, data_dir / DATABASE_FILE)
    (data_dir / DAMAGED_FILE).unlink(missing_ok=True)
    _sync(data_dir)


def _make_room_aside(data_dir: Path) -> None:
    quarantine = data_dir / QUARANTINE
    if quarantine.exists() and not quarantine.is_dir():
        quarantine.unlink()
    quarantine.mkdir(exist_ok=True)
    kept = sorted(quarantine.iterdir())
    for old in kept[: max(0, len(kept) - _KEPT + 1)]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
