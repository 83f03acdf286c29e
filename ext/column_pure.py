"""The column form in plain Python: the readable twin of the compiled kernel.

A column is a mode byte and a stream of bits, most significant first, filled up
with zeros to a whole byte. First come the runs' first values ("heads"), then
each run's further values ("tails"). What is written is a residual: of a head,
itself or its difference to the head before; of a tail, itself (order 0), its
difference to the value before (order 1) or to the line through the two values
before (order 2; the first tail of a run then has order 1). Residuals are taken
modulo 2^64. In a column of sparse heads a bit per run says first which heads are not zero,
and only those are written. Where no residual is negative they are written as they are,
else zigzagged.

Heads together, and each run's tails (or all tails together, where that is
shorter), begin with a 6-bit Rice parameter k; 63 says that all residuals are
zero and no bits follow. A residual is written as
its quotient by 2^k in ones, a zero, and the k low bits; a quotient of 24 or
more as 24 ones and 64 plain bits. In an adaptive column, k follows the mean of
the tails so far (Weinberger, Seroussi, Sapiro 2000: LOCO-I, section III-B).
The encoder tries all modes and takes the shortest, the earlier one on a tie.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from ext.column_form import (
    ADAPTIVE,
    ALL_ZERO,
    ESCAPE,
    HEAD_DIFFERENCES,
    MOST_K,
    ONE_GROUP,
    ORDER,
    SPARSE_HEADS,
    UNSIGNED_HEADS,
    UNSIGNED_TAILS,
    ColumnDamaged,
    ColumnTooLarge,
)

_MASK = (1 << 64) - 1
_SIGN = 1 << 63
_STEADY = 1 << 40


def encode(values: array[int], lengths: array[int]) -> bytes:
    """Bits of the column; see `ext.column.encode`."""
    runs = list(_runs(values, lengths))
    if not runs:
        return b"\x00"
    heads = [run[0] & _MASK for run in runs]
    written_heads = [_heads_bits(heads, form) for form in (0, HEAD_DIFFERENCES, SPARSE_HEADS)]
    mode, bits = min(written_heads, key=lambda candidate: len(candidate[1]))
    tails = []
    for order in range(3):
        mapped, unsigned = _mapped([_tail_residuals(run, order) for run in runs if len(run) > 1])
        for grouping in (0, ONE_GROUP):
            groups = [list(chain.from_iterable(mapped))] if grouping else mapped
            for adaptive in (0, ADAPTIVE):
                written = "".join(
                    _run_bits(group, _best_k(group), adaptive=bool(adaptive)) for group in groups
                )
                flags = order | adaptive | grouping | (UNSIGNED_TAILS if unsigned else 0)
                tails.append((len(written), flags, written))
    _, flags, written = min(tails, key=lambda candidate: candidate[0])
    bits += written
    bits += "0" * (-len(bits) % 8)
    return bytes((mode | flags,)) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def decode(data: bytes, offset: int, lengths: array[int]) -> tuple[array[int], int]:
    """Values of the column and where the next begins; see `ext.column.decode`."""
    if any(length < 1 for length in lengths):
        raise ColumnTooLarge("a run has no value, expected at least 1")
    if not 0 <= offset < len(data):
        raise ColumnDamaged("the data end where a column was expected")
    mode = data[offset]
    both = HEAD_DIFFERENCES | SPARSE_HEADS
    if mode & ORDER == ORDER or mode & both == both:
        raise ColumnDamaged(f"column mode {mode} is not used")
    if not lengths:
        if mode:
            raise ColumnDamaged(f"column mode {mode} for an empty column, expected 0")
        return array("q"), offset + 1
    reader = _Reader(data, offset + 1)
    heads = _read_heads(reader, len(lengths), mode)
    tails = _tails(reader, lengths, mode)
    values: list[int] = []
    for head, length in zip(heads, lengths, strict=True):
        run = [head]
        _extend(run, list(islice(tails, length - 1)), mode)
        values.extend(run)
    return array("q", map(_signed, values)), reader.end()


def _runs(values: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    if sum(lengths) != len(values):
        raise ColumnTooLarge(f"runs of {sum(lengths)} values in all, {len(values)} values given")
    at = 0
    for position, length in enumerate(lengths):
        if length < 1:
            raise ColumnTooLarge(f"run {position} has {length} values, expected at least 1")
        yield values[at : at + length]
        at += length


def _heads_bits(heads: list[int], form: int) -> tuple[int, str]:
    """The mode's bits for the heads, and the heads written in that form."""
    bits = ""
    residuals = heads
    if form == HEAD_DIFFERENCES:
        before = [0, *heads[:-1]]
        residuals = [(head - b) & _MASK for head, b in zip(heads, before, strict=True)]
    elif form == SPARSE_HEADS:
        bits = "".join("1" if head else "0" for head in heads)
        residuals = [head for head in heads if head]
    (mapped,), unsigned = _mapped([residuals])
    bits += _run_bits(mapped, _best_k(mapped), adaptive=False)
    return form | (UNSIGNED_HEADS if unsigned else 0), bits


def _tail_residuals(run: Sequence[int], order: int) -> list[int]:
    residuals = []
    for i in range(1, len(run)):
        if order == 0:
            predicted = 0
        elif order == 1 or i == 1:
            predicted = run[i - 1]
        else:
            predicted = 2 * run[i - 1] - run[i - 2]
        residuals.append((run[i] - predicted) & _MASK)
    return residuals


def _mapped(runs: list[list[int]]) -> tuple[list[list[int]], bool]:
    if all(residual < _SIGN for run in runs for residual in run):
        return runs, True
    return [[_zigzag(residual) for residual in run] for run in runs], False


def _zigzag(residual: int) -> int:
    return (((residual << 1) & _MASK) ^ _MASK) if residual & _SIGN else residual << 1


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ (_MASK if value & 1 else 0)


def _signed(value: int) -> int:
    return value - (1 << 64) if value & _SIGN else value


def _best_k(values: Sequence[int]) -> int:
    if not any(values):
        return ALL_ZERO
    mean = (sum(min(value, _STEADY) for value in values) & _MASK) // len(values)
    guess = min(MOST_K, max(0, mean.bit_length() - 1))
    around = range(max(0, guess - 1), min(MOST_K, guess + 1) + 1)
    return min(around, key=lambda k: sum(_cost(value, k) for value in values))


def _cost(value: int, k: int) -> int:
    quotient = value >> k
    return ESCAPE + 64 if quotient >= ESCAPE else quotient + 1 + k


def _rice(value: int, k: int) -> str:
    quotient = value >> k
    if quotient >= ESCAPE:
        return "1" * ESCAPE + f"{value:064b}"
    low = f"{value & ((1 << k) - 1):0{k}b}" if k else ""
    return "1" * quotient + "0" + low


class _Mean:
    """The running mean that an adaptive run takes its parameter from."""

    def __init__(self, k: int) -> None:
        self._total = 1 << k
        self._seen = 1

    def k(self) -> int:
        k = 0
        while k < MOST_K and self._seen << k < self._total:
            k += 1
        return k

    def take(self, value: int) -> None:
        self._total += min(value, _STEADY)
        self._seen += 1
        if self._seen == 32:
            self._total >>= 1
            self._seen = 16


def _run_bits(values: Sequence[int], k: int, *, adaptive: bool) -> str:
    bits = [f"{k:06b}"]
    if k == ALL_ZERO:
        return bits[0]
    mean = _Mean(k)
    for value in values:
        bits.append(_rice(value, mean.k() if adaptive else k))
        mean.take(value)
    return "".join(bits)


def _read_heads(reader: _Reader, runs: int, mode: int) -> list[int]:
    there = [reader.take(1) if mode & SPARSE_HEADS else 1 for _ in range(runs)]
    residuals = iter(reader.run(sum(there), adaptive=False))
    heads: list[int] = []
    before = 0
    for present in there:
        head = 0
        if present:
            residual = next(residuals)
            head = residual if mode & UNSIGNED_HEADS else _unzigzag(residual)
        if mode & HEAD_DIFFERENCES:
            head = (head + before) & _MASK
        before = head
        heads.append(head)
    return heads


def _tails(reader: _Reader, lengths: Sequence[int], mode: int) -> Iterator[int]:
    """The tails' residuals as written, group by group."""
    counts = [length - 1 for length in lengths if length > 1]
    for count in [sum(counts)] if mode & ONE_GROUP else counts:
        yield from reader.run(count, adaptive=bool(mode & ADAPTIVE))


def _extend(run: list[int], residuals: list[int], mode: int) -> None:
    order = mode & ORDER
    for residual in residuals:
        value = residual if mode & UNSIGNED_TAILS else _unzigzag(residual)
        if order == 1 or (order == 2 and len(run) == 1):
            value += run[-1]
        elif order == 2:
            value += 2 * run[-1] - run[-2]
        run.append(value & _MASK)


class _Reader:
    """Takes bits from data, never past their end."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
        self._at = 8 * offset

    def take(self, count: int) -> int:
        end = self._at + count
        if end > len(self._bits):
            raise ColumnDamaged("the column's bits end too early")
        value = int(self._bits[self._at : end], 2) if count else 0
        self._at = end
        return value

    def rice(self, k: int) -> int:
        quotient = 0
        while quotient < ESCAPE and self.take(1):
            quotient += 1
        return self.take(64) if quotient == ESCAPE else quotient << k | self.take(k)

    def run(self, count: int, *, adaptive: bool) -> list[int]:
        k = self.take(6)
        if k == ALL_ZERO:
            return [0] * count
        if k > MOST_K:
            raise ColumnDamaged(f"Rice parameter {k}, expected 0 to {MOST_K} or {ALL_ZERO}")
        mean = _Mean(k)
        values = []
        for _ in range(count):
            values.append(self.rice(mean.k() if adaptive else k))
            mean.take(values[-1])
        return values

    def end(self) -> int:
        if self.take(-self._at % 8):
            raise ColumnDamaged("the bits that fill the column's last byte are not zero")
        return self._at // 8
