# cython: language_level=3, boundscheck=False, wraparound=False
"""The frame search, one pass over the buffer; twin of frame_pure."""

from libc.stdint cimport uint8_t, uint16_t

cdef uint16_t MODBUS[256]

cdef int _i, _bit
cdef uint16_t _value
for _i in range(256):
    _value = <uint16_t>_i
    for _bit in range(8):
        _value = (_value >> 1) ^ 0xA001 if _value & 1 else _value >> 1
    MODBUS[_i] = _value


cdef bint _sound(const uint8_t[::1] buffer, Py_ssize_t at, Py_ssize_t length) noexcept:
    cdef uint16_t crc = 0xFFFF
    cdef Py_ssize_t i
    for i in range(at, at + length):
        crc = (crc >> 8) ^ MODBUS[(crc ^ buffer[i]) & 0xFF]
    return crc == 0


def search(const uint8_t[::1] buffer not None, int unit, int function, int byte_count):
    cdef Py_ssize_t size = buffer.shape[0]
    cdef Py_ssize_t exception = 5
    cdef Py_ssize_t answer = exception + byte_count
    cdef Py_ssize_t missing = answer + 1
    cdef Py_ssize_t begun = answer + 1
    cdef Py_ssize_t at, length
    for at in range(size):
        if buffer[at] != unit:
            continue
        if at + 1 == size:
            begun = min(begun, exception - 1)
            continue
        if buffer[at + 1] == function | 0x80:
            length = exception
        elif buffer[at + 1] != function:
            continue
        elif at + 2 == size:
            begun = min(begun, answer - 2)
            continue
        elif buffer[at + 2] == byte_count:
            length = answer
        else:
            continue
        if at + length > size:
            missing = min(missing, at + length - size)
        elif _sound(buffer, at, length):
            return at, length, 0
    if missing <= answer:
        return -1, 0, missing
    return -1, 0, begun if begun <= answer else exception
