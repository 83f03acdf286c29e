"""Checksums of Modbus frames, HDLC frames and stored rows."""

from __future__ import annotations

from ext._load import kernel

_kernel = kernel("checksum")


def crc16_modbus(data: bytes) -> int:
    """CRC of a Modbus RTU frame (Modbus over serial line 1.02, 6.2.2), sent low byte first."""
    return int(_kernel.crc16_modbus(data))


def fcs16(data: bytes) -> int:
    """Frame check sequence of HDLC (ISO/IEC 13239, 4.2.5; CRC-16/X.25), sent low byte first."""
    return int(_kernel.fcs16(data))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 3720, 12.1)."""
    return int(_kernel.crc32c(data))
