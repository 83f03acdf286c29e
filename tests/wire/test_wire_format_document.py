"""docs/wire-format.md says what the program does: every vector in it is read here."""

from __future__ import annotations

import hashlib
import re
from array import array
from pathlib import Path

import pytest

from ext import column, column_pure
from wire.block import Roster, RosterEntry, decode_block, encode_block
from wire.cbor_rows import decode_rows, encode_rows
from wire.channels import PROFILE_SCHEMA, SCHEMAS
from wire.cose import ESP256
from wire.envelope import CBOR_ROWS, DeviceSigner, chain_hash, open_sealed, verify
from wire.events import Event, decode_events, encode_events
from wire.keyset import verify_keyset
from wire.log import NO_PREV, Entry, Piece, decode_log, encode_log
from wire.p256 import P256Signer
from wire.quality import Quality
from wire.receipt import GAP, Nack, verify_receipt
from wire.roster import decode_roster
from wire.suites import MLKEM768_X25519, SUITES, suite

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-format.md"
ROSTER = Roster(
    (RosterEntry("m000001", "47110001", 0b111111), RosterEntry("m000002", "47110002", 0b111111))
)
ROWS = [
    (1793578500, 0, [26702550, 0, 7042197, 2340, 22, 2]),
    (1793579400, 0, [26702617, 0, 7042199, 2344, 38, 2]),
    (1793578500, 1, [1802, 0, 55, 2341, 0, 2]),
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for fence in re.findall(r"```vector\n(.*?)```", DOCUMENT.read_text(), re.S):
        for line in fence.splitlines():
            name, digits = line.split(" = ")
            found[name] = bytes.fromhex(digits)
    return found


def test_the_column_vector_is_what_both_twins_write(vectors: dict[str, bytes]) -> None:
    values, lengths = array("q", [26702550, 26702617, 26702647]), array("i", [3])
    for codec in (column, column_pure):
        assert codec.encode(values, lengths) == vectors["column"]
        assert codec.decode(vectors["column"], 0, lengths)[0] == values


def test_the_roster_vector_is_what_the_program_writes(vectors: dict[str, bytes]) -> None:
    assert ROSTER.encoded == vectors["roster"]
    assert ROSTER.hash == vectors["roster_hash"]
    assert decode_roster(vectors["roster"]) == ROSTER


def test_the_block_vectors_are_what_the_program_writes(vectors: dict[str, bytes]) -> None:
    for name, with_roster in (("block_with_roster", True), ("block", False)):
        assert encode_block(PROFILE_SCHEMA, ROSTER, ROWS, with_roster=with_roster) == vectors[name]
        block = decode_block(vectors[name], lambda key: ROSTER if key == ROSTER.hash else None)
        read = zip(block.end_utc_s, block.meter, zip(*block.columns, strict=True), strict=True)
        assert [(end, meter, list(values)) for end, meter, values in read] == ROWS


def test_the_events_vector_is_what_the_program_writes(vectors: dict[str, bytes]) -> None:
    meter = ("m000001", "47110001")
    events = [
        Event(*meter, "standard", 1793578512, 255, "", 0),
        Event(*meter, "fraud", 1793578530, 40, "cover=1", 0),
    ]
    assert encode_events(events) == vectors["events"]
    assert decode_events(vectors["events"]) == sorted(events)


def test_the_sealed_vector_verifies_and_opens_to_the_block(vectors: dict[str, bytes]) -> None:
    signer = DeviceSigner(vectors["device_seed"])
    assert (signer.public, signer.kid) == (vectors["device_public"], vectors["device_kid"])
    header = verify(vectors["sealed"], vectors["device_public"])
    assert (header.tenant, header.stream, header.boot) == ("demo", b"stream01", b"boot0001")
    assert (header.seq, header.epoch_kid, header.schema_id) == (1, b"epoch001", 1)
    assert open_sealed(vectors["sealed"], vectors["epoch_private"]) == vectors["block"]
    assert chain_hash(vectors["sealed"]) == vectors["chain_hash"]


def test_the_rows_vector_is_what_the_program_writes(vectors: dict[str, bytes]) -> None:
    assert encode_rows(PROFILE_SCHEMA, ROSTER, ROWS) == vectors["rows"]
    block = decode_rows(vectors["rows"])
    read = zip(block.end_utc_s, block.meter, zip(*block.columns, strict=True), strict=True)
    assert [(end, meter, list(values)) for end, meter, values in read] == ROWS


def test_the_log_vector_is_what_the_program_writes(vectors: dict[str, bytes]) -> None:
    entries = (Entry(1793578500, "start", "version=0.1.0"), Entry(1793578560, "stop", ""))
    piece = Piece(b"chain001", 1, NO_PREV, entries)
    assert encode_log(piece) == vectors["log"]
    assert decode_log(vectors["log"]).head == vectors["log_head"]


def test_the_hybrid_vector_follows_in_its_stream_and_opens(vectors: dict[str, bytes]) -> None:
    public = suite(MLKEM768_X25519).public_of(vectors["epoch_private"])
    assert hashlib.sha256(public).digest() == vectors["hybrid_public_hash"]
    header = verify(vectors["sealed_hybrid"], vectors["device_public"])
    assert (header.seq, header.suite, header.epoch_kid) == (2, MLKEM768_X25519, b"epoch002")
    assert header.prev == vectors["chain_hash"]
    assert open_sealed(vectors["sealed_hybrid"], vectors["epoch_private"]) == vectors["block"]


def test_the_p256_vector_verifies_and_opens_to_the_rows(vectors: dict[str, bytes]) -> None:
    signer = P256Signer(b"\1" * 32)
    assert (signer.public, signer.kid) == (vectors["p256_public"], vectors["p256_kid"])
    header = verify(vectors["sealed_p256"], vectors["p256_public"], ESP256)
    assert (header.content, header.stream, header.schema_id) == (CBOR_ROWS, b"stream02", 1)
    assert open_sealed(vectors["sealed_p256"], vectors["epoch_private"]) == vectors["rows"]


def test_every_channel_of_every_schema_is_told() -> None:
    row = r"^\| (\d+) \| (\d+) \| `(\w+)` \| (\w+) \| (\S+) \| (\S+) \|$"
    told = re.findall(row, DOCUMENT.read_text(), re.M)
    assert told == [
        (str(schema.id), str(at), c.name, c.kind, c.unit or "-", f"{c.scale:g}")
        for schema in SCHEMAS.values()
        for at, c in enumerate(schema.channels)
    ]


def test_every_suite_is_told_with_the_length_of_its_public_key() -> None:
    told = re.findall(r"^\| (\d+) \| [^|]+ \| (\d+) \| \d+ \|$", DOCUMENT.read_text(), re.M)
    assert told == [(str(one.number), str(one.public_bytes)) for one in SUITES.values()]


def test_the_receipt_vector_counts_under_the_keyset_vector(vectors: dict[str, bytes]) -> None:
    keyset = verify_keyset(
        vectors["keyset"], vectors["root_public"], tenant="demo", lowest_version=3
    )
    receipt = verify_receipt(vectors["receipt"], keyset)
    assert (receipt.device, receipt.upto, receipt.nacks) == ("t07", 1, (Nack(2, GAP),))
    assert receipt.hash_at_upto == vectors["chain_hash"]


def test_every_flag_is_explained_under_its_bit() -> None:
    table = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \| .+ \|$", DOCUMENT.read_text(), re.M)
    assert table == [(str(flag.bit_length() - 1), flag.name) for flag in Quality]
