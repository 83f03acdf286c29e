"""What central cannot read is sent again, ever more rarely and never for good."""

from __future__ import annotations

from itertools import pairwise

from agent.store.again import AT_ONCE, Again


def test_the_pauses_grow_from_none_to_a_day() -> None:
    again = Again()
    now_s, seq, sent_s = 0.0, 1, [0.0]
    while now_s < 10 * 86_400:
        if not again.unreadable(seq, now_s):
            while not (due := again.due(now_s)):
                now_s += 600.0
            assert due == [seq]
        again.cut(seq, range(seq + 1, seq + 2))
        seq += 1
        now_s += 1.0
        sent_s.append(now_s)
    pauses = [round((b - a) / 3600) for a, b in pairwise(sent_s)]
    assert pauses[: AT_ONCE + 6] == [0] * AT_ONCE + [1, 2, 4, 8, 16, 24]
    assert set(pauses[AT_ONCE + 6 :]) == {24}


def test_each_batch_has_pauses_of_its_own() -> None:
    again = Again()
    for seq in range(1, AT_ONCE + 1):
        assert again.unreadable(seq, 0.0)
        again.cut(seq, range(seq + 1, seq + 2))
    assert not again.unreadable(AT_ONCE + 1, 0.0)
    assert again.unreadable(99, 0.0)
    assert again.due(3599.0) == []
    assert again.due(3600.0) == [AT_ONCE + 1]
    assert again.due(9e9) == []
