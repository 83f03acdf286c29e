"""Checksums in plain Python: the readable twin of the compiled kernel."""

from __future__ import annotations

from typing import Final


def _table(polynomial: int) -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ polynomial if value & 1 else value >> 1
        entries.append(value)
    return tuple(entries)


_MODBUS: Final = _table(0xA001)
_FCS: Final = _table(0x8408)
_CASTAGNOLI: Final = _table(0x82F63B78)


def _run(data: bytes, table: tuple[int, ...], crc: int) -> int:
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def crc16_modbus(data: bytes) -> int:
    """CRC of a Modbus RTU frame (Modbus over serial line 1.02, 6.2.2), sent low byte first."""
    return _run(data, _MODBUS, 0xFFFF)


def fcs16(data: bytes) -> int:
    """Frame check sequence of HDLC (ISO/IEC 13239, 4.2.5; CRC-16/X.25), sent low byte first."""
    return _run(data, _FCS, 0xFFFF) ^ 0xFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 3720, 12.1)."""
    return _run(data, _CASTAGNOLI, 0xFFFFFFFF) ^ 0xFFFFFFFF
