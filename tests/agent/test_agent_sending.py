"""What goes out when: no broker, no store, a clock that the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.sending import AHEAD, RECEIPT_TIMEOUT_S, WINDOW, Sending, Wanted
from agent.store.outline import OutboxView
from wire.receipt import FORK, GAP, Nack, Receipt

STREAM, OTHER = b"stream-1", b"stream-2"


class Bench:
    """An outbox of numbers, a connection that keeps what is published, a clock."""

    def __init__(self, last_seq: int, *, receipted_upto: int = 0) -> None:
        self.repeats: list[int] = []
        self.sending = Sending(self.repeats.append, lambda low, high: high)
        self.stream, self.last_seq, self.receipted_upto = STREAM, last_seq, receipted_upto
        self.published: list[int] = []
        self.now_s = 100.0
        self.sending.connect(self.view, self.now_s)

    @property
    def view(self) -> OutboxView:
        waiting = self.last_seq - self.receipted_upto
        return OutboxView(self.stream, self.last_seq, bytes(16), self.receipted_upto, waiting)

    def send(self) -> list[int]:
        """Let all go out that may now; what went."""
        before = len(self.published)
        while (wanted := self.sending.want(self.view, self.now_s)) is not None:
            assert self.sending.fetched(wanted.stream)
            last = min(self.last_seq, wanted.after + wanted.limit)
            for seq in range(wanted.after + 1, last + 1):
                if self.sending.is_due(seq):
                    self.published.append(seq)
                self.sending.sent(seq, self.now_s)
        return self.published[before:]

    def receipt(self, upto: int, *nacks: Nack, stream: bytes | None = None) -> Receipt:
        return Receipt("demo", "t07", stream or self.stream, upto, bytes(16), 0, 1, 1, nacks)

    def answer(self, upto: int, *nacks: Nack) -> None:
        self.receipted_upto = max(self.receipted_upto, upto)
        self.sending.answered(self.receipt(upto, *nacks), self.now_s)

    def puback(self, *seqs: int) -> None:
        for seq in seqs:
            self.sending.acknowledged(self.stream, seq)


def test_after_a_birth_everything_waits_for_the_receipt_that_answers_it() -> None:
    bench = Bench(5)
    assert bench.send() == []
    bench.answer(3)
    assert bench.send() == [4, 5]


def test_without_an_answer_the_hold_ends_by_itself() -> None:
    bench = Bench(2)
    bench.now_s += 2.1
    assert bench.send() == [1, 2]


def test_no_more_than_a_window_is_without_puback_and_no_more_than_ahead_without_receipt() -> None:
    bench = Bench(200)
    bench.answer(0)
    assert bench.send() == list(range(1, WINDOW + 1))
    for _ in range(10):
        bench.puback(*range(1, 200))
        bench.send()
    assert bench.published == list(range(1, AHEAD + 1))
    bench.answer(AHEAD)
    assert bench.send()[0] == AHEAD + 1


def test_what_gets_no_receipt_goes_out_again_ever_more_rarely_and_never_ceases() -> None:
    bench = Bench(1)
    bench.answer(0)
    times_s = []
    until_s = bench.now_s + 7200
    while bench.now_s < until_s:
        if bench.send():
            times_s.append(bench.now_s)
            bench.puback(1)
        bench.now_s += 1.0
    pauses_s = [later - before for before, later in pairwise(times_s)]
    assert pauses_s[0] == pytest.approx(RECEIPT_TIMEOUT_S[0], abs=2)
    assert all(b >= a for a, b in pairwise(pauses_s))
    assert pauses_s[-1] == pytest.approx(RECEIPT_TIMEOUT_S[1], abs=2)
    assert sum(bench.repeats) == len(pauses_s)


def test_a_gap_is_filled_at_once_but_not_for_each_of_its_receipts() -> None:
    bench = Bench(6)
    bench.answer(0)
    bench.send()
    bench.puback(*range(1, 7))
    bench.answer(2, Nack(4, GAP))
    bench.answer(2, Nack(5, GAP))
    assert bench.send() == [3, 4, 5, 6]
    bench.now_s += 2.1
    bench.answer(2, Nack(6, GAP))
    bench.puback(*range(1, 7))
    assert bench.send() == [3, 4, 5, 6]


def test_what_is_still_on_its_way_to_the_broker_is_not_sent_twice() -> None:
    bench = Bench(4)
    bench.answer(0)
    bench.send()
    bench.puback(1, 2)
    bench.answer(0, Nack(4, GAP))
    assert bench.send() == [1, 2]


def test_a_new_streams_batches_are_not_taken_for_the_old_ones_on_their_way() -> None:
    bench = Bench(3)
    bench.answer(0)
    assert bench.send() == [1, 2, 3]
    bench.stream, bench.last_seq = OTHER, 2
    assert bench.send() == [1, 2]


def test_a_gap_or_a_fork_of_another_stream_repeats_nothing() -> None:
    bench = Bench(3)
    bench.answer(0)
    bench.send()
    for reason in (GAP, FORK):
        receipt = bench.receipt(0, Nack(3, reason), stream=OTHER)
        bench.sending.answered(receipt, bench.now_s)
    assert bench.send() == []


def test_a_connection_that_comes_back_begins_behind_the_last_receipt() -> None:
    bench = Bench(4)
    bench.answer(0)
    bench.send()
    bench.puback(1, 2, 3, 4)
    bench.sending.disconnect()
    assert bench.sending.want(bench.view, bench.now_s) is None
    bench.receipted_upto = 2
    bench.sending.connect(bench.view, bench.now_s)
    bench.answer(2)
    assert bench.send() == [3, 4]


def test_an_answer_of_the_outbox_that_comes_too_late_is_dropped() -> None:
    bench = Bench(4)
    bench.answer(0)
    assert bench.sending.want(bench.view, bench.now_s) == Wanted(STREAM, 0, WINDOW)
    assert bench.sending.want(bench.view, bench.now_s) is None, "one fetch at a time"
    bench.stream = OTHER
    bench.sending.disconnect()
    assert not bench.sending.fetched(STREAM)
