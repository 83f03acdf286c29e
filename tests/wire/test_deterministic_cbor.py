"""CBOR: published examples, one encoding per value, everything else refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor

# RFC 8949, appendix A.
EXAMPLES: list[tuple[cbor.Value, str]] = [
    (0, "00"), (23, "17"), (24, "1818"), (100, "1864"), (1000, "1903e8"), (1000000, "1a000f4240"),
    (18446744073709551615, "1bffffffffffffffff"), (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"), (-100, "3863"), (-1000, "3903e7"), (b"", "40"), (b"\1\2\3\4", "4401020304"),
    ("", "60"), ("IETF", "6449455446"), ("ü", "62c3bc"), ([], "80"), ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"), ({}, "a0"), ({1: 2, 3: 4}, "a201020304"),
]  # fmt: skip

VALUES = st.recursive(
    st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.binary(max_size=40), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.integers(-100_000, 100_000), inner, max_size=5),
    ),
    max_leaves=15,
)


@pytest.mark.parametrize(("value", "encoded"), EXAMPLES)
def test_examples_of_rfc_8949_encode_and_decode(value: cbor.Value, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    assert cbor.decode(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(
    "encoded",
    [
        "1817",  # 23 in two bytes
        "190018",  # 24 in three
        "9fff", "5f4100ff", "bf01020304ff",  # indefinite lengths
        "a203040102",  # keys not in order
        "a201020103",  # a key twice
        "a1616101",  # a text key
        "f4", "f6", "f90000", "fb3ff0000000000000",  # simple values and floats
        "c074323031332d30332d3231543230",  # another tag
        "61ff",  # no UTF-8
        "0000",  # something behind the value
        "", "18", "4401", "8301",  # ends too early
        "9b00ffffffffffffff", "5bffffffffffffffff",  # lengths that cannot be
        "81" * 40 + "00",  # too deep
    ],
)  # fmt: skip
def test_what_the_encoder_would_not_write_is_refused(encoded: str) -> None:
    with pytest.raises(cbor.CborError):
        cbor.decode(bytes.fromhex(encoded))


@given(VALUES)
def test_a_value_comes_back(value: cbor.Value) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_accepted_bytes_are_exactly_what_the_encoder_writes(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except cbor.CborError:
        return
    assert cbor.encode(value) == data
