"""What a concentrator did and what befell it: its own log, the plaintext of a batch of content LOG.

Entries form a hash chain under a random name, from 1 on: each names the hash
of the one before, so an entry that is cut out, altered or put in shows.
Deterministic CBOR: `[1, chain, first, prev, [[at, code, detail] ...]]`, where
`first` numbers the first entry and `prev` is the hash before it. The chain
outlives streams and restarts; a lost store begins another one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from wire import cbor
from wire.unknown import NotKnownYet

MOST_ENTRIES: Final = 1024
MOST_BYTES: Final = 128 * 1024
CHAIN_BYTES: Final = 8
HASH_BYTES: Final = 16
NO_PREV: Final = bytes(HASH_BYTES)
"""What the first entry of a chain names as the one before."""
LARGEST_INSTANT: Final = (1 << 32) - 1
_VERSION: Final = 1
_LARGEST_NUMBER: Final = (1 << 62) - 1
_MOST_DETAIL_BYTES: Final = 1024
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


class LogError(ValueError):
    """Bytes that are not a piece of a log, or an entry that none can hold."""


class UnknownLog(LogError, NotKnownYet):
    """A log of another version than this program reads."""


class Entry(NamedTuple):
    """One thing that happened; `code` is a word of small letters, digits and `_`."""

    at_utc_s: int
    """By the concentrator's clock, UTC s."""
    code: str
    detail: str
    """Further facts as `name=value`, separated by spaces, or a sentence."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries of one chain without a hole; the first has the number `first`."""

    chain: bytes
    """8 random bytes that name the chain."""
    first: int
    prev: bytes
    """Hash of the entry before the first, 16 zero bytes at number 1."""
    entries: Sequence[Entry]

    @property
    def head(self) -> bytes:
        """Hash of the last entry."""
        head = self.prev
        for number, entry in enumerate(self.entries, self.first):
            head = entry_hash(self.chain, head, number, entry)
        return head


def entry_hash(chain: bytes, prev: bytes, number: int, entry: Entry) -> bytes:
    """First 16 bytes of SHA-256 over `[chain, prev, number, at, code, detail]`."""
    data = cbor.encode([chain, prev, number, *entry])
    return hashlib.sha256(data).digest()[:HASH_BYTES]


def cut_detail(text: str) -> str:
    """`text` as long as `detail` may be."""
    return text.encode(errors="replace")[:_MOST_DETAIL_BYTES].decode(errors="ignore")


def encode_log(piece: Piece) -> bytes:
    """The one encoding of a piece; raises LogError for what it cannot hold."""
    _check(piece)
    data = cbor.encode(
        [_VERSION, piece.chain, piece.first, piece.prev, [list(entry) for entry in piece.entries]]
    )
    if len(data) > MOST_BYTES:
        raise LogError(f"{len(piece.entries)} entries take {len(data)} bytes, not {MOST_BYTES}")
    return data


def decode_log(data: bytes) -> Piece:
    """The piece in `data`; raises LogError unless `encode_log` writes exactly these bytes."""
    if len(data) > MOST_BYTES:
        raise LogError(f"{len(data)} bytes, allowed are {MOST_BYTES}")
    try:
        value = cbor.decode(data)
    except cbor.CborError as error:
        raise LogError(f"not deterministic CBOR: {error}") from error
    match value:
        case [int(version), *_] if version != _VERSION:
            raise UnknownLog(f"log version {version}, this program reads {_VERSION}")
        case [int(), bytes(chain), int(first), bytes(prev), [*entries]]:
            pass
        case _:
            raise LogError("expected version, chain, first number, hash before, entries")
    piece = Piece(chain, first, prev, tuple(map(_entry, entries)))
    _check(piece)
    return piece


def _entry(value: cbor.Value) -> Entry:
    match value:
        case [int(at_utc_s), str(code), str(detail)]:
            return Entry(at_utc_s, code, detail)
    raise LogError("entry: expected an instant, a code, a detail")


def _check(piece: Piece) -> None:
    if len(piece.chain) != CHAIN_BYTES or len(piece.prev) != HASH_BYTES:
        raise LogError(f"expected a chain of {CHAIN_BYTES} bytes and a hash of {HASH_BYTES}")
    if not 1 <= len(piece.entries) <= MOST_ENTRIES:
        raise LogError(f"{len(piece.entries)} entries, expected 1 to {MOST_ENTRIES}")
    if not 1 <= piece.first <= _LARGEST_NUMBER:
        raise LogError(f"first number {piece.first}, expected 1 to {_LARGEST_NUMBER}")
    if piece.first == 1 and piece.prev != NO_PREV:
        raise LogError("the first entry of a chain has none before it: expected a hash of zeros")
    for entry in piece.entries:
        if not 0 <= entry.at_utc_s <= LARGEST_INSTANT:
            raise LogError(f"instant {entry.at_utc_s}, expected 0 to {LARGEST_INSTANT}")
        if not _CODE.match(entry.code):
            raise LogError(f"code {entry.code!r}: expected 1 to 32 of a-z, 0-9 and _")
        if len(entry.detail.encode()) > _MOST_DETAIL_BYTES:
            raise LogError(f"a detail of more than {_MOST_DETAIL_BYTES} bytes")
