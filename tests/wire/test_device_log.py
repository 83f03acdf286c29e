"""The concentrator's own log on the wire: one encoding, bounded, a chain that shows every cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.log import (
    MOST_ENTRIES,
    NO_PREV,
    Entry,
    LogError,
    Piece,
    cut_detail,
    decode_log,
    encode_log,
    entry_hash,
)

ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, (1 << 32) - 1),
        st.from_regex(r"\A[a-z][a-z0-9_]{0,31}\Z"),
        st.text(max_size=60),
    ),
    min_size=1,
    max_size=6,
)
CHAIN = b"chain001"


@given(ENTRIES, st.integers(2, 1 << 40), st.binary(min_size=16, max_size=16))
def test_a_piece_comes_back_as_it_was_written(
    entries: list[Entry], first: int, prev: bytes
) -> None:
    piece = Piece(CHAIN, first, prev, tuple(entries))
    assert decode_log(encode_log(piece)) == piece


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_are_the_one_encoding(data: bytes) -> None:
    try:
        piece = decode_log(data)
    except LogError:
        return
    assert encode_log(piece) == data


@given(ENTRIES.filter(lambda entries: len(entries) > 1), st.data())
def test_an_entry_cut_out_or_altered_changes_the_head(
    entries: list[Entry], draw: st.DataObject
) -> None:
    piece = Piece(CHAIN, 1, NO_PREV, tuple(entries))
    at = draw.draw(st.integers(0, len(entries) - 1))
    without = (*entries[:at], *entries[at + 1 :])
    altered = (*entries[:at], entries[at]._replace(code="other_word"), *entries[at + 1 :])
    assert replace(piece, entries=without).head != piece.head
    if entries[at].code != "other_word":
        assert replace(piece, entries=altered).head != piece.head


def test_the_head_of_one_piece_is_the_hash_before_the_next() -> None:
    one, two = Entry(1793578500, "start", "version=0.1.0"), Entry(1793578560, "stop", "")
    whole = Piece(CHAIN, 1, NO_PREV, (one, two))
    first = Piece(CHAIN, 1, NO_PREV, (one,))
    assert Piece(CHAIN, 2, first.head, (two,)).head == whole.head
    assert first.head == entry_hash(CHAIN, NO_PREV, 1, one)


@pytest.mark.parametrize(
    "wrong",
    [
        Piece(CHAIN, 1, bytes(15) + b"\1", (Entry(0, "start", ""),)),
        Piece(CHAIN, 0, NO_PREV, (Entry(0, "start", ""),)),
        Piece(b"short", 1, NO_PREV, (Entry(0, "start", ""),)),
        Piece(CHAIN, 1, NO_PREV, ()),
        Piece(CHAIN, 1, NO_PREV, (Entry(0, "Start", ""),)),
        Piece(CHAIN, 1, NO_PREV, (Entry(-1, "start", ""),)),
        Piece(CHAIN, 1, NO_PREV, (Entry(0, "start", "x" * 1025),)),
        Piece(CHAIN, 1, NO_PREV, (Entry(0, "start", ""),) * (MOST_ENTRIES + 1)),
    ],
)
def test_what_no_log_holds_is_refused(wrong: Piece) -> None:
    with pytest.raises(LogError):
        encode_log(wrong)


def test_a_long_detail_is_cut_to_what_fits() -> None:
    assert len(cut_detail("ä" * 2000).encode()) == 1024
