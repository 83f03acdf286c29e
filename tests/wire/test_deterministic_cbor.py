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


@st.composite
def loosely(draw: st.DrawFn, depth: int = 0) -> tuple[bytes, bool]:
    """Well-formed CBOR, and whether each choice in it was the deterministic one."""
    exact = True

    def head(major: int, argument: int) -> bytes:
        nonlocal exact
        shortest = next(size for size in (0, 1, 2, 4, 8) if _fits(argument, size))
        sizes = [size for size in (0, 1, 2, 4, 8) if _fits(argument, size)]
        size = draw(st.sampled_from([shortest] * 12 + sizes))
        exact = exact and size == shortest
        if not size:
            return bytes([major << 5 | argument])
        code = {1: 24, 2: 25, 4: 26, 8: 27}[size]
        return bytes([major << 5 | code]) + argument.to_bytes(size, "big")

    def items(count: int) -> list[bytes]:
        nonlocal exact
        found = []
        for _ in range(count):
            data, is_exact = draw(loosely(depth + 1))
            exact = exact and is_exact
            found.append(data)
        return found

    major = draw(st.sampled_from([0, 1, 2, 3, 4, 5] if depth < 3 else [0, 1, 2, 3]))
    if major < 2:
        return head(major, draw(st.integers(0, (1 << 64) - 1) | st.integers(0, 300))), exact
    if major < 4:
        content = draw(st.binary(max_size=30)) if major == 2 else draw(st.text()).encode()
        if draw(st.integers(0, 19)) == 0:
            chunk = head(major, len(content)) + content
            return bytes([major << 5 | 31]) + chunk + b"\xff", False
        return head(major, len(content)) + content, exact
    count = draw(st.integers(0, 4))
    if major == 4:
        body = b"".join(items(count))
    else:
        keys = [head(0, draw(st.integers(0, 40))) for _ in range(count)]
        ordered = draw(st.sampled_from([sorted(set(keys)), sorted(set(keys)), keys]))
        exact = exact and ordered == sorted(set(ordered))
        count = len(ordered)
        body = b"".join(key + item for key, item in zip(ordered, items(count), strict=True))
    if draw(st.integers(0, 19)) == 0:
        return bytes([major << 5 | 31]) + body + b"\xff", False
    return head(major, count) + body, exact


def _fits(argument: int, size: int) -> bool:
    return argument < 24 if size == 0 else argument < 1 << (8 * size)


@settings(max_examples=300)
@given(loosely())
def test_of_all_encodings_of_a_value_the_deterministic_one_alone_is_taken(
    made: tuple[bytes, bool],
) -> None:
    data, exact = made
    if exact:
        assert cbor.encode(cbor.decode(data)) == data
    else:
        with pytest.raises(cbor.CborError):
            cbor.decode(data)


@pytest.mark.parametrize(
    "value",
    [
        True, {True: 1}, {"key": 1}, {b"key": 1}, 1 << 64, -(1 << 64) - 1, 1.5, None, "\ud800",
        [0] * 4097, dict.fromkeys(range(4097), 0), [[[[[[[[[[0]]]]]]]]]],
    ],
)  # fmt: skip
def test_what_could_not_be_read_back_is_not_written(value: cbor.Value) -> None:
    with pytest.raises(cbor.CborError):
        cbor.encode(value)
