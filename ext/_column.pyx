# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One channel of an interval block as bits; twin of column_pure, which explains the form."""

from cpython cimport array
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

import array

from ext.column_form import ColumnDamaged, ColumnTooLarge

cdef enum:
    ALL_ZERO = 63
    MOST_K = 40
    ESCAPE = 24
    UNSIGNED_TAILS = 4
    ADAPTIVE = 8
    HEAD_DIFFERENCES = 16
    UNSIGNED_HEADS = 32
    SPARSE_HEADS = 64
    ONE_GROUP = 128
    HEAD_FORMS = 3

cdef uint64_t STEADY = <uint64_t>1 << 40


cdef struct Bits:
    uint8_t* data
    size_t size
    size_t at


cdef inline void put(Bits* bits, uint64_t value, int count) noexcept nogil:
    cdef int i
    for i in range(count - 1, -1, -1):
        if (value >> i) & 1:
            bits.data[bits.at >> 3] |= <uint8_t>(0x80 >> (bits.at & 7))
        bits.at += 1


cdef inline void put_rice(Bits* bits, uint64_t value, int k) noexcept nogil:
    cdef uint64_t quotient = value >> k
    cdef int i
    if quotient >= ESCAPE:
        put(bits, (<uint64_t>1 << ESCAPE) - 1, ESCAPE)
        put(bits, value, 64)
        return
    put(bits, ((<uint64_t>1 << quotient) - 1) << 1, <int>quotient + 1)
    put(bits, value, k)


cdef inline uint64_t rice_cost(uint64_t value, int k) noexcept nogil:
    cdef uint64_t quotient = value >> k
    return ESCAPE + 64 if quotient >= ESCAPE else quotient + 1 + k


cdef inline uint64_t zigzag(int64_t value) noexcept nogil:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef inline int64_t unzigzag(uint64_t value) noexcept nogil:
    return <int64_t>((value >> 1) ^ (0 - (value & 1)))


cdef int best_k(const uint64_t* values, size_t count) noexcept nogil:
    cdef uint64_t total = 0, cost, lowest = 0
    cdef size_t i
    cdef int k, guess = 0, best = ALL_ZERO
    cdef bint zero = True
    for i in range(count):
        if values[i]:
            zero = False
        total += values[i] if values[i] < STEADY else STEADY
    if zero:
        return ALL_ZERO
    total //= count
    while guess < MOST_K and (total >> (guess + 1)):
        guess += 1
    for k in range(guess - 1 if guess else 0, guess + 2 if guess < MOST_K else MOST_K + 1):
        cost = 0
        for i in range(count):
            cost += rice_cost(values[i], k)
        if best == ALL_ZERO or cost < lowest:
            best, lowest = k, cost
    return best


cdef inline int adaptive_k(uint64_t total, uint64_t count) noexcept nogil:
    cdef int k = 0
    while k < MOST_K and (count << k) < total:
        k += 1
    return k


cdef uint64_t run_bits(const uint64_t* values, size_t count, int k, bint adaptive,
                       Bits* bits) noexcept nogil:
    """Cost of a run's tail; written too where `bits` is given."""
    cdef uint64_t cost = 6, total = <uint64_t>1 << (k if k < MOST_K else MOST_K), seen = 1
    cdef size_t i
    if bits:
        put(bits, k, 6)
    if k == ALL_ZERO:
        return cost
    for i in range(count):
        if adaptive:
            k = adaptive_k(total, seen)
            total += values[i] if values[i] < STEADY else STEADY
            seen += 1
            if seen == 32:
                total >>= 1
                seen = 16
        cost += rice_cost(values[i], k)
        if bits:
            put_rice(bits, values[i], k)
    return cost


cdef bint map_tails(const int64_t* values, const int32_t* lengths, size_t runs, int order,
                    uint64_t* out) noexcept nogil:
    """Residuals of all tails; returns whether none is negative (then they are not zigzagged)."""
    cdef size_t run, i, at = 0, written = 0
    cdef bint unsigned = True
    cdef uint64_t residual
    for run in range(runs):
        for i in range(1, lengths[run]):
            residual = <uint64_t>values[at + i]
            if order == 1 or (order == 2 and i == 1):
                residual -= <uint64_t>values[at + i - 1]
            elif order == 2:
                residual -= 2 * <uint64_t>values[at + i - 1] - <uint64_t>values[at + i - 2]
            if <int64_t>residual < 0:
                unsigned = False
            out[written] = residual
            written += 1
        at += lengths[run]
    if not unsigned:
        for i in range(written):
            out[i] = zigzag(<int64_t>out[i])
    return unsigned


cdef uint64_t tails_bits(const uint64_t* mapped, const int32_t* lengths, size_t runs,
                         int mode, Bits* bits) noexcept nogil:
    cdef uint64_t cost = 0
    cdef size_t run, at = 0
    cdef bint adaptive = (mode & ADAPTIVE) != 0
    if mode & ONE_GROUP:
        for run in range(runs):
            at += lengths[run] - 1
        return run_bits(mapped, at, best_k(mapped, at), adaptive, bits)
    for run in range(runs):
        if lengths[run] > 1:
            cost += run_bits(mapped + at, lengths[run] - 1,
                             best_k(mapped + at, lengths[run] - 1), adaptive, bits)
            at += lengths[run] - 1
    return cost


cdef size_t map_heads(const int64_t* values, const int32_t* lengths, size_t runs, int form,
                      uint64_t* out, bint* unsigned) noexcept nogil:
    """Residuals of the heads that are written in `form`; returns how many there are."""
    cdef size_t run, at = 0, written = 0
    cdef uint64_t before = 0
    unsigned[0] = True
    for run in range(runs):
        if form != SPARSE_HEADS or values[at]:
            out[written] = <uint64_t>values[at] - (before if form == HEAD_DIFFERENCES else 0)
            if <int64_t>out[written] < 0:
                unsigned[0] = False
            written += 1
        before = <uint64_t>values[at]
        at += lengths[run]
    if not unsigned[0]:
        for run in range(written):
            out[run] = zigzag(<int64_t>out[run])
    return written


cdef int head_form(int i) noexcept nogil:
    return 0 if i == 0 else HEAD_DIFFERENCES if i == 1 else SPARSE_HEADS


def encode(values, lengths):
    cdef const int64_t[::1] v = values
    cdef const int32_t[::1] n = lengths
    cdef size_t runs = n.shape[0], total = 0, run
    for run in range(runs):
        if n[run] < 1:
            raise ColumnTooLarge(f"run {run} has {n[run]} values, expected at least 1")
        total += n[run]
    if total != <size_t>v.shape[0]:
        raise ColumnTooLarge(f"runs of {total} values in all, {v.shape[0]} values given")
    if total == 0:
        return b"\x00"
    cdef size_t room = total * 11 + runs + 16
    cdef uint64_t* mapped = <uint64_t*>malloc(total * sizeof(uint64_t))
    cdef uint8_t* buffer = <uint8_t*>calloc(room, 1)
    cdef Bits bits
    try:
        if not mapped or not buffer:
            raise MemoryError
        bits.data, bits.size, bits.at = buffer, room, 8
        with nogil:
            write(&v[0], &n[0], runs, mapped, &bits)
        return bytes(buffer[:(bits.at + 7) >> 3])
    finally:
        free(mapped)
        free(buffer)


cdef void write(const int64_t* v, const int32_t* n, size_t runs, uint64_t* mapped,
                Bits* bits) noexcept nogil:
    cdef uint64_t cost, lowest = 0
    cdef size_t run, at = 0, count
    cdef int order, mode = 0, best = -1, form, i
    cdef bint unsigned
    cdef int flags
    for i in range(HEAD_FORMS):
        form = head_form(i)
        count = map_heads(v, n, runs, form, mapped, &unsigned)
        cost = run_bits(mapped, count, best_k(mapped, count), False, NULL)
        if form == SPARSE_HEADS:
            cost += runs
        if best < 0 or cost < lowest:
            lowest = cost
            best = form | (UNSIGNED_HEADS if unsigned else 0)
    mode = best
    form = mode & (HEAD_DIFFERENCES | SPARSE_HEADS)
    if form == SPARSE_HEADS:
        for run in range(runs):
            put(bits, v[at] != 0, 1)
            at += n[run]
    count = map_heads(v, n, runs, form, mapped, &unsigned)
    run_bits(mapped, count, best_k(mapped, count), False, bits)
    best = -1
    for order in range(3):
        unsigned = map_tails(v, n, runs, order, mapped)
        for i in range(4):
            flags = (ADAPTIVE if i & 1 else 0) | (ONE_GROUP if i & 2 else 0)
            cost = tails_bits(mapped, n, runs, flags, NULL)
            if best < 0 or cost < lowest:
                lowest = cost
                best = order | flags | (UNSIGNED_TAILS if unsigned else 0)
    mode |= best
    map_tails(v, n, runs, best & 3, mapped)
    tails_bits(mapped, n, runs, best, bits)
    bits.data[0] = <uint8_t>mode


cdef inline bint take(Bits* bits, int count, uint64_t* out) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    if bits.at + count > bits.size:
        return False
    for i in range(count):
        value = (value << 1) | ((bits.data[bits.at >> 3] >> (7 - (bits.at & 7))) & 1)
        bits.at += 1
    out[0] = value
    return True


cdef inline bint take_rice(Bits* bits, int k, uint64_t* out) noexcept nogil:
    cdef uint64_t quotient = 0, low
    while quotient < ESCAPE:
        if bits.at >= bits.size:
            return False
        bits.at += 1
        if not (bits.data[(bits.at - 1) >> 3] >> (7 - ((bits.at - 1) & 7))) & 1:
            break
        quotient += 1
    if quotient == ESCAPE:
        return take(bits, 64, out)
    if not take(bits, k, &low):
        return False
    out[0] = (quotient << k) | low
    return True


cdef bint take_run(Bits* bits, size_t count, bint adaptive, uint64_t* out) noexcept nogil:
    cdef uint64_t stored, total, seen = 1
    cdef size_t i
    cdef int k
    if not take(bits, 6, &stored):
        return False
    if stored == ALL_ZERO:
        for i in range(count):
            out[i] = 0
        return True
    if stored > MOST_K:
        return False
    k = <int>stored
    total = <uint64_t>1 << k
    for i in range(count):
        if adaptive:
            k = adaptive_k(total, seen)
        if not take_rice(bits, k, out + i):
            return False
        if adaptive:
            total += out[i] if out[i] < STEADY else STEADY
            seen += 1
            if seen == 32:
                total >>= 1
                seen = 16
    return True


def decode(data, Py_ssize_t offset, lengths):
    cdef const uint8_t[::1] d = data
    cdef const int32_t[::1] n = lengths
    cdef size_t runs = n.shape[0], total = 0, run
    for run in range(runs):
        if n[run] < 1:
            raise ColumnTooLarge(f"run {run} has {n[run]} values, expected at least 1")
        total += n[run]
    if offset < 0 or offset >= d.shape[0]:
        raise ColumnDamaged("the data end where a column was expected")
    cdef int mode = d[offset]
    if (mode & 3) == 3 or (mode & 80) == 80:
        raise ColumnDamaged(f"column mode {mode} is not used")
    cdef array.array values = array.clone(array.array("q"), total, zero=False)
    if total == 0:
        if mode:
            raise ColumnDamaged(f"column mode {mode} for an empty column, expected 0")
        return values, offset + 1
    cdef uint64_t* scratch = <uint64_t*>malloc(total * sizeof(uint64_t))
    cdef Bits bits
    cdef bint well
    bits.data = <uint8_t*>&d[0]
    bits.size = <size_t>d.shape[0] * 8
    bits.at = <size_t>offset * 8 + 8
    if not scratch:
        raise MemoryError
    try:
        with nogil:
            well = read(&bits, &n[0], runs, mode, scratch, <uint64_t*>values.data.as_longlongs)
    finally:
        free(scratch)
    if not well:
        raise ColumnDamaged("the column's bits end too early or name an impossible parameter")
    while bits.at & 7:
        if (bits.data[bits.at >> 3] >> (7 - (bits.at & 7))) & 1:
            raise ColumnDamaged("the bits that fill the column's last byte are not zero")
        bits.at += 1
    return values, <Py_ssize_t>(bits.at >> 3)


cdef bint read(Bits* bits, const int32_t* n, size_t runs, int mode, uint64_t* scratch,
               uint64_t* out) noexcept nogil:
    cdef size_t run, i, at = 0
    cdef uint64_t before = 0
    cdef int order = mode & 3
    cdef size_t count = runs, written = 0
    cdef uint64_t there = 1
    cdef size_t presence = bits.at
    if mode & SPARSE_HEADS:
        count = 0
        for run in range(runs):
            if not take(bits, 1, &there):
                return False
            count += there
    if not take_run(bits, count, False, scratch):
        return False
    for run in range(runs):
        if mode & SPARSE_HEADS:
            there = (bits.data[(presence + run) >> 3] >> (7 - ((presence + run) & 7))) & 1
        if there:
            before = (before if mode & HEAD_DIFFERENCES else 0) + (
                scratch[written] if mode & UNSIGNED_HEADS
                else <uint64_t>unzigzag(scratch[written])
            )
            written += 1
        out[at] = before if there else 0
        at += n[run]
    if mode & ONE_GROUP:
        count = 0
        for run in range(runs):
            count += n[run] - 1
        if not take_run(bits, count, (mode & ADAPTIVE) != 0, scratch):
            return False
    at = 0
    written = 0
    for run in range(runs):
        if n[run] > 1:
            if mode & ONE_GROUP:
                for i in range(at + 1, at + n[run]):
                    out[i] = scratch[written]
                    written += 1
            elif not take_run(bits, n[run] - 1, (mode & ADAPTIVE) != 0, out + at + 1):
                return False
            for i in range(at + 1, at + n[run]):
                if not mode & UNSIGNED_TAILS:
                    out[i] = <uint64_t>unzigzag(out[i])
                if order == 1 or (order == 2 and i == at + 1):
                    out[i] += out[i - 1]
                elif order == 2:
                    out[i] += 2 * out[i - 1] - out[i - 2]
        at += n[run]
    return True
