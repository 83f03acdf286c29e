"""Accounts of the page: names and scrypt hashes in the registry."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from central.grid.registry import open_for_reading, open_for_writing

SHORTEST_PASSWORD = 10

# OWASP's minimum for scrypt with 64 MiB (N = 2^16, r = 8, p = 1).
_COST, _BLOCK, _PARALLEL = 2**16, 8, 1
_MEMORY_BYTES = 129 * _COST * _BLOCK


class UserRefused(ValueError):
    """The account was not added."""


@dataclass(frozen=True, slots=True)
class User:
    """A stored account."""

    name: str
    salt: bytes
    scrypt: bytes


def add_user(registry_path: Path, name: str, password: str) -> bool:
    """Add an account, or give an existing one a new password; True if it is new.

    Raises UserRefused.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
        raise UserRefused(
            f"expected a name of letters, digits and . _ @ - (64 at most), came {name!r}"
        )
    if len(password) < SHORTEST_PASSWORD:
        raise UserRefused(
            f"expected a password of {SHORTEST_PASSWORD} characters or more, "
            f"came {len(password)}; choose a longer one"
        )
    salt = os.urandom(16)
    connection = open_for_writing(registry_path)
    os.chmod(registry_path, 0o640)
    try:
        known = connection.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone()
        connection.execute(
            "INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?)",
            (name, salt, _hash(password, salt), int(time.time())),
        )
    finally:
        connection.close()
    return known is None


def find_user(registry_path: Path, name: str) -> User | None:
    """The account of that name."""
    if not registry_path.exists():
        return None
    connection = open_for_reading(registry_path)
    try:
        row = connection.execute(
            "SELECT name, salt, scrypt FROM users WHERE name = ?", (name,)
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    finally:
        connection.close()
    return None if row is None else User(*row)


def count_users(registry_path: Path) -> int:
    """How many accounts there are."""
    if not registry_path.exists():
        return 0
    connection = open_for_reading(registry_path)
    try:
        return int(connection.execute("SELECT count(*) FROM users").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return 0
        raise
    finally:
        connection.close()


def password_fits(user: User | None, password: str) -> bool:
    """Whether the password is the account's; takes as long for an unknown name."""
    salt = user.salt if user is not None else b"\0" * 16
    came = _hash(password, salt)
    expected = user.scrypt if user is not None else b"\0" * len(came)
    return hmac.compare_digest(came, expected) and user is not None


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8"),
        salt=salt,
        n=_COST,
        r=_BLOCK,
        p=_PARALLEL,
        maxmem=_MEMORY_BYTES,
        dklen=32,
    )
