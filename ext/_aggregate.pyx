# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Closing intervals; twin of aggregate_pure, which explains the rules."""

from libc.stdint cimport int64_t

from ext.aggregate_form import AggregateError, Closed, SampleNotLater

cdef enum:
    MOST = 16
    INTERPOLATED = 1 << 2
    PARTIAL = 1 << 5
    COUNTER_RESET = 1 << 7
    NO_GAUGES = 1 << 12

cdef int64_t MOST_GAUGE = <int64_t>1 << 40


cdef inline int64_t floor_div(int64_t a, int64_t b) noexcept nogil:
    cdef int64_t q = a // b
    return q - 1 if (a % b != 0 and (a < 0) != (b < 0)) else q


cdef class Aggregator:
    cdef int64_t interval_ms, last_ms, end_ms, weight_ms
    cdef int registers, gauges, samples
    cdef bint known, held_known, partial, fell
    cdef int64_t last[MOST]
    cdef int64_t held[MOST]
    cdef int64_t sums[MOST]
    cdef int64_t minima[MOST]
    cdef int64_t maxima[MOST]

    def __init__(self, int registers, int gauges, int64_t interval_ms=900_000):
        if not (0 <= registers <= MOST and 0 <= gauges <= MOST):
            raise AggregateError(
                f"{registers} registers and {gauges} gauges, expected at most {MOST} each"
            )
        if not 0 < interval_ms <= 86_400_000:
            raise AggregateError(f"interval of {interval_ms} ms, expected at most a day")
        self.registers, self.gauges, self.interval_ms = registers, gauges, interval_ms
        self.known = self.held_known = False
        self.partial = True
        self.begin(0)

    def resume(self, int64_t edge_utc_ms, registers):
        if edge_utc_ms % self.interval_ms or len(registers) != self.registers:
            raise AggregateError(
                f"edge {edge_utc_ms} ms with {len(registers)} registers: expected an edge of "
                f"{self.interval_ms} ms and {self.registers} registers"
            )
        cdef int i
        for i in range(self.registers):
            self.last[i] = registers[i]
        self.last_ms = edge_utc_ms
        self.known, self.held_known, self.partial = True, False, False
        self.begin(edge_utc_ms)

    def push(self, int64_t at_utc_ms, registers, gauges):
        if len(registers) != self.registers or len(gauges) != self.gauges:
            raise AggregateError(
                f"sample of {len(registers)} registers and {len(gauges)} gauges, expected "
                f"{self.registers} and {self.gauges}"
            )
        cdef int64_t r[MOST]
        cdef int64_t g[MOST]
        cdef int i
        for i in range(self.registers):
            r[i] = registers[i]
        for i in range(self.gauges):
            g[i] = gauges[i]
        cdef list closed = []
        self.take(at_utc_ms, r, g, closed)
        return closed

    def push_many(self, at_utc_ms, registers, gauges):
        cdef const int64_t[::1] at = at_utc_ms
        cdef const int64_t[::1] r = registers
        cdef const int64_t[::1] g = gauges
        cdef Py_ssize_t n = at.shape[0], i
        if r.shape[0] != self.registers * n or g.shape[0] != self.gauges * n:
            raise AggregateError(
                f"{n} samples with {r.shape[0]} register and {g.shape[0]} gauge "
                f"values, expected {self.registers} and {self.gauges} a sample"
            )
        cdef list closed = []
        cdef const int64_t* rp = &r[0] if r.shape[0] else NULL
        cdef const int64_t* gp = &g[0] if g.shape[0] else NULL
        for i in range(n):
            self.take(at[i], rp + i * self.registers, gp + i * self.gauges, closed)
        return closed

    cdef int take(self, int64_t at_ms, const int64_t* r, const int64_t* g,
                  list closed) except -1:
        cdef int i
        for i in range(self.gauges):
            if not -MOST_GAUGE < g[i] < MOST_GAUGE:
                raise AggregateError(
                    "a gauge is out of range, expected less than 2^40 either way"
                )
        if not self.known:
            self.begin(at_ms)
        elif at_ms <= self.last_ms:
            raise SampleNotLater(f"sample at {at_ms} ms, the one before was at {self.last_ms} ms")
        elif at_ms >= self.end_ms:
            if at_ms - self.last_ms > self.interval_ms:
                self.miss(at_ms, closed)
            else:
                closed.append(self.close(at_ms, r))
        else:
            self.hold(self.last_ms, at_ms)
            for i in range(self.registers):
                if r[i] < self.last[i]:
                    self.fell = True
        self.known = self.held_known = True
        self.last_ms = at_ms
        for i in range(self.registers):
            self.last[i] = r[i]
        for i in range(self.gauges):
            self.held[i] = g[i]
        if at_ms > self.end_ms - self.interval_ms:
            self.samples += 1
        return 0

    cdef void begin(self, int64_t at_ms) noexcept:
        cdef int i
        self.end_ms = (floor_div(at_ms, self.interval_ms) + 1) * self.interval_ms
        self.weight_ms = 0
        self.samples = 0
        self.fell = False
        for i in range(self.gauges):
            self.sums[i] = self.minima[i] = self.maxima[i] = 0

    cdef void hold(self, int64_t from_ms, int64_t to_ms) noexcept:
        cdef int i
        cdef int64_t gauge
        if not self.held_known or to_ms <= from_ms:
            return
        for i in range(self.gauges):
            gauge = self.held[i]
            self.sums[i] += gauge * (to_ms - from_ms)
            if not self.weight_ms or gauge < self.minima[i]:
                self.minima[i] = gauge
            if not self.weight_ms or gauge > self.maxima[i]:
                self.maxima[i] = gauge
        self.weight_ms += to_ms - from_ms

    cdef void miss(self, int64_t at_ms, list closed):
        cdef int64_t end_ms = self.end_ms
        while end_ms <= at_ms:
            closed.append(Closed(end_ms, True))
            end_ms += self.interval_ms
        self.begin(at_ms)
        self.partial = True

    cdef object close(self, int64_t at_ms, const int64_t* after):
        cdef int64_t since_ms = self.end_ms - self.last_ms, apart_ms = at_ms - self.last_ms
        cdef int64_t change, end_ms = self.end_ms
        cdef int i, flags = PARTIAL if self.partial else 0
        if self.fell:
            flags |= COUNTER_RESET
        cdef list edge = [], raw = []
        for i in range(self.registers):
            change = after[i] - self.last[i]
            if change < 0:
                flags |= COUNTER_RESET
            if at_ms > end_ms:
                raw.append(self.last[i])
                edge.append(
                    after[i] if change < 0 else
                    self.last[i] + change // apart_ms * since_ms
                    + change % apart_ms * since_ms // apart_ms
                )
            else:
                raw.append(after[i])
                edge.append(after[i])
        cdef int samples = self.samples
        if at_ms > end_ms:
            flags |= INTERPOLATED
        else:
            samples += 1
            since_ms = 0
        self.hold(self.last_ms, end_ms)
        if not self.weight_ms:
            flags |= NO_GAUGES
        closed = Closed(
            end_ms, False, flags, tuple(edge), tuple(raw), since_ms,
            tuple([self.mean(self.sums[i]) for i in range(self.gauges)]),
            tuple([self.minima[i] for i in range(self.gauges)]),
            tuple([self.maxima[i] for i in range(self.gauges)]),
            samples,
        )
        self.begin(end_ms)
        self.partial = False
        self.hold(end_ms, at_ms)
        return closed

    cdef int64_t mean(self, int64_t total) noexcept:
        if not self.weight_ms:
            return 0
        cdef int64_t magnitude = total if total >= 0 else -total
        # Quotient and rest apart, so that doubling cannot overflow.
        cdef int64_t quotient = magnitude // self.weight_ms, rest = magnitude % self.weight_ms
        if 2 * rest >= self.weight_ms:
            quotient += 1
        return quotient if total >= 0 else -quotient
