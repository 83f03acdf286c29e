"""Invocation counters that never hand out a value twice, whatever happens to process or power.

AES-GCM is broken by a nonce that is used twice, and the nonce is the client's
system title and this counter (Green Book ed. 8, 9.2.3.3.7.3). So values are
reserved in steps in a SQLite file, and a step is on the disk before its first
value is handed out; what a dead process had reserved is skipped. Values of one
name rise in the order in which they are handed out, also between processes.

Not promised: anything about a file that was restored from a backup. It holds
old values, and the meter refuses them. So the driver reads the meter's own
counter through the public client, where the meter class names it, and calls
`raise_above`. What it shows is not protected: so only a counter that was never
used jumps to wherever the meter is, and none comes near its end. For a meter
that does not show its counter, new keys are needed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.dlms.errors import (
    CounterImplausible,
    CountersDamaged,
    CountersExhausted,
    CountersUnavailable,
)
from agent.dlms.security.settings import InvocationCounter

FILE_NAME: Final = "dlms-counters.db"
MOST: Final = 0xFFFF_FFFF
"""Last value that a counter of 32 bits can have."""
STEP: Final = 1000
"""Values reserved at once: a write to the disk for so many, and so many lost with a process."""

FARTHEST_JUMP: Final = 10_000_000
"""How far a counter in use follows a meter's at most: centuries of reading it hourly."""
LEFT_OVER: Final = 1 << 24
"""Values that the meter's word alone cannot use up."""

_BUSY_S: Final = 5.0
_FORM: Final = 0x4C53_4943
"""SQLite's application id of this file: "LSIC"."""
_TABLE: Final = (
    "CREATE TABLE counter (name TEXT PRIMARY KEY, reserved INTEGER NOT NULL"
    f" CHECK (typeof(reserved) = 'integer' AND reserved BETWEEN 0 AND {MOST})) WITHOUT ROWID"
)
_RAISE: Final = (
    "INSERT INTO counter (name, reserved) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET reserved = max(reserved, excluded.reserved)"
)


def counter_name(encryption_key: bytes) -> str:
    """The name of a key's counter, from which the key cannot be told.

    Meters that share a key share its counter: with one each, both would use
    the same nonces under the same key.
    """
    return sha256(b"loadscape dlms invocation counter\0" + encryption_key).hexdigest()[:32]


class CounterStore:
    """The counters of one file, made at the first use; used by any thread.

    Every use raises CountersDamaged, CountersUnavailable or CountersExhausted.
    """

    def __init__(self, path: Path, *, step: int = STEP) -> None:
        self._path = path
        self._step = step
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._counters: dict[str, _Counter] = {}

    def counter(self, name: str) -> InvocationCounter:
        """The counter of that name; the same one for all who ask. Touches no file yet."""
        with self._lock:
            if name not in self._counters:
                self._counters[name] = _Counter(self, name)
            return self._counters[name]

    def close(self) -> None:
        """Let go of the file; the next use opens it again. May be called twice."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    # --- for the counters

    def reserved(self, name: str) -> int:
        """Highest value that anyone may have been handed, 0 before the first."""
        with self._opened() as database:
            return self._read(database, name)

    def reserve(self, name: str, above: int) -> tuple[int, int]:
        """First and last value of a step above `above` that is now the caller's alone, durably."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            before = max(self._read(database, name), above)
            if before >= MOST:
                raise CountersExhausted(
                    f"{self._path}: expected a value of 32 bits for counter {name}, all "
                    f"{MOST} are used up; give the meter new keys, which begin anew"
                )
            last = min(before + self._step, MOST)
            database.execute(_RAISE, (name, last))
            database.execute("COMMIT")
            return before + 1, last

    def raise_to(self, name: str, value: int) -> None:
        """Reserve everything up to `value`, durably; raises CounterImplausible."""
        with self._opened() as database:
            before = self._read(database, name)
            if value <= before:
                return
            highest = MOST - LEFT_OVER
            if before:
                highest = min(highest, before + FARTHEST_JUMP)
            if value > highest:
                raise CounterImplausible(
                    f"{self._path}: counter {name} stands at {before}, expected the meter's at "
                    f"{highest} at most, it says {value}, and whoever is on the line can say so; "
                    "the counter stays. If the meter's display shows the same, give it new keys"
                )
            database.execute(_RAISE, (name, value))

    @staticmethod
    def _read(database: sqlite3.Connection, name: str) -> int:
        row = database.execute("SELECT reserved FROM counter WHERE name = ?", (name,)).fetchone()
        value = 0 if row is None else row[0]
        if not isinstance(value, int) or not 0 <= value <= MOST:
            raise sqlite3.DatabaseError(f"{value!r} as the value of counter {name}")
        return value

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The open file for one use, alone; a use that fails leaves nothing behind but the file."""
        with self._lock:
            try:
                if self._database is None:
                    self._database = _open(self._path)
                yield self._database
            except sqlite3.OperationalError as error:
                raise self._unavailable(str(error)) from error
            except sqlite3.DatabaseError as error:
                raise self._damaged(str(error)) from error
            except OSError as error:
                raise self._unavailable(str(error)) from error
            finally:
                database = self._database
                if database is not None and database.in_transaction:
                    # Closing rolls back what was begun and not committed.
                    self.close()

    def _unavailable(self, came: str) -> CountersUnavailable:
        self.close()
        return CountersUnavailable(
            f"{self._path}: expected to reserve invocation counters durably, got: {came}; nothing "
            "was sent. Check free space, and that the folder and the file belong to the agent's "
            "user and are not mounted read-only"
        )

    def _damaged(self, came: str) -> CountersDamaged:
        self.close()
        return CountersDamaged(
            f"{self._path}: expected the agent's invocation counters, got: {came}; nothing was "
            "sent. Move the file away: a new one is made, and each counter goes on from the "
            "meter's own where its class names a counter_object; give other meters new keys, as "
            "a value used twice would give the old ones away"
        )


class _Counter:
    """Implements `InvocationCounter`: hands out what the store has reserved."""

    def __init__(self, store: CounterStore, name: str) -> None:
        self._store = store
        self._name = name
        self._lock = threading.Lock()
        self._next, self._last = 1, 0

    def next(self) -> int:
        with self._lock:
            # When another process has reserved since, the rest of this step is below its values.
            if self._next > self._last or self._store.reserved(self._name) != self._last:
                used = self._next - 1
                self._next, self._last = self._store.reserve(self._name, used)
            value = self._next
            self._next += 1
            return value

    def raise_above(self, value: int) -> None:
        if not 0 <= value <= MOST:
            raise ValueError(f"expected a counter of 0 to {MOST}, came {value}")
        with self._lock:
            self._store.raise_to(self._name, value)
            self._next = max(self._next, value + 1)


def _open(path: Path) -> sqlite3.Connection:
    """The file, made for this user alone if there is none; raises sqlite3.Error, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _make(path)
    # A rollback journal under EXTRA: its removal is on the disk as well when COMMIT returns.
    database = sqlite3.connect(path, _BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("BEGIN IMMEDIATE")
        form = database.execute("PRAGMA application_id").fetchone()[0]
        if form == 0 and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            database.execute(f"PRAGMA application_id = {_FORM}")
            database.execute(_TABLE)
        elif form != _FORM:
            raise sqlite3.DatabaseError(f"a database of another program (id {form:#x})")
        database.execute("COMMIT")
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))
    except sqlite3.Error:
        database.close()
        raise
    return database


def _make(path: Path) -> None:
    """An empty file with mode 0600, the folder's owner's; one that is there stays as it is."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            # A command run by root must not lock the agent out.
            folder = path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)
