"""Tokens and certificates that were given out: what makes an answer that was lost the same again.

One SQLite file beside the keys. A token is kept as a hash; it is spent in the same
transaction that notes the certificate, before either leaves the machine.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = (
    "create table if not exists token(device text primary key, hash blob not null, "
    "made_utc_s integer not null, ends_utc_s integer not null, spent_by blob, "
    "spent_utc_s integer) strict",
    "create table if not exists issued(request blob primary key, device text not null, "
    "kid blob not null, tls blob not null, leave text not null, at_utc_s integer not null, "
    "certificate blob not null) strict",
    "create index if not exists issued_by_kid on issued(kid)",
    "create index if not exists issued_by_tls on issued(tls)",
)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as far as the centre keeps it."""

    device: str
    hash: bytes
    made_utc_s: int
    ends_utc_s: int
    spent_by: bytes | None = None
    """`wire.enrolment.Request.digest` of the request that it was spent for."""
    spent_utc_s: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """One certificate, and for what it was given."""

    request: bytes
    device: str
    kid: bytes
    tls: bytes
    """SHA-256 of the TLS key's SubjectPublicKeyInfo."""
    leave: str
    """`token`, or the serial number of the certificate that was shown."""
    at_utc_s: int
    certificate: bytes
    """DER."""


def secret_hash(secret: bytes) -> bytes:
    """A token's secret has 128 random bits: no salt and no slow hash are needed."""
    return hashlib.sha256(b"loadscape enrolment token\0" + secret).digest()


class EnrolmentLedger:
    """Several processes may have it open; a `transaction` is alone. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20)
        path.chmod(0o600)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        for statement in _SCHEMA:
            self._db.execute(statement)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def tokens(self) -> list[TokenRow]:
        """All that were made and not cancelled, by device."""
        return [TokenRow(*row) for row in self._db.execute("select * from token order by device")]

    def token(self, device: str) -> TokenRow | None:
        """The device's token, spent or not."""
        row = self._db.execute("select * from token where device = ?", (device,)).fetchone()
        return None if row is None else TokenRow(*row)

    def put_token(self, row: TokenRow) -> None:
        """In the place of an older one."""
        self._db.execute(
            "insert or replace into token values (?, ?, ?, ?, ?, ?)",
            (row.device, row.hash, row.made_utc_s, row.ends_utc_s, row.spent_by, row.spent_utc_s),
        )

    def cancel_token(self, device: str) -> bool:
        """Whether there was one."""
        return bool(self._db.execute("delete from token where device = ?", (device,)).rowcount)

    def given(self, request: bytes) -> Given | None:
        """What that very request was answered with."""
        row = self._db.execute("select * from issued where request = ?", (request,)).fetchone()
        return None if row is None else Given(*row)

    def followers(self, leave: str) -> set[bytes]:
        """Requests that were answered by this leave."""
        rows = self._db.execute("select request from issued where leave = ?", (leave,))
        return {request for (request,) in rows}

    def all_given(self) -> list[Given]:
        """Every certificate, oldest first."""
        rows = self._db.execute("select * from issued order by at_utc_s, rowid")
        return [Given(*row) for row in rows]

    def given_to(self, device: str) -> list[Given]:
        """A device's certificates, oldest first."""
        return [given for given in self.all_given() if given.device == device]

    def holders(self, kid: bytes, tls: bytes) -> set[str]:
        """Devices that have had one of these keys."""
        rows = self._db.execute("select device from issued where kid = ? or tls = ?", (kid, tls))
        return {device for (device,) in rows}

    def put_given(self, given: Given) -> None:
        """Note a certificate."""
        self._db.execute(
            "insert into issued values (?, ?, ?, ?, ?, ?, ?)",
            (
                given.request,
                given.device,
                given.kid,
                given.tls,
                given.leave,
                given.at_utc_s,
                given.certificate,
            ),
        )
