"""Opening the store so that the agent starts whatever it finds on its disk.

A database that is none is put aside (two are kept) and a new one begun. The
stream's head is compared with the identity file: a database older than the
file was restored, so the stream cannot be continued.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from agent.health import Faults
from agent.store.database import Store, StoreDamaged
from agent.store.identity import IdentityDamaged, StreamHead, read_identity, write_identity

DATABASE_FILE = "agent.db"
IDENTITY_FILE = "identity.json"
_KEPT = 2


def open_store(
    data_dir: Path, common_name: str, quota_mib: int, faults: Faults
) -> tuple[Store, StreamHead]:
    """The store and the head to continue from; raises OSError if the folder cannot be used."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / DATABASE_FILE
    damaged = partial(faults.report, "stored_rows")
    try:
        store = Store(path, quota_mib, damaged)
    except StoreDamaged as error:
        faults.report("store", str(error))
        _put_aside(data_dir)
        store = Store(path, quota_mib, damaged)
    head = _head(store, data_dir / IDENTITY_FILE, common_name, faults)
    if store.head() != head:
        with store.transaction():
            store.set_head(head)
    write_identity(data_dir / IDENTITY_FILE, common_name, head)
    return store, head


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


def _put_aside(data_dir: Path) -> None:
    quarantine = data_dir / "quarantine"
    quarantine.mkdir(exist_ok=True)
    kept = sorted(quarantine.iterdir())
    for old in kept[: max(0, len(kept) - _KEPT + 1)]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    target = quarantine / f"{time.time_ns():020d}"
    target.mkdir()
    for suffix in ("", "-wal", "-shm"):
        file = data_dir / (DATABASE_FILE + suffix)
        if file.exists():
            os.replace(file, target / file.name)
