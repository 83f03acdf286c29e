"""The column codec in plain Python: the readable twin of the compiled kernel.

Heads (first values) share one Rice parameter. Tails are coded with a
parameter that follows the mean of the last residuals, so that night and noon
of one meter, and a household and a workshop, each get their own for no bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from ext.column_damaged import ColumnDamaged

_MASK: Final = (1 << 64) - 1
_MOST_ONES: Final = 20
_MOST_K: Final = 40
_MOST_TAIL_K: Final = 32
_WINDOW: Final = 16
_CAP: Final = 1 << 32

# Descriptor bits.
_SIGNED: Final = 4
_QUIET: Final = 8
_DELTA: Final = 1
_SPARSE: Final = 2


def encode(values: array[int], lengths: array[int]) -> bytes:
    """See ext.column.encode."""
    starts = _starts(lengths)
    if starts[-1] != len(values):
        raise ValueError(f"lengths sum to {starts[-1]}, there are {len(values)} values")
    bits = _Writer()
    if len(lengths):
        _encode_heads(bits, [values[start] for start in starts[:-1]])
    if starts[-1] > len(lengths):
        _encode_tails(bits, values, starts)
    return bits.close()


def decode(data: bytes, offset: int, lengths: array[int]) -> tuple[array[int], int]:
    """See ext.column.decode."""
    starts = _starts(lengths)
    bits = _Reader(data, offset)
    values = array("q", bytes(8 * starts[-1]))
    if len(lengths):
        _decode_heads(bits, values, starts)
    if starts[-1] > len(lengths):
        _decode_tails(bits, values, starts)
    return values, bits.close()


# --- heads


def _encode_heads(bits: _Writer, heads: list[int]) -> None:
    best: tuple[int, int, int, list[int]] | None = None
    for delta in (0, _DELTA):
        residuals = [_signed(b - a * delta) for a, b in zip([0, *heads], heads, strict=False)]
        signed = _SIGNED if min(residuals) < 0 else 0
        coded = [_fold(residual, signed) for residual in residuals]
        if not any(coded):
            bits.put(delta | _QUIET, 8)
            return
        for sparse in (0, _SPARSE):
            kept = [u - 1 for u in coded if u] if sparse else coded
            for k in range(_MOST_K + 1):
                cost = sum(_cost(u, k) for u in kept) + (len(coded) if sparse else 0)
                if best is None or cost < best[0]:
                    best = cost, delta | sparse | signed, k, coded
    if best is None:
        raise AssertionError("a column with heads has a best form")
    _, form, k, coded = best
    bits.put(form, 8)
    bits.put(k, 8)
    for u in coded:
        if form & _SPARSE:
            bits.put(1 if u else 0, 1)
            if u:
                bits.rice(u - 1, k)
        else:
            bits.rice(u, k)


def _decode_heads(bits: _Reader, values: array[int], starts: list[int]) -> None:
    form = bits.take(8)
    if form > 15 or (form & _QUIET and form & ~(_QUIET | _DELTA)):
        raise ColumnDamaged(f"head form {form} is not known")
    k = 0 if form & _QUIET else bits.take(8)
    if k > _MOST_K:
        raise ColumnDamaged(f"head parameter {k}, expected at most {_MOST_K}")
    before = 0
    for start in starts[:-1]:
        u = 0
        if form & _SPARSE:
            if bits.take(1):
                u = (bits.rice(k) + 1) & _MASK
        elif not form & _QUIET:
            u = bits.rice(k)
        head = _signed(_unfold(u, form) + (before if form & _DELTA else 0))
        values[start] = before = head


# --- tails


def _encode_tails(bits: _Writer, values: array[int], starts: list[int]) -> None:
    best: tuple[int, int, int, list[list[int]]] | None = None
    for order in (0, 1, 2):
        runs = [list(_residuals(values, a, b, order)) for a, b in pairwise(starts) if b - a > 1]
        signed = _SIGNED if any(r < 0 for run in runs for r in run) else 0
        coded = [[_fold(residual, signed) for residual in run] for run in runs]
        loud = [run for run in coded if any(run)]
        if not loud:
            bits.put(order | _QUIET, 8)
            return
        costs = [sum(_cost(run[0], k) for run in loud) for k in range(_MOST_TAIL_K + 1)]
        k0 = costs.index(min(costs))
        cost = len(coded) + sum(_run_cost(run, k0) for run in loud)
        if best is None or cost < best[0]:
            best = cost, order | signed, k0, coded
    if best is None:
        raise AssertionError("a column with tails has a best form")
    _, form, k0, coded = best
    bits.put(form, 8)
    bits.put(k0, 8)
    for run in coded:
        bits.put(1 if any(run) else 0, 1)
        if any(run):
            state = _Mean(k0)
            for u in run:
                bits.rice(u, state.k())
                state.add(u)


def _decode_tails(bits: _Reader, values: array[int], starts: list[int]) -> None:
    form = bits.take(8)
    order = form & 3
    if order == 3 or form > 15 or (form & _QUIET and form & _SIGNED):
        raise ColumnDamaged(f"tail form {form} is not known")
    k0 = 0 if form & _QUIET else bits.take(8)
    if k0 > _MOST_TAIL_K:
        raise ColumnDamaged(f"tail parameter {k0}, expected at most {_MOST_TAIL_K}")
    for first, end in pairwise(starts):
        if end - first < 2:
            continue
        loud = not form & _QUIET and bits.take(1)
        state = _Mean(k0)
        before, slope = values[first], 0
        for at in range(first + 1, end):
            u = 0
            if loud:
                u = bits.rice(state.k())
                state.add(u)
            expected = (0, before, before + slope)[order]
            value = _signed(_unfold(u, form) + expected)
            slope, before = value - before, value
            values[at] = value


def _residuals(values: array[int], first: int, end: int, order: int) -> Iterator[int]:
    before, slope = values[first], 0
    for at in range(first + 1, end):
        value = values[at]
        yield _signed(value - (0, before, before + slope)[order])
        slope, before = value - before, value


class _Mean:
    """Follows the mean of the last residuals; the Rice parameter is read off it."""

    def __init__(self, k: int) -> None:
        self._sum = (3 << k) >> 1
        self._count = 1

    def k(self) -> int:
        k = 0
        while (self._count << k) * 3 < self._sum * 2:
            k += 1
        return k

    def add(self, u: int) -> None:
        self._sum += min(u, _CAP)
        self._count += 1
        if self._count == _WINDOW:
            self._sum >>= 1
            self._count >>= 1


def _run_cost(run: list[int], k0: int) -> int:
    state = _Mean(k0)
    cost = 0
    for u in run:
        cost += _cost(u, state.k())
        state.add(u)
    return cost


# --- bits and numbers


def _starts(lengths: array[int]) -> list[int]:
    starts = [0]
    for length in lengths:
        if length < 1:
            raise ValueError(f"a run of {length} values, expected at least 1")
        starts.append(starts[-1] + length)
    return starts


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _fold(residual: int, signed: int) -> int:
    return (residual << 1 if residual >= 0 else (-residual << 1) - 1) if signed else residual


def _unfold(u: int, form: int) -> int:
    if not form & _SIGNED:
        return u
    return -((u + 1) >> 1) if u & 1 else u >> 1


def _cost(u: int, k: int) -> int:
    ones = u >> k
    return ones + 1 + k if ones < _MOST_ONES else _MOST_ONES + 6 + u.bit_length()


class _Writer:
    """Most significant bit first."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._held = 0
        self._count = 0

    def put(self, value: int, count: int) -> None:
        self._held = (self._held << count) | value
        self._count += count
        while self._count >= 8:
            self._count -= 8
            self._bytes.append((self._held >> self._count) & 0xFF)
        self._held &= (1 << self._count) - 1

    def rice(self, u: int, k: int) -> None:
        ones = u >> k
        if ones < _MOST_ONES:
            self.put(((1 << ones) - 1) << 1, ones + 1)
            self.put(u & ((1 << k) - 1), k)
        else:
            size = u.bit_length()
            self.put((1 << _MOST_ONES) - 1, _MOST_ONES)
            self.put(size - 1, 6)
            self.put(u, size)

    def close(self) -> bytes:
        if self._count:
            self.put(0, 8 - self._count)
        return bytes(self._bytes)


class _Reader:
    def __init__(self, data: bytes, offset: int) -> None:
        if not 0 <= offset <= len(data):
            raise ColumnDamaged(f"offset {offset} is not within {len(data)} bytes")
        self._data = data
        self._bit = 8 * offset

    def take(self, count: int) -> int:
        end = self._bit + count
        if end > 8 * len(self._data):
            raise ColumnDamaged(f"data end at byte {len(self._data)} inside a column")
        some = int.from_bytes(self._data[self._bit >> 3 : (end + 7) >> 3], "big")
        self._bit = end
        return (some >> (-end & 7)) & ((1 << count) - 1)

    def rice(self, k: int) -> int:
        ones = 0
        while ones < _MOST_ONES and self.take(1):
            ones += 1
        if ones == _MOST_ONES:
            return self.take(self.take(6) + 1)
        return (ones << k) | self.take(k)

    def close(self) -> int:
        rest = -self._bit & 7
        if self.take(rest):
            raise ColumnDamaged("the bits that fill the column's last byte are not zero")
        return self._bit >> 3
