# cython: language_level=3, boundscheck=False, wraparound=False
"""Checksums, one table look-up a byte; twin of checksum_pure."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef uint16_t MODBUS[256]
cdef uint16_t FCS[256]
cdef uint32_t CASTAGNOLI[256]


cdef uint32_t _reflected(uint32_t value, uint32_t polynomial) noexcept:
    cdef int bit
    for bit in range(8):
        value = (value >> 1) ^ polynomial if value & 1 else value >> 1
    return value


cdef int _i
for _i in range(256):
    MODBUS[_i] = <uint16_t>_reflected(_i, 0xA001)
    FCS[_i] = <uint16_t>_reflected(_i, 0x8408)
    CASTAGNOLI[_i] = _reflected(_i, 0x82F63B78)


def crc16_modbus(const uint8_t[::1] data not None):
    cdef uint16_t crc = 0xFFFF
    cdef Py_ssize_t i
    for i in range(data.shape[0]):
        crc = (crc >> 8) ^ MODBUS[(crc ^ data[i]) & 0xFF]
    return crc


def fcs16(const uint8_t[::1] data not None):
    cdef uint16_t crc = 0xFFFF
    cdef Py_ssize_t i
    for i in range(data.shape[0]):
        crc = (crc >> 8) ^ FCS[(crc ^ data[i]) & 0xFF]
    return crc ^ 0xFFFF


def crc32c(const uint8_t[::1] data not None):
    cdef uint32_t crc = 0xFFFFFFFF
    cdef Py_ssize_t i
    for i in range(data.shape[0]):
        crc = (crc >> 8) ^ CASTAGNOLI[(crc ^ data[i]) & 0xFF]
    return crc ^ <uint32_t>0xFFFFFFFF
