"""What travels between agent and centre: blocks, rows, events, logs and the signed messages.

Damage to a signed message would end at the signature, damage to a block at its
checksum: what is signed is fuzzed without its signature, and a block gets its
checksum after the damage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ext.checksum import crc32c
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from wire import cbor
from wire.block import MOST_VALUES, Block, BlockError, BlockRow, decode_block, encode_block
from wire.cbor_rows import decode_rows, encode_rows
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA
from wire.envelope import (
    BLOCK,
    NO_PREV,
    BatchHeader,
    DeviceSigner,
    EnvelopeError,
    read_header,
    seal,
)
from wire.events import Event, EventsError, decode_events, encode_events
from wire.keyset import EpochKey, Keyset, KeysetError, ReceiptKey, decode_keyset, encode_keyset
from wire.log import NO_PREV as NO_ENTRY
from wire.log import Entry, LogError, Piece, decode_log, encode_log
from wire.p256 import P256Signer
from wire.receipt import REASONS, Nack, Receipt, ReceiptError, decode_receipt, encode_receipt
from wire.roster import Roster, RosterDamaged, RosterEntry, decode_roster
from wire.suites import MLKEM768_X25519, X25519, suite

_MIDNIGHT: Final = 1_793_577_600
_DEVICE: Final = DeviceSigner(b"\1" * 32)
_EPOCH: Final = bytes(range(32))
_ROSTER: Final = Roster(tuple(RosterEntry(f"m{i}", f"4711{i}", 0b11111) for i in range(3)))
_BLOCK_BYTES: Final = 96 * 1024 * 1024
"""Values and row names of the largest block."""


def _again(decoded: bytes, data: bytes) -> None:
    """What is taken must be the one encoding of what it says."""
    if decoded != data:
        raise Overgrown("taken, although it is not the one encoding of what it says")


def _block(data: bytes) -> Block:
    block = decode_block(data + crc32c(data).to_bytes(4, "big"), lambda key: _ROSTER)
    rows = len(block.end_utc_s)
    if rows * len(block.columns) > MOST_VALUES:
        raise Overgrown(f"{rows} rows")
    if {rows} != {len(block.meter), *map(len, block.columns)}:
        raise Overgrown("columns of different lengths")
    return block


def _rows(data: bytes) -> None:
    block = decode_rows(data)
    named = zip(block.end_utc_s, block.meter, zip(*block.columns, strict=True), strict=True)
    _again(encode_rows(block.schema, block.roster, named, interval_s=block.interval_s), data)


def _some_rows(channels: int, count: int) -> list[BlockRow]:
    return [
        (_MIDNIGHT + 900 * step, meter, [(step + 1) * 131 * c % 4001 for c in range(channels)])
        for step in range(count)
        for meter in range(3)
        if (step + meter) % 5 or count < 5
    ]


def _block_seeds() -> Sequence[bytes]:
    return [
        encode_block(schema, _ROSTER, _some_rows(len(schema.channels), count), with_roster=told)[
            :-4
        ]
        for schema in (PROFILE_SCHEMA, SAMPLED_SCHEMA)
        for count in (1, 4, 40)
        for told in (True, False)
    ]


def _costly_blocks(size: int) -> Sequence[bytes]:
    """The most meters that fit `size`, each with the most intervals that a block may have."""
    count = min(size // 7, MOST_VALUES // len(PROFILE_SCHEMA.channels) // 1024)
    roster = Roster(tuple(RosterEntry(f"{i:04}", "", 0b11111) for i in range(count)))
    ends = (_MIDNIGHT, _MIDNIGHT + 900 * 1023)
    sparse = encode_block(
        PROFILE_SCHEMA,
        roster,
        [(end, meter, [0] * 6) for end in ends for meter in range(8)],
        with_roster=True,
    )
    head = bytearray(sparse[:20])
    head[1] = 7
    told = encode_block(PROFILE_SCHEMA, roster, [(_MIDNIGHT, 0, [0] * 6)], with_roster=True)
    carried = told[20 : told.index(roster.encoded) + len(roster.encoded)]
    # One group of heads and one of tails, all zero: a mode byte and twice the six bits of k = 63.
    column = bytes([128 | 4 | 32]) + b"\xff\xf0"
    return [sparse[:-4], bytes(head) + carried + column * 6]


def _row_seeds() -> Sequence[bytes]:
    return [
        encode_rows(schema, _ROSTER, _some_rows(len(schema.channels), count))
        for schema in (PROFILE_SCHEMA, SAMPLED_SCHEMA)
        for count in (1, 8)
    ]


def _costly_rows(size: int) -> Sequence[bytes]:
    """The shortest rows there are: a meter without channels."""
    meters: list[cbor.Value] = [
        [f"m{meter:03}", "", 0, [[_MIDNIGHT + 900 * step, 0] for step in range(100)]]
        for meter in range(size // 780)
    ]
    return [cbor.encode([1, SAMPLED_SCHEMA.id, 900, meters]), *_costly(size)]


def _envelope_seeds() -> Sequence[bytes]:
    hardware = P256Signer(b"\1" * 32)
    return [
        seal(
            BatchHeader(
                signer.alg, BLOCK, signer.kid, "demo", b"stream01", b"boot0001", 1, NO_PREV,
                b"epoch001", number, 1,
            ),
            b"block",
            epoch_public=suite(number).public_of(_EPOCH),
            signer=signer,
        )
        for signer in (_DEVICE, hardware)
        for number in (X25519, MLKEM768_X25519)
    ]  # fmt: skip


def _receipt_seeds() -> Sequence[bytes]:
    one = Receipt("demo", "t07", b"stream01", 12, bytes(range(16)), _MIDNIGHT, 99, 3)
    nacks = tuple(Nack(13 + n, reason) for n, reason in enumerate(REASONS))
    return [encode_receipt(one), encode_receipt(replace(one, nacks=nacks))]


def _keyset_seeds() -> Sequence[bytes]:
    hybrid = EpochKey(b"epoch002", MLKEM768_X25519, bytes(1216), _MIDNIGHT, _MIDNIGHT + 900)
    epoch = EpochKey(b"epoch001", X25519, bytes(32), _MIDNIGHT, _MIDNIGHT + 2_592_000)
    receipt = ReceiptKey(b"receipt1", bytes(32))
    one = Keyset(3, "demo", (epoch,), (receipt,), ())
    more = Keyset(9, "demo", (epoch, hybrid), (receipt, receipt), (b"revoked1", b"revoked2"))
    return [encode_keyset(one), encode_keyset(more)]


def _event_seeds() -> Sequence[bytes]:
    one = Event("m1", "LS0000001", "standard", 1_763_820_000, 3, "", 0)
    other = one._replace(log="fraud", at_utc_s=1_763_820_060, code=40, detail="magnet=1")
    more = [one._replace(at_utc_s=1_763_820_000 + 900 * step, code=step) for step in range(1, 40)]
    return [encode_events(events) for events in ([one], [one, other], [one, other, *more])]


def _log_seeds() -> Sequence[bytes]:
    entries = tuple(Entry(_MIDNIGHT + n, "start", f"version=0.1.{n}") for n in range(20))
    first = Piece(b"chain001", 1, NO_ENTRY, entries)
    return [encode_log(piece) for piece in (first, Piece(b"chain001", 21, first.head, entries))]


def _cbor_seeds() -> Sequence[bytes]:
    values: list[cbor.Value] = [
        [0, -1, 23, 24, 65_536, 1 << 40],
        {1: b"key", 4: "text", 33: [b"a", b"b"]},
        cbor.Tagged([b"", {}, b"payload", b"signature"]),
        [[[["deep"]]]],
    ]
    return [*map(cbor.encode, values), *_event_seeds()]


def _costly(size: int) -> Sequence[bytes]:
    empty = b"\x82\x01\x99\x10\x00" + b"\x87\x60\x60\x60\x00\x00\x60\x00" * 4096
    return [empty[:size], b"\x99\x10\x00" + b"\x80" * 4096, b"\x81" * size]


def _in_cbor(
    name: str,
    run: Callable[[bytes], object],
    error: type[Exception],
    seeds: Callable[[], Sequence[bytes]],
    worst: Callable[[int], Sequence[bytes]] = _costly,
    lines_per_byte: int = 80,
) -> Decoder:
    return Decoder(name, run, (error,), seeds, worst, lines_per_byte, 256)


DECODERS: Final = (
    _in_cbor(
        "wire-cbor",
        lambda data: _again(cbor.encode(cbor.decode(data)), data),
        cbor.CborError,
        _cbor_seeds,
    ),
    _in_cbor(
        "wire-events",
        lambda data: _again(encode_events(decode_events(data)), data),
        EventsError,
        _event_seeds,
    ),
    _in_cbor(
        "wire-log", lambda data: _again(encode_log(decode_log(data)), data), LogError, _log_seeds
    ),
    _in_cbor("wire-rows", _rows, BlockError, _row_seeds, _costly_rows, 160),
    _in_cbor("wire-envelope", read_header, EnvelopeError, _envelope_seeds),
    _in_cbor(
        "wire-receipt",
        lambda data: _again(encode_receipt(decode_receipt(data)), data),
        ReceiptError,
        _receipt_seeds,
    ),
    _in_cbor(
        "wire-keyset",
        lambda data: _again(encode_keyset(decode_keyset(data)), data),
        KeysetError,
        _keyset_seeds,
    ),
    Decoder(
        "wire-roster",
        decode_roster,
        (RosterDamaged,),
        lambda: [_ROSTER.encoded, Roster(()).encoded],
        lines_per_byte=30,
        bytes_per_byte=128,
    ),
    Decoder(
        "wire-block",
        _block,
        (BlockError,),
        _block_seeds,
        _costly_blocks,
        lines_per_byte=80,
        bytes_per_byte=512,
        fixed_bytes=_BLOCK_BYTES,
    ),
)
