from __future__ import annotations

from agent.takeover import ALARM_S, WITHIN_S, TakeOvers


def test_one_take_over_proves_nothing_a_second_within_the_hour_does() -> None:
    takeovers = TakeOvers()
    assert not takeovers.seen(0.0)
    assert not takeovers.seen(WITHIN_S + 1)
    assert takeovers.seen(2 * WITHIN_S)


def test_the_alarm_ends_a_day_after_the_last_take_over_and_says_so_once() -> None:
    takeovers = TakeOvers()
    takeovers.seen(0.0)
    takeovers.seen(1.0)
    assert not takeovers.over(ALARM_S)
    assert takeovers.over(ALARM_S + 2)
    assert not takeovers.over(ALARM_S + 3)
    assert not TakeOvers().over(1e9)
