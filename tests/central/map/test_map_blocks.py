"""The block of one layer and day."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from central.map.blocks import MapBlockError, decode_map_block, encode_map_block

SOME_VALUES = np.array([[0.0, 1.25, np.nan], [2.5, 0.01, 3.0]])


@given(
    values=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.one_of(st.floats(0, 1e9), st.just(float("nan"))),
    ),
    resolution=st.sampled_from([0.0005, 0.01, 1.0]),
)
def test_values_come_back_within_half_a_step_and_no_data_stays_no_data(
    values: np.ndarray, resolution: float
) -> None:
    block = decode_map_block(encode_map_block(values, "kW", resolution))

    back = block.values()
    assert block.unit == "kW"
    assert np.array_equal(np.isnan(back), np.isnan(values))
    known = ~np.isnan(values)
    assert np.all(np.abs(back[known] - values[known]) <= block.scale * 0.5001)
    assert block.scale == max(resolution, values[known].max(initial=0) / 65534)


def test_the_header_has_the_published_layout() -> None:
    data = encode_map_block(SOME_VALUES, "MW/km²", 0.01)

    magic, version, bits, cells, steps = struct.unpack_from("<4sHHII", data, 0)
    scale, offset = struct.unpack_from("<dd", data, 16)
    (no_data,) = struct.unpack_from("<H", data, 32)
    assert (magic, version, bits, cells, steps) == (b"LSB1", 1, 16, 3, 2)
    assert (scale, offset, no_data) == (0.01, 0.0, 65535)
    assert data[34:64].rstrip(b"\0").decode() == "MW/km²"
    assert struct.unpack_from("<6H", data, 64) == (0, 125, 65535, 250, 1, 300)
    assert len(data) == 64 + 12


def test_equal_values_give_equal_bytes() -> None:
    again = SOME_VALUES.copy()
    assert encode_map_block(SOME_VALUES, "%", 0.1) == encode_map_block(again, "%", 0.1)


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:40], lambda d: d[:-1], lambda d: b"XXXX" + d[4:], lambda d: d + b"\0"],
)
def test_damaged_bytes_are_refused(damage) -> None:
    with pytest.raises(MapBlockError):
        decode_map_block(damage(encode_map_block(SOME_VALUES, "%", 0.1)))


def test_a_negative_value_is_refused_before_it_wraps_around() -> None:
    with pytest.raises(ValueError, match="expected values >= 0"):
        encode_map_block(np.array([[-1.0]]), "kW", 0.1)
