# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The column codec, compiled; twin of column_pure, which explains it."""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import array

from ext.column_damaged import ColumnDamaged

cdef enum:
    MOST_ONES = 20
    MOST_K = 40
    MOST_TAIL_K = 32
    WINDOW = 16
    SIGNED = 4
    QUIET = 8
    DELTA = 1
    SPARSE = 2

cdef uint64_t CAP = <uint64_t>1 << 32


# --- numbers

cdef inline uint64_t fold(int64_t residual, int signed_form) noexcept nogil:
    cdef uint64_t bits = <uint64_t>residual
    if not signed_form:
        return bits
    return (bits << 1) ^ (<uint64_t>0 - (bits >> 63))


cdef inline uint64_t unfold(uint64_t u, int signed_form) noexcept nogil:
    if not signed_form:
        return u
    return (u >> 1) ^ (<uint64_t>0 - (u & 1))


cdef inline int bit_length(uint64_t u) noexcept nogil:
    cdef int size = 0
    while u:
        size += 1
        u >>= 1
    return size


cdef inline uint64_t cost_of(uint64_t u, int k) noexcept nogil:
    cdef uint64_t ones = u >> k
    return ones + 1 + k if ones < MOST_ONES else <uint64_t>(MOST_ONES + 6 + bit_length(u))


cdef struct Mean:
    uint64_t total
    uint64_t count


cdef inline void mean_start(Mean* mean, int k) noexcept nogil:
    mean.total = (<uint64_t>3 << k) >> 1
    mean.count = 1


cdef inline int mean_k(Mean* mean) noexcept nogil:
    cdef int k = 0
    while (mean.count << k) * 3 < mean.total * 2:
        k += 1
    return k


cdef inline void mean_add(Mean* mean, uint64_t u) noexcept nogil:
    mean.total += u if u < CAP else CAP
    mean.count += 1
    if mean.count == WINDOW:
        mean.total >>= 1
        mean.count >>= 1


# --- bits

cdef class Writer:
    cdef uint8_t* room
    cdef Py_ssize_t size
    cdef uint64_t bit

    def __cinit__(self, Py_ssize_t size):
        self.room = <uint8_t*>malloc(size if size else 1)
        if self.room == NULL:
            raise MemoryError()
        memset(self.room, 0, size if size else 1)
        self.size = size
        self.bit = 0

    def __dealloc__(self):
        free(self.room)

    cdef void put(self, uint64_t value, int count) noexcept nogil:
        # The room was sized from the summed costs before, so no test for space is needed.
        cdef int free_bits, part
        while count > 0:
            free_bits = 8 - <int>(self.bit & 7)
            part = count if count < free_bits else free_bits
            self.room[self.bit >> 3] |= <uint8_t>(
                ((value >> (count - part)) & ((1 << part) - 1)) << (free_bits - part)
            )
            self.bit += part
            count -= part

    cdef void rice(self, uint64_t u, int k) noexcept nogil:
        cdef uint64_t ones = u >> k
        cdef int size
        if ones < MOST_ONES:
            self.put(((<uint64_t>1 << ones) - 1) << 1, <int>ones + 1)
            self.put(u, k)
        else:
            size = bit_length(u)
            self.put((<uint64_t>1 << MOST_ONES) - 1, MOST_ONES)
            self.put(size - 1, 6)
            self.put(u, size)

    cdef bytes close(self):
        return PyBytes_FromStringAndSize(<char*>self.room, (self.bit + 7) >> 3)


cdef class Reader:
    cdef const uint8_t* data
    cdef uint64_t bit
    cdef uint64_t bits

    cdef int take(self, int count, uint64_t* value) except -1 nogil:
        cdef uint64_t found = 0
        cdef int left, part
        if self.bits - self.bit < <uint64_t>count:
            with gil:
                raise ColumnDamaged(f"data end at byte {self.bits >> 3} inside a column")
        while count > 0:
            left = 8 - <int>(self.bit & 7)
            part = count if count < left else left
            found = (found << part) | (
                (self.data[self.bit >> 3] >> (left - part)) & ((1 << part) - 1)
            )
            self.bit += part
            count -= part
        value[0] = found
        return 0

    cdef int rice(self, int k, uint64_t* value) except -1 nogil:
        cdef uint64_t ones = 0
        cdef uint64_t bit = 0
        while ones < MOST_ONES:
            self.take(1, &bit)
            if not bit:
                break
            ones += 1
        if ones == MOST_ONES:
            self.take(6, &bit)
            self.take(<int>bit + 1, value)
        else:
            self.take(k, &bit)
            value[0] = (ones << k) | bit
        return 0


# --- encoding

cdef Py_ssize_t sum_lengths(const int[::1] lengths) except -1:
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t i
    for i in range(lengths.shape[0]):
        if lengths[i] < 1:
            raise ValueError(f"a run of {lengths[i]} values, expected at least 1")
        total += lengths[i]
    return total


cdef struct Form:
    int form
    int k
    uint64_t cost


cdef inline uint64_t residual_of(
    const int64_t* run, Py_ssize_t at, int order
) noexcept nogil:
    cdef uint64_t value = <uint64_t>run[at]
    if order == 0:
        return value
    if order == 1 or at == 1:
        return value - <uint64_t>run[at - 1]
    return value - 2 * <uint64_t>run[at - 1] + <uint64_t>run[at - 2]


cdef Form head_form(const int64_t[::1] values, const int[::1] lengths, uint64_t[::1] room):
    cdef Form best
    cdef Py_ssize_t i, at, runs = lengths.shape[0]
    cdef uint64_t before, cost
    cdef int delta, sparse, k, signed_form, loud
    best.form = -1
    best.k = 0
    best.cost = 0
    for delta in range(2):
        before = 0
        at = 0
        signed_form = 0
        loud = 0
        for i in range(runs):
            room[i] = <uint64_t>values[at] - before
            if <int64_t>room[i] < 0:
                signed_form = SIGNED
            if room[i]:
                loud = 1
            if delta:
                before = <uint64_t>values[at]
            at += lengths[i]
        if not loud:
            best.form = delta | QUIET
            best.cost = 0
            return best
        for i in range(runs):
            room[i] = fold(<int64_t>room[i], signed_form)
        for sparse in range(0, 3, 2):
            for k in range(MOST_K + 1):
                cost = runs if sparse else 0
                for i in range(runs):
                    if not sparse:
                        cost += cost_of(room[i], k)
                    elif room[i]:
                        cost += cost_of(room[i] - 1, k)
                if best.form < 0 or cost < best.cost:
                    best.form = delta | sparse | signed_form
                    best.k = k
                    best.cost = cost
    return best


cdef void write_heads(
    Writer bits, const int64_t[::1] values, const int[::1] lengths, Form best
) noexcept:
    cdef Py_ssize_t i, at = 0
    cdef uint64_t before = 0
    cdef uint64_t u
    bits.put(best.form, 8)
    if best.form & QUIET:
        return
    bits.put(best.k, 8)
    for i in range(lengths.shape[0]):
        u = fold(<int64_t>(<uint64_t>values[at] - before), best.form & SIGNED)
        if best.form & SPARSE:
            bits.put(1 if u else 0, 1)
            if u:
                bits.rice(u - 1, best.k)
        else:
            bits.rice(u, best.k)
        if best.form & DELTA:
            before = <uint64_t>values[at]
        at += lengths[i]


cdef bint is_quiet(const int64_t* run, Py_ssize_t length, int order) noexcept nogil:
    cdef Py_ssize_t at
    for at in range(1, length):
        if residual_of(run, at, order):
            return True ^ 1
    return True


cdef Form tail_form(const int64_t[::1] values, const int[::1] lengths):
    cdef Form best
    cdef Mean mean
    cdef uint64_t[MOST_TAIL_K + 1] costs
    cdef Py_ssize_t i, at, first
    cdef uint64_t cost, u, quiet_bits
    cdef int order, k, signed_form, loud
    best.form = -1
    best.k = 0
    best.cost = 0
    for order in range(3):
        signed_form = 0
        loud = 0
        first = 0
        for i in range(lengths.shape[0]):
            for at in range(1, lengths[i]):
                u = residual_of(&values[first], at, order)
                if u:
                    loud = 1
                if <int64_t>u < 0:
                    signed_form = SIGNED
                    break
            first += lengths[i]
        if not loud:
            best.form = order | QUIET
            best.cost = 0
            return best
        for k in range(MOST_TAIL_K + 1):
            costs[k] = 0
        first = 0
        quiet_bits = 0
        for i in range(lengths.shape[0]):
            if lengths[i] > 1:
                quiet_bits += 1
                if not is_quiet(&values[first], lengths[i], order):
                    u = fold(<int64_t>residual_of(&values[first], 1, order), signed_form)
                    for k in range(MOST_TAIL_K + 1):
                        costs[k] += cost_of(u, k)
            first += lengths[i]
        k = 0
        for i in range(1, MOST_TAIL_K + 1):
            if costs[i] < costs[k]:
                k = <int>i
        cost = quiet_bits
        first = 0
        for i in range(lengths.shape[0]):
            if lengths[i] > 1 and not is_quiet(&values[first], lengths[i], order):
                mean_start(&mean, k)
                for at in range(1, lengths[i]):
                    u = fold(<int64_t>residual_of(&values[first], at, order), signed_form)
                    cost += cost_of(u, mean_k(&mean))
                    mean_add(&mean, u)
            first += lengths[i]
        if best.form < 0 or cost < best.cost:
            best.form = order | signed_form
            best.k = k
            best.cost = cost
    return best


cdef void write_tails(
    Writer bits, const int64_t[::1] values, const int[::1] lengths, Form best
) noexcept:
    cdef Mean mean
    cdef Py_ssize_t i, at, first = 0
    cdef int order = best.form & 3
    cdef uint64_t u
    bits.put(best.form, 8)
    if best.form & QUIET:
        return
    bits.put(best.k, 8)
    for i in range(lengths.shape[0]):
        if lengths[i] > 1:
            if is_quiet(&values[first], lengths[i], order):
                bits.put(0, 1)
            else:
                bits.put(1, 1)
                mean_start(&mean, best.k)
                for at in range(1, lengths[i]):
                    u = fold(
                        <int64_t>residual_of(&values[first], at, order), best.form & SIGNED
                    )
                    bits.rice(u, mean_k(&mean))
                    mean_add(&mean, u)
        first += lengths[i]


def encode(const int64_t[::1] values not None, const int[::1] lengths not None):
    cdef Py_ssize_t total = sum_lengths(lengths)
    cdef Form heads, tails
    cdef uint64_t bit_count = 0
    if total != values.shape[0]:
        raise ValueError(f"lengths sum to {total}, there are {values.shape[0]} values")
    if total == 0:
        return b""
    room = array.array("Q", bytes(8 * lengths.shape[0]))
    heads = head_form(values, lengths, room)
    bit_count = 16 + heads.cost
    if total > lengths.shape[0]:
        tails = tail_form(values, lengths)
        bit_count += 16 + tails.cost
    bits = Writer((bit_count + 7) // 8)
    write_heads(bits, values, lengths, heads)
    if total > lengths.shape[0]:
        write_tails(bits, values, lengths, tails)
    return bits.close()


# --- decoding

cdef int read_heads(Reader bits, int64_t* values, const int[::1] lengths) except -1:
    cdef uint64_t form = 0
    cdef uint64_t k = 0
    cdef uint64_t u, before = 0
    cdef Py_ssize_t i, at = 0
    bits.take(8, &form)
    if form > 15 or (form & QUIET and form & ~<uint64_t>(QUIET | DELTA)):
        raise ColumnDamaged(f"head form {form} is not known")
    if not form & QUIET:
        bits.take(8, &k)
    if k > MOST_K:
        raise ColumnDamaged(f"head parameter {k}, expected at most {MOST_K}")
    for i in range(lengths.shape[0]):
        u = 0
        if form & SPARSE:
            bits.take(1, &u)
            if u:
                bits.rice(<int>k, &u)
                u += 1
        elif not form & QUIET:
            bits.rice(<int>k, &u)
        u = unfold(u, form & SIGNED)
        if form & DELTA:
            u += before
            before = u
        values[at] = <int64_t>u
        at += lengths[i]
    return 0


cdef int read_tails(Reader bits, int64_t* values, const int[::1] lengths) except -1:
    cdef Mean mean
    cdef uint64_t form = 0
    cdef uint64_t k = 0
    cdef uint64_t u, value, before, slope, loud
    cdef Py_ssize_t i, at, first = 0
    cdef int order, signed_form
    bits.take(8, &form)
    order = form & 3
    signed_form = form & SIGNED
    if order == 3 or form > 15 or (form & QUIET and signed_form):
        raise ColumnDamaged(f"tail form {form} is not known")
    if not form & QUIET:
        bits.take(8, &k)
    if k > MOST_TAIL_K:
        raise ColumnDamaged(f"tail parameter {k}, expected at most {MOST_TAIL_K}")
    for i in range(lengths.shape[0]):
        if lengths[i] > 1:
            loud = 0
            if not form & QUIET:
                bits.take(1, &loud)
            mean_start(&mean, <int>k)
            before = <uint64_t>values[first]
            slope = 0
            for at in range(first + 1, first + lengths[i]):
                u = 0
                if loud:
                    bits.rice(mean_k(&mean), &u)
                    mean_add(&mean, u)
                value = unfold(u, signed_form)
                if order == 1:
                    value += before
                elif order == 2:
                    value += before + slope
                slope = value - before
                before = value
                values[at] = <int64_t>value
        first += lengths[i]
    return 0


def decode(const uint8_t[::1] data not None, Py_ssize_t offset, const int[::1] lengths not None):
    cdef Py_ssize_t total = sum_lengths(lengths)
    cdef array.array values
    cdef uint64_t rest = 0
    if not 0 <= offset <= data.shape[0]:
        raise ColumnDamaged(f"offset {offset} is not within {data.shape[0]} bytes")
    values = array.clone(array.array("q"), total, True)
    if total == 0:
        return values, offset
    bits = Reader()
    bits.data = &data[0] if data.shape[0] else NULL
    bits.bit = 8 * <uint64_t>offset
    bits.bits = 8 * <uint64_t>data.shape[0]
    read_heads(bits, <int64_t*>values.data.as_longlongs, lengths)
    if total > lengths.shape[0]:
        read_tails(bits, <int64_t*>values.data.as_longlongs, lengths)
    bits.take((8 - <int>(bits.bit & 7)) & 7, &rest)
    if rest:
        raise ColumnDamaged("the bits that fill the column's last byte are not zero")
    return values, <Py_ssize_t>(bits.bit >> 3)
