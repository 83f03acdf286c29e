from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.axdr import AxdrError, Bits
from agent.dlms.constants import Tag, obis, obis_text
from agent.dlms.load_profile.rows import decode_rows

INTEGERS = {
    Tag.I8: (-(2**7), 2**7 - 1),
    Tag.I16: (-(2**15), 2**15 - 1),
    Tag.I32: (-(2**31), 2**31 - 1),
    Tag.I64: (-(2**63), 2**63 - 1),
    Tag.U8: (0, 2**8 - 1),
    Tag.U16: (0, 2**16 - 1),
    Tag.U32: (0, 2**32 - 1),
    Tag.U64: (0, 2**64 - 1),
    Tag.ENUM: (0, 255),
    Tag.BCD: (-(2**7), 2**7 - 1),
}
MOMENTS = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}

Encoded = tuple[bytes, object]


def leaves() -> st.SearchStrategy[Encoded]:
    integers = [
        st.integers(*bounds).map(lambda n, tag=tag: (axdr.number(tag, n), n))
        for tag, bounds in INTEGERS.items()
    ]
    return st.one_of(
        st.just((axdr.NULL, None)),
        st.just((b"\xff", axdr.DONT_CARE)),
        st.booleans().map(lambda b: (axdr.number(Tag.BOOLEAN, b), b)),
        st.binary(max_size=300).map(lambda b: (axdr.octets(b), b)),
        st.text("abc 019-", max_size=20).map(lambda t: (axdr.visible(t), t)),
        st.text("01", max_size=40).map(lambda t: (axdr.bits(t), Bits(t))),
        st.text(max_size=20).map(lambda t: (axdr.utf8(t), t)),
        st.floats(allow_nan=False).map(lambda f: (axdr.number(Tag.F64, f), f)),
        st.floats(allow_nan=False, width=32).map(lambda f: (axdr.number(Tag.F32, f), f)),
        *(
            st.binary(min_size=size, max_size=size).map(lambda b, t=tag: (axdr.moment(t, b), b))
            for tag, size in MOMENTS.items()
        ),
        *integers,
    )


def nested(children: st.SearchStrategy[Encoded]) -> st.SearchStrategy[Encoded]:
    several = st.lists(children, max_size=5)
    return several.map(
        lambda parts: (axdr.array(p for p, _ in parts), [v for _, v in parts])
    ) | several.map(
        lambda parts: (axdr.structure(*(p for p, _ in parts)), tuple(v for _, v in parts))
    )


@given(st.recursive(leaves(), nested, max_leaves=20))
def test_what_is_built_is_what_is_decoded(encoded):
    data, value = encoded
    assert axdr.decode_whole(data) == value


@given(st.recursive(leaves(), nested, max_leaves=20), st.data())
def test_a_shortened_value_is_refused(encoded, draw):
    data, _ = encoded
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(AxdrError):
        axdr.decode_whole(data[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_axdr_error(data):
    with contextlib.suppress(AxdrError):
        axdr.decode(data)
    with contextlib.suppress(AxdrError):
        decode_rows(b"\x01" + data)


def test_deep_nesting_is_refused_before_the_stack_is_full():
    with pytest.raises(AxdrError, match="deeper than 16"):
        axdr.decode(b"\x02\x01" * 100_000)


def test_a_count_that_cannot_fit_is_refused():
    with pytest.raises(AxdrError, match="cannot fit"):
        axdr.decode(b"\x01\x84\xff\xff\xff\xff\x00")


def test_a_compact_array_gives_its_rows():
    # structure of u16 and octet string, two of them
    data = bytes.fromhex("13 02 02 12 09 08 0001 01 aa 0002 01 bb".replace(" ", ""))
    assert axdr.decode_whole(data) == [(1, b"\xaa"), (2, b"\xbb")]


def shapes() -> st.SearchStrategy[tuple[bytes, st.SearchStrategy[Encoded]]]:
    """A type description, and the encodings (without tags) and values of its type."""
    simple = st.sampled_from(
        [
            (bytes([tag]), st.integers(*bounds).map(lambda n, t=tag: (axdr.number(t, n)[1:], n)))
            for tag, bounds in INTEGERS.items()
        ]
        + [(b"\x09", st.binary(max_size=20).map(lambda b: (axdr.octets(b)[1:], b)))]
    )

    def all_of(parts, kind):
        return st.tuples(*parts).map(
            lambda items: (b"".join(raw for raw, _ in items), kind(value for _, value in items))
        )

    def larger(inner):
        arrays = st.tuples(inner, st.integers(1, 3)).map(
            lambda pair: (
                b"\x01" + pair[1].to_bytes(2, "big") + pair[0][0],
                all_of([pair[0][1]] * pair[1], list),
            )
        )
        structures = st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (
                b"\x02" + bytes([len(parts)]) + b"".join(description for description, _ in parts),
                all_of([elements for _, elements in parts], tuple),
            )
        )
        return arrays | structures

    return simple | larger(simple | larger(simple))


@given(shapes(), st.data())
def test_compact_arrays_and_compact_data_of_any_type_give_their_elements(shape, data):
    description, elements = shape
    drawn = data.draw(st.lists(elements, max_size=4))
    raw, values = [part for part, _ in drawn], [value for _, value in drawn]
    assert axdr.decode_whole(axdr.compact_array(description, raw)) == values
    assert axdr.decode_compact(description, b"".join(raw)) == values


def test_a_template_with_something_after_it_is_refused():
    with pytest.raises(AxdrError, match="more follows"):
        axdr.decode_compact(bytes.fromhex("1212"), b"")


def test_a_moment_of_another_length_is_refused():
    with pytest.raises(AxdrError, match="4 bytes do not fit"):
        axdr.moment(Tag.DATE_TIME, bytes(4))


@pytest.mark.parametrize("shape", ["00", "ff", "01ffff00", "0200", "01000011"])
def test_a_compact_array_of_nothing_cannot_grow(shape):
    with pytest.raises(AxdrError, match="without size"):
        axdr.decode(bytes.fromhex("13" + shape + "0400000000"))


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(AxdrError, match="does not fit"):
        axdr.number(Tag.U8, 256)


def test_logical_names_keep_their_dots():
    assert obis("1.0.99.1.0.255") == bytes.fromhex("0100630100ff")
    assert obis_text(bytes.fromhex("0100630100ff")) == "1.0.99.1.0.255"
    with pytest.raises(ValueError, match="six numbers"):
        obis("1.0.256.1.0.255")


@st.composite
def profile_buffers(draw):
    """Rows of a few layouts in any order, as a meter with null compression sends them."""
    cells = st.one_of(
        st.just(axdr.NULL),
        st.binary(min_size=12, max_size=12).map(axdr.octets),
        *(
            st.integers(*bounds).map(lambda n, tag=tag: axdr.number(tag, n))
            for tag, bounds in INTEGERS.items()
        ),
        st.lists(st.integers(0, 255).map(lambda n: axdr.number(Tag.U8, n)), max_size=2).map(
            axdr.array
        ),
    )
    layouts = draw(st.lists(st.lists(cells, min_size=1, max_size=6), min_size=1, max_size=3))
    order = draw(st.lists(st.tuples(st.integers(0, len(layouts) - 1), st.integers(1, 30))))
    return axdr.array(
        axdr.structure(*layouts[which]) for which, times in order for _ in range(times)
    )


@given(profile_buffers())
def test_fast_rows_equal_the_general_decoder(data):
    assert decode_rows(data) == axdr.decode(data)
