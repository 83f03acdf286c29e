"""Checksums against published check values, and each kernel against its twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext import checksum, checksum_pure

# Check values of the catalogue of parametrised CRC algorithms (reveng), and RFC 3720, B.4.
CHECKS = [("crc16_modbus", 0x4B37), ("fcs16", 0x906E), ("crc32c", 0xE3069283)]


@pytest.mark.parametrize("module", [checksum, checksum_pure])
@pytest.mark.parametrize(("name", "value"), CHECKS)
def test_a_checksum_has_its_published_check_value(module: object, name: str, value: int) -> None:
    assert getattr(module, name)(b"123456789") == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_gives_the_examples_of_rfc_3720(data: bytes, value: int) -> None:
    assert checksum.crc32c(data) == value


@given(st.binary(max_size=400))
def test_the_kernel_and_its_twin_give_the_same_checksums(data: bytes) -> None:
    for name, _ in CHECKS:
        assert getattr(checksum, name)(data) == getattr(checksum_pure, name)(data)


@given(st.binary(max_size=60))
def test_a_modbus_frame_with_its_checksum_behind_it_leaves_zero(data: bytes) -> None:
    crc = checksum.crc16_modbus(data)
    assert checksum.crc16_modbus(data + crc.to_bytes(2, "little")) == 0
